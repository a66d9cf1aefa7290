"""COCO's evaluation of boxes by faster-coco-eval, the reference: what is published comes from there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from advkit.data import boxes
from advkit.metrics.box_matching import LABEL, SCORE

MAX_DETECTIONS = 100  # of a class in an image, the best ones


def coco_ap(
    predictions: Sequence[Tensor], targets: Sequence[Tensor], num_classes: int, thresholds: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Average precision over 101 recalls, and the largest recall, of each class at each overlap.

    Difficult objects are crowds: neither asked for, nor is it false to predict them, any number of times. Boxes of
    every size count, inverted ones too, which are false; COCO's own range of areas passes over those.

    Args:
        predictions: of each image (D, 6), finite, see :mod:`advkit.metrics.box_matching`; rows of class -1 are none.
        targets: of each image (B, 6), see :mod:`advkit.data.boxes`.
        num_classes: K; predictions of other classes are passed over.
        thresholds: T overlaps.

    Returns:
        (K, T) float64 twice, NaN for classes without an object.
    """
    from faster_coco_eval import COCOeval_faster

    truth = _dataset(_annotations(targets, boxes.LABEL, "iscrowd", boxes.DIFFICULT), len(targets), num_classes)
    found = _dataset(_annotations(predictions, LABEL, "score", SCORE), len(targets), num_classes)
    evaluation = COCOeval_faster(truth, found, iouType="bbox")
    evaluation.params.iouThrs = np.asarray(thresholds, dtype=np.float64)
    evaluation.params.maxDets = [MAX_DETECTIONS]
    evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0.0, 1e10]], ["all"]
    evaluation.evaluate()
    evaluation.accumulate()
    precision = np.asarray(evaluation.eval["precision"])[:, :, :, 0, 0].mean(1).T  # (T, R, K, 1, 1); -1: no object
    recall = np.asarray(evaluation.eval["recall"])[:, :, 0, 0].T
    return np.where(recall < 0, np.nan, precision), np.where(recall < 0, np.nan, recall)


def _annotations(images: Sequence[Tensor], label: int, name: str, column: int) -> list[dict[str, Any]]:
    """COCO's annotations, numbered from 1: the reference takes number 0 for no match."""
    numbers = [number for number, rows in enumerate(images) for _ in range(len(rows))]
    rows = torch.cat([torch.zeros(0, 6), *images]).double()
    rows[:, 2:4] -= rows[:, :2]
    return [
        {
            "id": place + 1,
            "image_id": image,
            "category_id": int(row[label]),
            "bbox": row[:4],
            "area": 0.0,  # in the range, so that every box counts
            name: row[column],
        }
        for place, (image, row) in enumerate(zip(numbers, rows.tolist(), strict=True))
        if row[label] >= 0
    ]


def _dataset(annotations: list[dict[str, Any]], images: int, num_classes: int) -> Any:
    from faster_coco_eval import COCO

    dataset = COCO()
    dataset.dataset = {
        "images": [{"id": number} for number in range(images)],
        "annotations": annotations,
        "categories": [{"id": number} for number in range(num_classes)],
    }
    dataset.createIndex()
    return dataset
