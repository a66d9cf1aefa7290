"""Accuracy, per class and top-5, accumulated batch by batch; and when it says nothing more than chance."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from advkit.metrics.calibration import ConfidenceBins


@dataclass
class AccuracyMetric:
    """Counts over the images seen so far.

    Attributes:
        num_classes: K.
        top1, top5, total, not_finite: numbers of images.
        class_right, class_total: (K,) int64.
        calibration: by confidence.
    """

    num_classes: int
    top1: int = 0
    top5: int = 0
    total: int = 0
    not_finite: int = 0
    class_right: Tensor = field(init=False)
    class_total: Tensor = field(init=False)
    calibration: ConfidenceBins = field(default_factory=ConfidenceBins)

    def __post_init__(self) -> None:
        self.class_right = torch.zeros(self.num_classes, dtype=torch.int64)
        self.class_total = torch.zeros(self.num_classes, dtype=torch.int64)

    def update(self, logits: Tensor, labels: Tensor) -> None:
        """Count one batch: ``logits`` (N, K), ``labels`` (N,) int64. Rows with NaN or infinity are wrong."""
        logits = logits.cpu()
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
        self.calibration.add(logits.double().softmax(1).amax(1)[finite], correct[finite])

    def merge(self, other: AccuracyMetric) -> None:
        """Count what ``other`` has counted."""
        for name in ("top1", "top5", "total", "not_finite", "class_right", "class_total"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.calibration.merge(other.calibration)

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
        """See :meth:`advkit.metrics.calibration.ConfidenceBins.expected_calibration_error`."""
        return self.calibration.expected_calibration_error()


def near_chance(correct: int, images: int, num_classes: int) -> bool:
    """Whether ``correct`` of ``images`` is no better than guessing, or hardly.

    True where the one-sided exact binomial test at 5 % does not reject an accuracy of at most chance plus a margin.
    Chance is one in ``num_classes``; the margin is half of that, but at most 5 points: 55 % of 2 classes, 15 % of 10,
    1.5 % of 100. Few images rarely speak against chance. Where classes are of unequal number, always naming the
    largest passes for skill. One class is always guessed right.
    """
    if num_classes < 2:
        return True
    bound = 1.0 / num_classes + min(0.05, 0.5 / num_classes)
    return binomial_upper_tail(correct, images, bound) > 0.05


def binomial_upper_tail(successes: int, trials: int, probability: float) -> float:
    """Probability of ``successes`` or more in independent ``trials``; ``probability`` lies in (0, 1)."""
    if successes <= 0:
        return 1.0
    log_p, log_q = math.log(probability), math.log1p(-probability)
    whole = math.lgamma(trials + 1)
    terms = (
        math.exp(whole - math.lgamma(k + 1) - math.lgamma(trials - k + 1) + k * log_p + (trials - k) * log_q)
        for k in range(successes, trials + 1)
    )
    return min(1.0, math.fsum(terms))
