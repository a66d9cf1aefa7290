"""Images with other colours, whose objects stay where they are: what a student sees of a teacher's images."""

from __future__ import annotations

import torch
from torch import Tensor

from advkit.data import canvas, counter_rng

CONTRAST, BRIGHTNESS, NOISE = 0.4, 0.2, 0.05  # half-widths of the first two, deviation of the last


def strong_view(images: Tensor, keys: Tensor, seed: int) -> Tensor:
    """``images`` (N, C, H, W) in [0, 1] with another contrast, brightness and saturation, and noise.

    NaN beyond the edges of images stays. What is drawn belongs to (seed, key) and the image, however large its canvas.

    Args:
        images: on their canvas.
        keys: (N,) int64, see :class:`advkit.adaptation.target_stream.TargetBatch`.
        seed: of the run.
    """
    drawn = counter_rng.uniform(seed, keys, counter_rng.stream("strong view"), 3)[:, :, None, None, None]
    contrast, brightness = 1.0 + CONTRAST * (2.0 * drawn[:, 0] - 1.0), BRIGHTNESS * (2.0 * drawn[:, 1] - 1.0)
    grey = images.mean(1, keepdim=True)
    mixed = drawn[:, 2] * images + (1.0 - drawn[:, 2]) * grey
    changed = 0.5 + contrast * (mixed - 0.5) + brightness + NOISE * _noise(images, keys, seed)
    found: Tensor = torch.where(images.isnan(), images, changed.clamp(0.0, 1.0))
    return found


def _noise(images: Tensor, keys: Tensor, seed: int) -> Tensor:
    """(N, C, H, W) standard normal numbers, counted over the pixels of each image alone; 0 beyond its edges."""
    noise, stream = torch.zeros_like(images), counter_rng.stream("strong view noise")
    for row, key, (height, width) in zip(noise, keys.view(-1, 1), canvas.sizes(images).tolist(), strict=True):
        part = row[:, :height, :width]
        part.copy_(counter_rng.normal(seed, key, stream, part.numel()).view_as(part))
    return noise
