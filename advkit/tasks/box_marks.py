"""Boxes as figures and reports show them: what is there, what a detector finds, and which of it is right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from advkit.data import boxes
from advkit.metrics import box_matching

SCORE = IOU = 0.5  # least ones of a prediction that counts, as for the correctness of an image


@dataclass(frozen=True)
class BoxMark:
    """One box to draw.

    Attributes:
        box: x0, y0, x1, y1 in pixels of the image.
        label: the class.
        score: of a prediction; None for a true object.
        right: the prediction finds an object of its own, or one that nobody asked for.
        difficult: a true object that nobody asks for.
    """

    box: tuple[float, float, float, float]
    label: int
    score: float | None = None
    right: bool = True
    difficult: bool = False


def object_marks(targets: Tensor) -> list[list[BoxMark]]:
    """The true objects of each of N images; ``targets`` (N, B, 6)."""
    return [
        [
            BoxMark((row[0], row[1], row[2], row[3]), int(row[4]), difficult=row[5] != 0)
            for row in image[boxes.is_object(image)].tolist()
        ]
        for image in targets
    ]


def found_marks(predictions: Tensor, targets: Tensor) -> list[list[BoxMark]]:
    """The predictions of each of N images that count, the best first; (N, D, 6) and targets (N, B, 6)."""
    best = box_matching.ranked(predictions)
    chosen = (best[..., box_matching.SCORE] >= SCORE) & (best[..., box_matching.LABEL] >= 0)
    best = torch.where(chosen[..., None], best, best.new_tensor([0.0, 0, 0, 0, 0, box_matching.NO_PREDICTION]))
    matched, neutral = box_matching.coco_match(best, targets, [IOU])
    right = (matched[..., 0] >= 0) | neutral[..., 0]
    return [
        [
            BoxMark((row[0], row[1], row[2], row[3]), int(row[5]), score=row[4], right=good)
            for row, good in zip(image[kept].tolist(), good_ones[kept].tolist(), strict=True)
        ]
        for image, kept, good_ones in zip(best, chosen, right, strict=True)
    ]


def titles(targets: Tensor) -> list[str]:
    """``3 objects`` of each of N images; those that are asked for."""
    asked = (boxes.is_object(targets) & (targets[..., boxes.DIFFICULT] == 0)).sum(1).tolist()
    return [f"{count} object{'s' * (count != 1)}" if count else "no object" for count in asked]


def captions(predictions: Tensor, targets: Tensor) -> list[str]:
    """``2 of 3 found, 1 false`` of each of N images."""
    asked = boxes.is_object(targets) & (targets[..., boxes.DIFFICULT] == 0)
    found = box_matching.objects_found(predictions, targets, SCORE, IOU).sum(1).tolist()
    false = [sum(not mark.right for mark in marks) for marks in found_marks(predictions, targets)]
    return [
        (f"{hits} of {total} found" if total else "no object") + (f", {wrong} false" if wrong else "")
        for hits, total, wrong in zip(found, asked.sum(1).tolist(), false, strict=True)
    ]


def named(labels: Sequence[int], class_names: Sequence[str]) -> list[str]:
    """The names of classes; the number of one that has none."""
    return [class_names[label] if 0 <= label < len(class_names) else str(label) for label in labels]
