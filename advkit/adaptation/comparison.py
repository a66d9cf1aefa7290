"""Networks on one set of labelled images: what each gets right, and pairs of them image by image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from advkit.data.images import ImageSet
from advkit.metrics.average_precision import MatchedDetections
from advkit.metrics.detection import DetectionMetric
from advkit.metrics.image_bootstrap import MapDifference, map_difference
from advkit.metrics.paired_tests import Paired, paired_test
from advkit.models.network import Network
from advkit.tasks.prediction import predict
from advkit.tasks.task import task_of
from advkit.training.evaluation import images_at_once


@dataclass(frozen=True)
class ComparedNetwork:
    """One network on the images.

    Attributes:
        name: what it is called.
        correct: (N,) bool, by image.
        figures: what the task tells besides, by name; None where it counts images alone.
        detections: its boxes against the objects; None likewise.
    """

    name: str
    correct: np.ndarray
    figures: dict[str, Any] | None = None
    detections: MatchedDetections | None = None


def evaluate_network(name: str, network: Network, images: ImageSet) -> ComparedNetwork:
    """``network`` on all of ``images``."""
    task, device, step = task_of([network.eval()]), next(network.parameters()).device, images_at_once(images.size)
    metric, correct = task.metric(network.spec.num_classes) if task.figures else None, []
    for start in range(0, len(images), step):
        pixels, targets = images.batch(slice(start, start + step))
        predictions = predict([network], pixels.to(device)).cpu()
        correct.append(task.correct(predictions, targets))
        if metric is not None:
            metric.update(predictions, targets)
    right = torch.cat(correct).numpy()
    if not isinstance(metric, DetectionMetric):
        return ComparedNetwork(name, right)
    return ComparedNetwork(name, right, metric.compute(), metric.precision.matched)


def difference(first: ComparedNetwork, second: ComparedNetwork) -> Paired | MapDifference:
    """``first`` less ``second`` on the same images: accuracies, or mean average precisions of detectors."""
    if first.detections is not None and second.detections is not None:
        return map_difference(first.detections, second.detections)
    return paired_test(first.correct, second.correct)
