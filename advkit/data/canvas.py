"""Images of many sizes in one tensor: each lies in the upper left corner of a canvas, and beyond it there is NaN.

The mask is in the pixels themselves, so that whatever takes (N, C, H, W) takes such images too: steps, noise and
clamping leave NaN as it is, and what forgets it ends in NaN instead of in a wrong number. An image that fills the
canvas has none.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

NOWHERE = float("nan")


def on_canvas(images: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
    """(N, C, H, W) float32 of N images (C, h, w), each no larger than ``size`` (H, W)."""
    canvas = torch.full((len(images), images[0].shape[0], *size), NOWHERE)
    for place, image in zip(canvas, images, strict=True):
        place[:, : image.shape[1], : image.shape[2]] = image
    return canvas


def sizes(images: Tensor) -> Tensor:
    """(N, 2) int64: height and width of each of ``images`` (N, C, H, W) on their canvas."""
    height = images.shape[2] - images[:, 0, :, 0].isnan().sum(1)
    width = images.shape[3] - images[:, 0, 0, :].isnan().sum(1)
    return torch.stack([height, width], 1)


def cut_to_size(values: Tensor, images: Tensor) -> list[Tensor]:
    """``values`` (N, ..., H, W) without what lies beyond the edges of ``images`` (N, C, H, W)."""
    return [row[..., :height, :width] for row, (height, width) in zip(values, sizes(images).tolist(), strict=True)]


def where_pixels(values: Tensor, images: Tensor) -> Tensor:
    """``values``, shaped as ``images`` (N, C, H, W), with 0 where those have no pixel; as they are if all have all."""
    if not bool(images[:, 0, -1, -1].isnan().any()):
        return values
    return torch.where(images.isnan(), 0.0, values)


def is_pixel(images: Tensor) -> Tensor:
    """(N, 1, H, W) bool: where ``images`` (N, C, H, W) have a pixel."""
    return ~images[:, :1].isnan()
