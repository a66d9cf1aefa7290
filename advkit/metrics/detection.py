"""What is counted of a detector: average precisions, and how many images are right."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from advkit.metrics.box_matching import images_right
from advkit.metrics.mean_average_precision import MeanAveragePrecision


class DetectionMetric:
    """A :class:`~advkit.tasks.task.Metric`: average precisions, and how many images are right."""

    def __init__(self, num_classes: int) -> None:
        self.precision = MeanAveragePrecision(num_classes)
        self.total = self.correct = 0

    def update(self, outputs: Any, targets: Tensor) -> None:
        """Count one batch: a ``DetectorOutput`` of N images or its predictions (N, D, 6), and targets (N, B, 6)."""
        predictions = (outputs if isinstance(outputs, Tensor) else outputs.predictions()).cpu()
        self.precision.update(predictions, targets)
        self.total += len(targets)
        self.correct += int(images_right(predictions, targets).sum())

    def merge(self, other: DetectionMetric) -> None:
        """Count what ``other`` has counted, of images that come after those seen so far."""
        self.precision.merge(other.precision)
        self.total += other.total
        self.correct += other.correct

    def compute(self) -> dict[str, Any]:
        """See :meth:`advkit.metrics.mean_average_precision.MeanAveragePrecision.compute`."""
        return self.precision.compute() | {"images_right": self.correct}
