"""Intervals against scipy's."""

from __future__ import annotations

import pytest
from scipy import stats

from advkit.metrics.intervals import wilson


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
