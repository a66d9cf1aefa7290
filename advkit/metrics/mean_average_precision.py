"""Mean average precision of a detector, by COCO's and by PASCAL VOC's rules, with intervals over images."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from importlib import metadata
from typing import Any

import numpy as np
import torch
from torch import Tensor

from advkit.data import boxes
from advkit.files.errors import InputError
from advkit.metrics import box_matching, image_bootstrap
from advkit.metrics.average_precision import IOU_THRESHOLDS, MatchedDetections, joined, voc_ap, weighted_ap
from advkit.metrics.coco_eval import MAX_DETECTIONS, coco_ap

_AGREE = 1e-6


@dataclass
class MeanAveragePrecision:
    """Matches over the images seen so far.

    Difficult objects, crowds of COCO too, are neither asked for nor is it false to predict them. Of a class, an
    image's 100 best predictions count. Where scores tie across images, the earlier image's prediction comes first.

    Attributes:
        num_classes: K.
        resamples, seed: of the bootstrap over images.
        difficult: number of difficult objects.
        not_finite: number of predictions with NaN or infinity, which predict nothing.
        unknown_class: number of predictions of a class from K on; they count nowhere, as there is no such object.
    """

    num_classes: int
    resamples: int = image_bootstrap.RESAMPLES
    seed: int = 0
    difficult: int = 0
    not_finite: int = 0
    unknown_class: int = 0
    _parts: list[MatchedDetections] = field(default_factory=list)
    _predictions: list[Tensor] = field(default_factory=list)
    _targets: list[Tensor] = field(default_factory=list)

    def update(self, predictions: Tensor, targets: Tensor) -> None:
        """Match one batch: ``predictions`` (N, D, 6), in any order of scores, and ``targets`` (N, B, 6).

        See :mod:`advkit.metrics.box_matching` and :mod:`advkit.data.boxes`.

        Raises:
            InputError: an object's class is not one of K.
            ValueError: predictions and targets are of unequal numbers of images.
        """
        if len(predictions) != len(targets):
            raise ValueError(f"predictions for {len(predictions)} images, but targets of {len(targets)}")
        predictions, targets = predictions.detach().float().cpu(), targets.detach().float().cpu()
        if len(targets) and (largest := int(targets[..., boxes.LABEL].amax())) >= self.num_classes:
            raise InputError(f"an object of class {largest}, but the detector has classes 0 to {self.num_classes - 1}")
        self.not_finite += int(box_matching.not_finite(predictions).sum())
        predictions = box_matching.ranked(predictions)
        unknown = predictions[..., box_matching.LABEL] >= self.num_classes
        self.unknown_class += int(unknown.sum())
        predictions[unknown | _beyond_best(predictions)] = torch.tensor([0.0, 0, 0, 0, 0, box_matching.NO_PREDICTION])
        present = boxes.is_object(targets)
        self.difficult += int((present & (targets[..., boxes.DIFFICULT] != 0)).sum())
        self._predictions += [rows[rows[:, box_matching.LABEL] >= 0] for rows in predictions]
        self._targets += [rows[kept] for rows, kept in zip(targets, present, strict=True)]
        self._parts.append(_matched(predictions, targets, self.num_classes))
        self.__dict__.pop("matched", None)

    def merge(self, other: MeanAveragePrecision) -> None:
        """Take over what ``other`` has matched, of images that come after those seen so far."""
        self.not_finite += other.not_finite
        self.unknown_class += other.unknown_class
        self.difficult += other.difficult
        self._predictions += other._predictions
        self._targets += other._targets
        self._parts += other._parts
        self.__dict__.pop("matched", None)

    @cached_property
    def matched(self) -> MatchedDetections:
        """All images so far, for intervals and for comparisons, see :func:`image_bootstrap.map_difference`."""
        nothing = _matched(torch.zeros(0, 0, 6), torch.zeros(0, 1, 6), self.num_classes)
        return joined([nothing, *self._parts])

    def compute(self) -> dict[str, Any]:
        """Counts, mean average precisions in [0, 1] with their 95 % intervals, and both for each class.

        Classes without an object have None and enter no mean. ``map50`` and ``map50_95`` are COCO's at an overlap of
        0.5 and over 0.5, 0.55 to 0.95; ``voc2007_map50`` is PASCAL VOC's by 11 recalls, ``voc2010_map50`` the area
        under the curve; ``recall50`` is the share of objects found at 0.5 whatever the score.

        Raises:
            RuntimeError: our average precision is not the reference's; the installed version of it is suspect.
        """
        ap, recall = coco_ap(self._predictions, self._targets, self.num_classes, IOU_THRESHOLDS)
        self._check(ap)
        per_class = self._per_class(ap, recall)
        resampled = image_bootstrap.resampled(self.matched, resamples=self.resamples, seed=self.seed)
        map50, map50_95 = _mean(ap[:, 0]), _mean(ap.mean(1))
        return {
            "images": self.matched.images,
            "objects": int(self.matched.objects.sum()),
            "difficult": self.difficult,
            "predictions": len(self.matched.label),
            "not_finite": self.not_finite,
            "unknown_class": self.unknown_class,
            "classes_without_objects": sum(not found["objects"] for found in per_class),
            "map50": map50,
            "map50_interval": self._interval(resampled[:, 0], map50),
            "map50_95": map50_95,
            "map50_95_interval": self._interval(resampled.mean(1), map50_95),
            **{f"{name}_map50": _mean_of(per_class, f"{name}_ap50") for name in ("voc2007", "voc2010")},
            "recall50": _mean(recall[:, 0]),
            "per_class": per_class,
        }

    def _interval(self, values: np.ndarray, point: float | None) -> tuple[float, float] | None:
        """None for one image, which says nothing about others."""
        return image_bootstrap.interval(values, point) if point is not None and self.matched.images > 1 else None

    def _per_class(self, ap: np.ndarray, recall: np.ndarray) -> list[dict[str, int | float | None]]:
        objects = self.matched.objects
        rows: list[dict[str, int | float | None]] = []
        for label, order in self.matched.ranks():
            asked = int(objects[:, label].sum())
            voc = voc_ap(self.matched.voc_hit[order], self.matched.voc_neutral[order], asked) if asked else (None, None)
            rows.append(
                {
                    "objects": asked,
                    "images": int((objects[:, label] > 0).sum()),
                    "predictions": len(order),
                    "ap50": _number(ap[label, 0]),
                    "ap50_95": _number(ap[label].mean()),
                    "voc2007_ap50": voc[0],
                    "voc2010_ap50": voc[1],
                    "recall50": _number(recall[label, 0]),
                }
            )
        return rows

    def _check(self, ap: np.ndarray) -> None:
        """The bootstrap's average precision and the reference's are one thing."""
        own = weighted_ap(self.matched, np.ones((1, self.matched.images), dtype=np.int32))[0]
        if not np.allclose(own, ap, rtol=0.0, atol=_AGREE, equal_nan=True):
            installed = metadata.version("faster-coco-eval")
            raise RuntimeError(f"average precision differs from that of faster-coco-eval {installed}")


def _beyond_best(predictions: Tensor) -> Tensor:
    """(N, D) bool: rows of ranked ``predictions`` that a class's MAX_DETECTIONS best of the image leave out."""
    if predictions.shape[1] <= MAX_DETECTIONS:
        return torch.zeros(predictions.shape[:2], dtype=torch.bool)
    labels = predictions[..., box_matching.LABEL]
    before = (labels[:, :, None] == labels[:, None]).tril(-1).sum(2)
    return before >= MAX_DETECTIONS


