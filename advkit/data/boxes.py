"""Boxes of objects as targets: one dense tensor, so that whatever takes targets takes boxes.

Targets of detection are (N, B, 6) float32: in each row x0, y0, x1, y1, class and whether the object is ``difficult``.
Coordinates are pixels of the image at its own size, from its left and upper edge: a box over the whole of an image
100 pixels wide has x0 = 0 and x1 = 100. Classes count from 0. Rows of class -1 hold no object. B is
the largest number of objects in one image, at least 1. Difficult objects (crowds of COCO too) are neither asked for
nor counted against a detector, nor trained on.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

COLUMNS = 6
LABEL, DIFFICULT = 4, 5
NO_OBJECT = -1.0


def stacked(boxes: Sequence[Tensor]) -> Tensor:
    """(N, B, 6) of the objects (b, 6) of each of N images."""
    most = max([1, *(len(rows) for rows in boxes)])
    targets = torch.zeros(len(boxes), most, COLUMNS)
    targets[:, :, LABEL] = NO_OBJECT
    for row, found in zip(targets, boxes, strict=True):
        row[: len(found)] = found
    return targets


def is_object(targets: Tensor) -> Tensor:
    """(N, B) bool: rows of ``targets`` (N, B, 6) that hold an object, difficult ones too."""
    return targets[..., LABEL] >= 0


def objects(targets: Tensor) -> Tensor:
    """(M, 6): the objects of one image's ``targets`` (B, 6) that a detector is asked for."""
    return targets[is_object(targets) & (targets[:, DIFFICULT] == 0)]
