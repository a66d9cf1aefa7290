"""Which images each draw has, and what one more of an image adds: a measure that writes down what it is given."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from advkit.distance.comparison import DomainComparison, SubsamplingPlan, compare
from advkit.distance.estimate import Estimate
from advkit.distance.features import FeatureTable, content_hash, write_features
from advkit.distance.measures import HEADLINE, MEASURES, DistanceMeasure

N, REPEATS = 5, 3


def table(values: list[float]) -> FeatureTable:
    rows = torch.tensor(values, dtype=torch.float64)[:, None]
    return write_features("x", [([content_hash(row.numpy().tobytes()) for row in rows], rows)])


def values_in_order(found: FeatureTable) -> list[float]:
    rows: list[float] = found.rows(torch.arange(found.count))[:, 0].tolist()
    return rows


@dataclass
class LinearMeasure:
    """20 + mean of a - 2 mean of b, whose influence is exact, with all the samples that it was asked about."""

    asked: list[tuple[list[float], list[float], int]] = field(default_factory=list)

    def __call__(self, a: Tensor, b: Tensor, seed: int) -> Estimate:
        self.asked.append((a[:, 0].tolist(), b[:, 0].tolist(), seed))
        value = float(20 + a.mean() - 2 * b.mean())
        return Estimate(value, a[:, 0] - a.mean(), -2 * (b[:, 0] - b.mean()))

    def of_pair(self, pair: int, pairs: int) -> list[tuple[list[float], list[float], int]]:
        """The draws of one pair of domains, of which the first is the floor."""
        return self.asked[pair::pairs]


def gained(draws: list[tuple[list[float], list[float], int]], value: float) -> float:
    """What one more of the image ``value`` in each draw that has it adds to their mean, by weighted means."""
    total = 0.0
    for a, b, _ in draws:
        for rows, factor in ((a, 1.0), (b, -2.0)):
            if value in rows:
                weight = np.full(len(rows), -1 / len(rows)) + np.array([one == value for one in rows])
                total += factor * float(weight @ np.array(rows)) / len(rows)
    return total / len(draws)


SOURCE = [0.01 * k for k in range(13)]
TARGETS = [[1.0 + 0.01 * k for k in range(9)], [2.0 + 0.005 * k for k in range(6)]]


@pytest.fixture
def measure(monkeypatch: pytest.MonkeyPatch) -> LinearMeasure:
    found = LinearMeasure()
    monkeypatch.setattr("advkit.distance.comparison.MEASURES", {HEADLINE: DistanceMeasure("linear", found)})
    return found


def compared() -> tuple[list[FeatureTable], DomainComparison]:
    tables = [table(values) for values in (SOURCE, *TARGETS)]
    return tables, compare(tables[0], tables[1:], SubsamplingPlan(N, REPEATS, 1, seed=3))


def test_the_floor_is_between_two_halves_without_a_common_image(measure: LinearMeasure) -> None:
    compared()
    assert len(measure.asked) == REPEATS * 3
    floor, *pairs = (measure.of_pair(k, 3) for k in range(3))
    for first, second, _ in floor:
        assert (len(set(first)), len(set(second))) == (N, N)
        assert not set(first) & set(second)
        assert {*first, *second} <= set(SOURCE)
    for draws, values in zip(pairs, TARGETS, strict=True):
        assert [first for first, _, _ in draws] == [first for first, _, _ in floor], "the floor's first half"
        assert all(len(set(second)) == N and set(second) <= set(values) for _, second, _ in draws)
    seeds = [[seed for _, _, seed in draws] for draws in (floor, *pairs)]
    assert seeds[0] == seeds[1] == seeds[2]
    assert len(set(seeds[0])) == REPEATS
    assert len({tuple(first) for first, _, _ in floor}) == REPEATS, "other images in every draw"


@pytest.mark.parametrize("domain", [0, 1, 2])
def test_a_resample_weighs_each_image_in_every_draw_that_has_it(
    domain: int, measure: LinearMeasure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every resample has one image once more than the draws do: both ends of each interval are what that adds."""
    tables, _ = compared()
    drawn = {value for a, b, _ in measure.asked for value in (*a, *b)}
    images = [value for value in values_in_order(tables[domain]) if value in drawn]
    assert len(images) > N, "no draw has all of them"
    for position, image in enumerate(images):
        asked: list[int] = []

        def one_more(count: int, resamples: int, seed: int, position: int = position, asked: list[int] = asked) -> Any:
            """Of the source first, then of each target."""
            found = np.ones((resamples, count))
            if len(asked) == domain:
                found[:, position] = 2
            asked.append(count)
            return found

        monkeypatch.setattr("advkit.distance.comparison.multiplicities", one_more)
        measure.asked.clear()
        _, found = compared()
        assert asked[domain] == len(images)
        floor, *pairs = (measure.of_pair(k, 3) for k in range(3))
        floor_value = found.floor[HEADLINE].value
        assert found.floor[HEADLINE].interval == pytest.approx([floor_value + gained(floor, image)] * 2)
        for draws, target in zip(pairs, found.targets, strict=True):
            one = target.by_measure[HEADLINE]
            expected = one.value + gained(draws, image)
            assert one.interval == pytest.approx([expected] * 2)
            assert one.ratio_interval == pytest.approx([expected / (floor_value + gained(floor, image))] * 2)


def test_the_measures_of_a_comparison_are_those_that_are_registered() -> None:
    _, found = compared()
    assert list(found.floor) == list(found.targets[0].by_measure) == list(MEASURES)