def _matched(predictions: Tensor, targets: Tensor, num_classes: int) -> MatchedDetections:
    """Matches of ranked ``predictions`` (N, D, 6) with ``targets`` (N, B, 6)."""
    which, neutral = box_matching.coco_match(predictions, targets, IOU_THRESHOLDS)
    voc_hit, voc_neutral = box_matching.voc_match(predictions, targets)
    kept = predictions[..., box_matching.LABEL] >= 0
    asked = boxes.is_object(targets) & (targets[..., boxes.DIFFICULT] == 0)
    image, _ = asked.nonzero(as_tuple=True)
    place = image * num_classes + targets[..., boxes.LABEL][asked].long()
    counts = torch.bincount(place, minlength=len(targets) * num_classes).view(len(targets), num_classes)
    return MatchedDetections(
        images=len(targets),
        image=kept.nonzero()[:, 0].numpy(),
        label=predictions[..., box_matching.LABEL][kept].long().numpy(),
        score=predictions[..., box_matching.SCORE][kept].numpy(),
        hit=(which >= 0)[kept].numpy(),
        neutral=neutral[kept].numpy(),
        voc_hit=voc_hit[kept].numpy(),
        voc_neutral=voc_neutral[kept].numpy(),
        objects=counts.numpy(),
    )


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _mean(values: np.ndarray) -> float | None:
    """Mean of the classes (K,) that have objects."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else None


def _mean_of(per_class: list[dict[str, int | float | None]], name: str) -> float | None:
    return _mean(np.array([np.nan if row[name] is None else row[name] for row in per_class], dtype=np.float64))
