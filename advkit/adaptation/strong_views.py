"""Images with other colours, whose objects stay where they are: what a student sees of a teacher's images."""

from __future__ import annotations

import torch
from torch import Tensor

from advkit.data import counter_rng

CONTRAST, BRIGHTNESS, NOISE = 0.4, 0.2, 0.05  # half-widths of the first two, deviation of the last


def strong_view(images: Tensor, indices: Tensor, seed: int, epoch: int) -> Tensor:
    """``images`` (N, C, H, W) in [0, 1] with another contrast, brightness and saturation, and noise.

    NaN beyond the edges of images stays. What is drawn belongs to (seed, epoch, image).

    Args:
        images: on their canvas.
        indices: (N,) int64 identities.
        seed, epoch: of the run.
    """
    drawn = counter_rng.uniform(seed, indices, counter_rng.stream("strong view", epoch), 3)[:, :, None, None, None]
    contrast, brightness = 1.0 + CONTRAST * (2.0 * drawn[:, 0] - 1.0), BRIGHTNESS * (2.0 * drawn[:, 1] - 1.0)
    grey = images.mean(1, keepdim=True)
    mixed = drawn[:, 2] * images + (1.0 - drawn[:, 2]) * grey
    noise = counter_rng.normal(seed, indices, counter_rng.stream("strong view noise", epoch), images[0].numel())
    changed = 0.5 + contrast * (mixed - 0.5) + brightness + NOISE * noise.view_as(images)
    found: Tensor = torch.where(images.isnan(), images, changed.clamp(0.0, 1.0))
    return found
