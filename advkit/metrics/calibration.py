"""Calibration: whether a classifier is right as often as it says."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

BINS = 15


def _zeros(dtype: torch.dtype) -> Tensor:
    return torch.zeros(BINS, dtype=dtype)


@dataclass
class ConfidenceBins:
    """Counts over the images seen so far, by confidence in equal bins.

    Attributes:
        correct, total: (BINS,) int64 numbers of images.
        confidence: (BINS,) float64 sums.
    """

    correct: Tensor = field(default_factory=lambda: _zeros(torch.int64))
    total: Tensor = field(default_factory=lambda: _zeros(torch.int64))
    confidence: Tensor = field(default_factory=lambda: _zeros(torch.float64))

    def add(self, confidence: Tensor, correct: Tensor) -> None:
        """Count one batch: the largest probability (N,) in (0, 1], and whether its class is right (N,) bool."""
        place = (confidence * BINS).ceil().long().clamp(1, BINS) - 1
        self.total += torch.bincount(place, minlength=BINS)
        self.correct += torch.bincount(place[correct], minlength=BINS)
        self.confidence += torch.bincount(place, weights=confidence, minlength=BINS)

    def merge(self, other: ConfidenceBins) -> None:
        """Count what ``other`` has counted."""
        self.total += other.total
        self.correct += other.correct
        self.confidence += other.confidence

    def expected_calibration_error(self) -> float | None:
        """Mean of |accuracy - confidence| over the bins, by their images (Guo et al. 2017); None without images."""
        seen = int(self.total.sum())
        return float((self.correct.double() - self.confidence).abs().sum() / seen) if seen else None
