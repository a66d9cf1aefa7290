"""Intervals and tests against scipy's."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from advkit.metrics.intervals import mcnemar, paired_test, wilson


@pytest.mark.parametrize("total", [1, 2, 3, 10, 97, 500, 10_000])
def test_wilson_equals_scipy(total: int) -> None:
    for successes in sorted({0, 1, total // 3, total // 2, total - 1, total}):
        expected = stats.binomtest(successes, total).proportion_ci(0.95, method="wilson")
        found = wilson(successes, total)
        assert found is not None
        assert found == pytest.approx((expected.low, expected.high), abs=1e-12)
        assert 0.0 <= found[0] <= successes / total <= found[1] <= 1.0


def test_wilson_without_trials() -> None:
    assert wilson(0, 0) is None


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 700), st.integers(0, 700))
def test_mcnemar_equals_scipy(only_a: int, only_b: int) -> None:
    expected = stats.binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    assert mcnemar(only_a, only_b) == pytest.approx(expected, rel=1e-8, abs=1e-300)
    assert mcnemar(only_a, only_b) == mcnemar(only_b, only_a)


@pytest.mark.parametrize(
    ("only_a", "only_b"),
    [
        *[(499, 500), (500, 500), (480, 520), (501, 499), (600, 500), (900, 1100), (4900, 5100), (0, 1000)],
        *[(0, 1500), (5000, 5000), (5000, 5001), (1, 1100), (20_000, 20_500)],
    ],
)
def test_mcnemar_equals_scipy_for_large_counts(only_a: int, only_b: int) -> None:
    expected = stats.binomtest(only_a, only_a + only_b).pvalue
    assert mcnemar(only_a, only_b) == pytest.approx(expected, rel=1e-6, abs=1e-300)


def test_mcnemar_without_discordant_pairs() -> None:
    assert mcnemar(0, 0) == 1.0


def _cells(both: int, only_a: int, only_b: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    a = np.repeat([True, True, False, False], [both, only_a, only_b, neither])
    b = np.repeat([True, False, True, False], [both, only_a, only_b, neither])
    order = np.random.default_rng(0).permutation(len(a))
    return a[order], b[order]


def test_paired_counts_and_difference() -> None:
    found = paired_test(*_cells(30, 25, 10, 35))
    assert (found.total, found.both, found.only_a, found.only_b, found.neither) == (100, 30, 25, 10, 35)
    assert found.difference == pytest.approx(0.15)
    assert found.p_value == pytest.approx(stats.binomtest(25, 35).pvalue)


@pytest.mark.parametrize("cells", [(300, 250, 100, 350), (10, 200, 190, 600), (0, 40, 0, 960)])
def test_paired_interval_is_the_normal_one_for_many_images(cells: tuple[int, int, int, int]) -> None:
    """The difference of two paired rates has variance (p_a + p_b - (p_a - p_b)^2) / n over the discordant cells."""
    found = paired_test(*_cells(*cells))
    n, (_, only_a, only_b, _) = sum(cells), cells
    centre = (only_a - only_b) / n
    reach = 1.96 * math.sqrt(((only_a + only_b) / n - centre**2) / n)
    assert found.interval is not None
    assert found.interval == pytest.approx((centre - reach, centre + reach), abs=0.0025)


def test_paired_interval_covers_the_truth_about_95_times_in_100() -> None:
    generator = np.random.default_rng(3)
    truth, hits, rounds = 0.1, 0, 300
    for number in range(rounds):
        cells = generator.choice(4, size=200, p=[0.3, 0.3, 0.2, 0.2])
        found = paired_test(np.isin(cells, [0, 1]), np.isin(cells, [0, 2]), seed=number, draws=2000)
        assert found.interval is not None
        hits += found.interval[0] <= truth <= found.interval[1]
    assert 0.91 <= hits / rounds <= 0.985


def test_paired_alike_empty_and_repeatable() -> None:
    same = np.array([True, False, True])
    assert paired_test(same, same).interval == (0.0, 0.0)
    assert paired_test(same, same).p_value == 1.0
    none = np.zeros(0, dtype=bool)
    assert (paired_test(none, none).difference, paired_test(none, none).interval) == (None, None)
    a, b = _cells(5, 7, 3, 5)
    assert paired_test(a, b, seed=1) == paired_test(a, b, seed=1)
    assert paired_test(a, b).interval != paired_test(b, a).interval
    assert paired_test(a, b).difference == -paired_test(b, a).difference  # type: ignore[operator]
