"""Accuracy and calibration against hand computations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from advkit.metrics.accuracy import AccuracyMetric, binomial_upper_tail, near_chance
from advkit.metrics.calibration import BINS


def with_confidence(confidence: float, predicted: int, classes: int = 2) -> Tensor:
    logits = torch.full((classes,), math.log((1 - confidence) / (classes - 1)), dtype=torch.float64)
    logits[predicted] = math.log(confidence)
    return logits


def test_calibration_by_hand() -> None:
    """Two right and one wrong at 0.9; one wrong at 0.7: |2/3 - 0.9| * 3/4 + |0 - 0.7| * 1/4."""
    accuracy = AccuracyMetric(2)
    rows = [with_confidence(0.9, 0), with_confidence(0.9, 1), with_confidence(0.9, 1), with_confidence(0.7, 0)]
    accuracy.update(torch.stack(rows), torch.tensor([0, 1, 0, 1]))
    assert accuracy.calibration_error() == pytest.approx(abs(2 / 3 - 0.9) * 0.75 + 0.7 * 0.25)
    assert (accuracy.top1, accuracy.total) == (2, 4)
    assert accuracy.class_right.tolist() == [1, 1]
    assert accuracy.class_total.tolist() == [2, 2]


def test_extremes_of_calibration() -> None:
    accuracy = AccuracyMetric(3)
    assert accuracy.calibration_error() is None
    accuracy.update(torch.eye(3) * 1000, torch.arange(3))
    assert accuracy.calibration_error() == pytest.approx(0.0)
    accuracy = AccuracyMetric(3)
    accuracy.update(torch.eye(3) * 1000, (torch.arange(3) + 1) % 3)
    assert accuracy.calibration_error() == pytest.approx(1.0)


@pytest.mark.parametrize("classes", [2, 4, 10])
def test_against_plain_loops_whatever_the_batches(classes: int) -> None:
    generator = torch.Generator().manual_seed(classes)
    logits = torch.randn(200, classes, generator=generator) * 3
    labels = torch.randint(0, classes, (200,), generator=generator)
    found = AccuracyMetric(classes)
    for rows in torch.arange(200).split(33):
        found.update(logits[rows], labels[rows])
    values, truth = logits.double().numpy(), labels.numpy()
    probabilities = np.exp(values) / np.exp(values).sum(1, keepdims=True)
    order = np.argsort(-values, 1)
    correct = order[:, 0] == truth
    assert found.top1 == correct.sum()
    assert found.top5 == (order[:, :5] == truth[:, None]).any(1).sum()
    if classes <= 5:
        assert found.top5 == 200
    assert found.class_total.tolist() == [int((truth == k).sum()) for k in range(classes)]
    assert found.class_right.tolist() == [int((correct & (truth == k)).sum()) for k in range(classes)]
    confidence, error = probabilities.max(1), 0.0
    for low in range(BINS):
        inside = (confidence > low / BINS) & (confidence <= (low + 1) / BINS)
        if inside.any():
            error += inside.mean() * abs(correct[inside].mean() - confidence[inside].mean())
    assert found.calibration_error() == pytest.approx(error, abs=1e-9)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_rows_that_are_not_finite_are_wrong(bad: float) -> None:
    logits = torch.eye(3) * 5
    logits[1, 1] = bad
    accuracy = AccuracyMetric(3)
    accuracy.update(logits, torch.arange(3))
    assert (accuracy.top1, accuracy.top5, accuracy.not_finite, accuracy.total) == (2, 2, 1, 3)
    assert accuracy.class_right.tolist() == [1, 0, 1]
    assert int(accuracy.calibration.total.sum()) == 2


@pytest.mark.parametrize(("successes", "trials", "p"), [(0, 9, 0.2), (9, 9, 0.2), (3, 20, 0.15), (1600, 10_000, 0.15)])
def test_the_binomial_tail_is_scipys(successes: int, trials: int, p: float) -> None:
    assert binomial_upper_tail(successes, trials, p) == pytest.approx(
        stats.binom.sf(successes - 1, trials, p), rel=1e-8
    )


@pytest.mark.parametrize(
    ("correct", "images", "classes", "near"),
    [
        (18, 180, 10, True),  # a network that names one class
        (33, 180, 10, True),  # 18.3 %: chance and margin are 15 %
        (40, 180, 10, False),
        (110, 200, 2, True),  # 55 %
        (130, 200, 2, False),
        (10, 1000, 100, True),
        (40, 1000, 100, False),
        (2, 2, 10, False),  # 2 of 2 at 15 %: 0.0225
        (1, 2, 10, True),
        (0, 0, 10, True),
    ],
)
def test_near_chance(correct: int, images: int, classes: int, near: bool) -> None:
    assert near_chance(correct, images, classes) is near
    bound = 1 / classes + min(0.05, 0.5 / classes)
    if images:
        assert near == (stats.binomtest(correct, images, bound, alternative="greater").pvalue > 0.05)


def test_parts_that_are_merged_count_as_one() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(50, 7, generator=generator), torch.randint(0, 7, (50,), generator=generator)
    logits[3, 1] = torch.nan
    whole, merged = AccuracyMetric(7), AccuracyMetric(7)
    for rows in torch.arange(50).split(20):
        part = AccuracyMetric(7)
        for metric in (whole, part):
            metric.update(logits[rows], labels[rows])
        merged.merge(part)
    assert merged.compute() == whole.compute()
    assert merged.not_finite == 1
    assert merged.class_right.tolist() == whole.class_right.tolist()
    assert merged.class_total.tolist() == torch.bincount(labels, minlength=7).tolist()
