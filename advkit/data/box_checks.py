"""Boxes against the images that they lie in: what is wrong with them, and what is left once they are mended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from advkit.data.boxes import stacked
from advkit.files.errors import InputError

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


def sound_targets(
    where: object,
    boxes: Tensor,
    rest: Tensor,
    per_image: Sequence[int],
    sizes: Tensor,
    named: Callable[[int], str],
    *,
    least: float = 0.0,
    fix: bool = False,
) -> tuple[Tensor, str | None]:
    """Targets (N, B, 6) of all objects of N images, and what to tell of those that were mended.

    Args:
        where: the data, for messages.
        boxes: (M, 4) float64, image after image.
        rest: (M, 2): class, and whether it is difficult.
        per_image: N numbers of objects.
        sizes: (N, 2) height and width.
        named: the name of object number k of all, for messages.
        least: as in :func:`check_boxes`.
        fix: clip what is outside, drop what is degenerate.

    Raises:
        InputError: boxes to be mended, and ``fix`` is off.
    """
    of_each = sizes.repeat_interleave(torch.tensor(list(per_image)), 0)
    checked = check_boxes(boxes, of_each, least)
    wrong = (checked.degenerate | checked.outside).nonzero().squeeze(1)
    told = None
    if len(wrong):
        place = int(wrong[0])
        height, width = of_each[place].tolist()
        edges = ", ".join(f"{edge:g}" for edge in boxes[place].tolist())
        first = f"first {named(place)} ({edges} counted from 0, in {width}x{height} pixels)"
        if not fix:
            counts = _counted(checked, "degenerate", "out of range")
            raise InputError(f"{where}: of {len(boxes)} boxes {counts}, {first}; mend them, or give --fix-boxes")
        counts = _counted(checked, "dropped as degenerate", "clipped to their image")
        told = f"--fix-boxes: of {len(boxes)} boxes {counts}, {first}"
    rows = torch.split(torch.cat([checked.clipped, rest.float()], 1), list(per_image))
    kept = torch.split(~checked.degenerate, list(per_image))
    return stacked([row[keep] for row, keep in zip(rows, kept, strict=True)]), told


def _counted(checked: CheckedBoxes, degenerate: str, outside: str) -> str:
    counts = ((int(checked.outside.sum()), outside), (int(checked.degenerate.sum()), degenerate))
    return " and ".join(f"{count} {what}" for count, what in counts if count)


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
