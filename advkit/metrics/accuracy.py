"""Accuracy, per class and top-5, and calibration, accumulated batch by batch."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

BINS = 15


@dataclass
class AccuracyMetric:
    """Counts over the images seen so far.

    Attributes:
        num_classes: K.
        top1, top5, total, not_finite: numbers of images.
        class_right, class_total: (K,) int64.
        bin_right, bin_total: (BINS,) int64 by confidence; bin_confidence: (BINS,) float64 sums.
    """

    num_classes: int
    top1: int = 0
    top5: int = 0
    total: int = 0
    not_finite: int = 0
    class_right: Tensor = field(init=False)
    class_total: Tensor = field(init=False)
    bin_right: Tensor = field(init=False)
    bin_total: Tensor = field(init=False)
    bin_confidence: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.class_right = torch.zeros(self.num_classes, dtype=torch.int64)
        self.class_total = torch.zeros(self.num_classes, dtype=torch.int64)
        self.bin_right = torch.zeros(BINS, dtype=torch.int64)
        self.bin_total = torch.zeros(BINS, dtype=torch.int64)
        self.bin_confidence = torch.zeros(BINS, dtype=torch.float64)

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Count one batch: ``logits`` (N, K), ``labels`` (N,) int64. Rows with NaN or infinity are wrong."""
        finite = torch.isfinite(logits).all(1)
        top = logits.nan_to_num().topk(min(5, self.num_classes), dim=1).indices
        hits = (top == labels[:, None]) & finite[:, None]
        correct = hits[:, 0]
        self.total += len(labels)
        self.not_finite += int((~finite).sum())
        self.top1 += int(correct.sum())
        self.top5 += int(hits.any(1).sum())
        self.class_right += torch.bincount(labels[correct], minlength=self.num_classes)
        self.class_total += torch.bincount(labels, minlength=self.num_classes)
        confidence = logits.double().softmax(1).amax(1)[finite]
        place = (confidence * BINS).ceil().long().clamp(1, BINS) - 1
        self.bin_total += torch.bincount(place, minlength=BINS)
        self.bin_right += torch.bincount(place[correct[finite]], minlength=BINS)
        self.bin_confidence += torch.bincount(place, weights=confidence, minlength=BINS)

    def compute(self) -> dict[str, int | float | None]:
        """Counts of images, and the calibration error."""
        return {
            "top1": self.top1,
            "top5": self.top5,
            "total": self.total,
            "not_finite": self.not_finite,
            "calibration_error": self.calibration_error(),
        }

    def calibration_error(self) -> float | None:
        """Expected calibration error over 15 equal bins of the confidence (Guo et al. 2017); None without images."""
        seen = int(self.bin_total.sum())
        if seen == 0:
            return None
        return float((self.bin_right.double() - self.bin_confidence).abs().sum() / seen)
