"""Mean and standard deviation of images, by which networks normalise them."""

from __future__ import annotations

import torch
from torch import Tensor

from advkit.data import canvas
from advkit.data.images import ImageSet

_SAMPLE = 5000  # images that they are taken from, evenly spread
_BATCH = 100


def mean_and_std(images: ImageSet, positions: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel over (a part of) the images at ``positions``, to four digits."""
    chosen = positions[torch.linspace(0, len(positions) - 1, min(len(positions), _SAMPLE)).long()]
    count = 0
    total = torch.zeros(images.size[0], dtype=torch.float64)
    squares = torch.zeros_like(total)
    for start in range(0, len(chosen), _BATCH):
        batch = images.batch(chosen[start : start + _BATCH])[0].double()
        total = total + batch.nansum(dim=(0, 2, 3))
        squares = squares + batch.square().nansum(dim=(0, 2, 3))
        count += int(canvas.is_pixel(batch).sum())
    mean = total / count
    std = (squares / count - mean.square()).clamp_min(1e-6).sqrt()
    return tuple(round(v, 4) for v in mean.tolist()), tuple(max(round(v, 4), 1e-3) for v in std.tolist())
