"""Boxes against the images that they lie in: what is wrong with them, and what is left once they are mended."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_ROUNDING = 1.0 + 1e-4  # pixels beyond the image that annotation tools leave by rounding, or by counting from 0 or 1


@dataclass(frozen=True)
class CheckedBoxes:
    """Boxes (M, 4) as they are read: x0, y0, x1, y1.

    Attributes:
        clipped: (M, 4) float32, cut at the edges of their images.
        degenerate: (M,) bool: not finite, or without area in their image.
        outside: (M,) bool: other boxes that reach more than a rounding beyond their image.
    """

    clipped: Tensor
    degenerate: Tensor
    outside: Tensor


def check_boxes(boxes: Tensor, sizes: Tensor, least: float = 0.0) -> CheckedBoxes:
    """Boxes against their images.

    Args:
        boxes: (M, 4) float64: x0, y0, x1, y1 in pixels.
        sizes: (M, 2) height and width of the image of each.
        least: sides no longer than this are degenerate.
    """
    height, width = sizes.double().unbind(1)
    edge = torch.stack([width, height, width, height], 1)
    clipped = torch.minimum(boxes.nan_to_num(0.0).clamp_min(0.0), edge).float()
    has_area = (boxes[:, 2:] - boxes[:, :2] > least).all(1) & (clipped[:, 2:] > clipped[:, :2]).all(1)
    degenerate = ~(has_area & boxes.isfinite().all(1))
    beyond = torch.maximum(-boxes, boxes - edge).amax(1)
    return CheckedBoxes(clipped, degenerate, ~degenerate & (beyond > _ROUNDING))


def turned(box: tuple[float, float, float, float], orientation: int, size: tuple[int, int]) -> tuple[float, ...]:
    """``box`` of a picture as it is stored, on the picture turned upright.

    Args:
        box: x0, y0, x1, y1.
        orientation: EXIF's, of those that swap the sides: 5, 6, 7, 8.
        size: (H, W) of the picture once it is upright.
    """
    x0, y0, x1, y1 = box
    height, width = size
    if orientation in (6, 7):  # rows run from right to left
        y0, y1 = width - y1, width - y0
    if orientation in (7, 8):
        x0, x1 = height - x1, height - x0
    return y0, x0, y1, x1
