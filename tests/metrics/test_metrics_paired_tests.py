"""McNemar's test, paired differences and Holm's correction against scipy, published numbers and hand computations."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from advkit.metrics.intervals import Z95, tango
from advkit.metrics.paired_tests import holm, mcnemar, paired_test


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


@pytest.mark.parametrize(
    ("only_a", "only_b", "total", "level", "expected"),
    [
        (1, 7, 21, 0.95, (-0.517, -0.026)),  # airway reactivity; Fagerland, Lydersen and Laake 2014
        (0, 1, 44, 0.90, (-0.096, 0.037)),  # contact lenses; Tango 1998
        (28, 25, 618, 0.90, (-0.0148, 0.0247)),  # R's PropCIs::scoreci.mp(25, 28, 618, 0.90)
    ],
)
def test_tango_equals_published_intervals(
    only_a: int, only_b: int, total: int, level: float, expected: tuple[float, float]
) -> None:
    found = tango(only_a, only_b, total, z=float(stats.norm.ppf(0.5 + level / 2)))
    assert found is not None
    assert [round(end, len(str(expected[0]).partition(".")[2])) for end in found] == list(expected)


def _score(only_a: int, only_b: int, total: int, difference: float) -> float:
    """The score statistic, its nuisance parameter found by maximising the likelihood."""

    def loss(p: float) -> float:
        cells = [(only_a, p + difference), (only_b, p), (total - only_a - only_b, 1 - 2 * p - difference)]
        return -sum(n * math.log(max(q, 1e-300)) for n, q in cells if n)

    low, high = max(0.0, -difference), (1 - difference) / 2
    p = optimize.minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-13}).x
    variance = (2 * p + difference - difference**2) / total
    return ((only_a - only_b) / total - difference) / math.sqrt(variance)


@pytest.mark.parametrize("cells", [(25, 10, 100), (3, 1, 12), (0, 6, 9), (7, 7, 14), (40, 0, 1000), (900, 800, 5000)])
def test_the_ends_are_where_the_score_test_rejects(cells: tuple[int, int, int]) -> None:
    found = tango(*cells)
    assert found is not None
    assert [_score(*cells, end) for end in found] == pytest.approx([Z95, -Z95], abs=1e-3)


def test_without_discordance_the_interval_is_wilsons_reach() -> None:
    """No image tells A from B, and still the rates may differ by z^2 / (n + z^2)."""
    for total in (1, 5, 400):
        reach = Z95**2 / (total + Z95**2)
        assert tango(0, 0, total) == pytest.approx((-reach, reach), abs=1e-9)


def test_five_discordant_images_of_five_leave_doubt() -> None:
    low, high = tango(5, 0, 5) or (0.0, 0.0)
    assert high == 1.0
    assert 0.0 < low < 0.3


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 60))
def test_tango_is_symmetric_and_holds_the_difference(only_a: int, only_b: int, rest: int) -> None:
    total = only_a + only_b + rest
    found, swapped = tango(only_a, only_b, total), tango(only_b, only_a, total)
    if total == 0:
        assert found is swapped is None
        return
    assert found is not None
    assert swapped == (-found[1], -found[0])
    assert -1.0 <= found[0] <= (only_a - only_b) / total <= found[1] <= 1.0
    assert found[0] < found[1]
    if (only_a - only_b) ** 2 != Z95**2 * (only_a + only_b):  # the score test at 0 is McNemar's without correction
        rejected = (only_a - only_b) ** 2 > Z95**2 * (only_a + only_b)
        assert rejected == (not found[0] <= 0.0 <= found[1])


@pytest.mark.parametrize("total", [10, 30])
def test_tango_covers_the_truth_about_95_times_in_100(total: int) -> None:
    """Exactly, over all tables, for rates of discordance from rare to certain."""
    tables = [(b, c) for b in range(total + 1) for c in range(total + 1 - b)]
    ends = np.array([tango(*table, total) for table in tables])
    counts = np.array([(b, c, total - b - c) for b, c in tables])
    coverage = []
    for p_a, p_b in itertools.product(np.linspace(0.02, 0.9, 12), repeat=2):
        if p_a + p_b < 1:
            inside = (ends[:, 0] <= p_a - p_b) & (p_a - p_b <= ends[:, 1])
            coverage.append(stats.multinomial.pmf(counts, total, [p_a, p_b, 1 - p_a - p_b])[inside].sum())
    assert min(coverage) > 0.93
    assert 0.945 < np.mean(coverage) < 0.97


def test_paired_alike_empty_and_swapped() -> None:
    same = np.array([True, False, True])
    assert paired_test(same, same).interval == tango(0, 0, 3)
    assert paired_test(same, same).p_value == 1.0
    none = np.zeros(0, dtype=bool)
    assert (paired_test(none, none).difference, paired_test(none, none).interval) == (None, None)
    a, b = _cells(5, 7, 3, 5)
    one, other = paired_test(a, b), paired_test(b, a)
    assert one.interval == tango(7, 3, 20)
    assert other.interval is not None
    assert one.interval == (-other.interval[1], -other.interval[0])
    assert one.difference == -other.difference  # type: ignore[operator]


def test_holm_by_hand() -> None:
    """Holm's own procedure: 4 * 0.01, 3 * 0.02 (raised over its elder), 2 * 0.03, 1 * 0.9."""
    assert holm([0.02, 0.9, 0.01, 0.025]) == pytest.approx([0.06, 0.9, 0.04, 0.06])
    assert holm([0.4, 0.5, 0.6]) == [1.0, 1.0, 1.0]
    assert holm([0.03]) == [0.03]
    assert holm([]) == []


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_rejects_what_the_step_down_procedure_rejects(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(p <= q <= 1.0 for p, q in zip(p_values, adjusted, strict=True))
    rejected, order = set(), sorted(range(len(p_values)), key=p_values.__getitem__)
    for rank, place in enumerate(order):
        if (len(p_values) - rank) * p_values[place] > 0.05:
            break
        rejected.add(place)
    assert {place for place, q in enumerate(adjusted) if q <= 0.05} == rejected
