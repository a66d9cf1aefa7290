"""DI: a random resize and pad before each gradient (Xie et al. 2019).

Randomness is drawn for each image (see :mod:`advkit.data.counter_rng`), so batch-mates never share a resize.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from advkit.attacks.attack import Modifier
from advkit.data import counter_rng
from advkit.metrics.norms import per_image


def input_diversity(
    images: Tensor, indices: Tensor, seed: int, stream: int, *, probability: float = 0.5, shrink: float = 0.9
) -> Tensor:
    """DI (Xie et al. 2019): with ``probability``, shrink each image and pad it with black at a random place.

    Sizes are drawn evenly from ``ceil(shrink * H)`` to ``H`` pixels. The whole batch is one ``grid_sample`` that
    equals bilinear ``interpolate`` and ``pad`` of each image by itself.

    Args:
        images: (N, C, H, W) float in [0, 1].
        indices: (N,) int64.
        seed, stream: as in :func:`advkit.data.counter_rng.uniform`.
        probability: of transforming an image, in [0, 1].
        shrink: smallest side as a part of the full one, in (0, 1].
    """
    height, width = images.shape[-2:]
    drawn = counter_rng.uniform(seed, indices, stream, 4).to(images.device)
    smallest = math.ceil(shrink * min(height, width))
    choices = min(height, width) - smallest + 1
    size = smallest + (drawn[:, 1] * choices).floor()
    rows, columns = _rounded(height, size, height, width), _rounded(width, size, height, width)
    top = (drawn[:, 2] * (height - rows + 1)).floor()
    left = (drawn[:, 3] * (width - columns + 1)).floor()
    keep = drawn[:, 0] >= probability
    rows = torch.where(keep, torch.full_like(rows, height), rows)
    columns = torch.where(keep, torch.full_like(columns, width), columns)
    y, inside_y = _axis(height, rows, torch.where(keep, torch.zeros_like(top), top))
    x, inside_x = _axis(width, columns, torch.where(keep, torch.zeros_like(left), left))
    grid = torch.stack([x[:, None, :].expand(-1, height, -1), y[:, :, None].expand(-1, -1, width)], dim=-1)
    inside = (inside_y[:, :, None] & inside_x[:, None, :]).unsqueeze(1)
    sampled = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return torch.where(per_image(keep), images, sampled * inside)


def _rounded(side: int, size: Tensor, height: int, width: int) -> Tensor:
    return (size * side / min(height, width)).round().clamp(1, side)


def _axis(side: int, size: Tensor, offset: Tensor) -> tuple[Tensor, Tensor]:
    """Sampling coordinates in [-1, 1] along one axis, and which pixels lie on the shrunken image; both (N, side)."""
    pixel = torch.arange(side, device=size.device, dtype=torch.float32)
    local = pixel[None, :] - offset[:, None]
    inside = (local >= 0) & (local < size[:, None])
    return (2.0 * local + 1.0) / size[:, None] - 1.0, inside


DI = Modifier(
    "di",
    "random resize and pad before each gradient (Xie et al. 2019)",
    input_diversity,
    {"probability": (0.0, 1.0), "shrink": (0.01, 1.0)},
    "view",
)
