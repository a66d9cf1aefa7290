"""Intervals and tests for proportions; exact where that is cheap."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

_Z95 = 1.959963984540054  # two-sided 95 % quantile of the standard normal


def wilson(successes: int, total: int) -> tuple[float, float] | None:
    """Wilson's 95 % score interval (1927) of ``successes / total``; None without trials."""
    if total == 0:
        return None
    p, z2 = successes / total, _Z95**2
    centre = (p + z2 / (2 * total)) / (1 + z2 / total)
    reach = _Z95 / (1 + z2 / total) * math.sqrt(p * (1 - p) / total + z2 / (4 * total**2))
    low = 0.0 if successes == 0 else max(0.0, centre - reach)
    high = 1.0 if successes == total else min(1.0, centre + reach)
    return low, high


def mcnemar(only_a: int, only_b: int) -> float:
    """Two-sided p-value of the exact McNemar test (1947): discordant pairs are fair coins when A and B are alike."""
    n = only_a + only_b
    if n == 0:
        return 1.0
    fewer = min(only_a, only_b)
    if n >= 1000:
        return _log_tail(n, fewer)
    return float(min(1.0, 2 * sum(math.comb(n, k) for k in range(fewer + 1)) / 2**n))


def _log_tail(n: int, k: int) -> float:
    """Two-sided binomial(1/2) tail by logarithms, for counts whose powers of two overflow a float."""
    logs = [math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) for i in range(k + 1)]
    peak = max(logs)
    total = peak + math.log(sum(math.exp(value - peak) for value in logs))
    return math.exp(min(0.0, total - (n - 1) * math.log(2)))


@dataclass(frozen=True)
class Paired:
    """Two victims on one common set.

    Attributes:
        total: images in the common set.
        both, only_a, only_b, neither: how many of them fool whom.
        difference: rate of A minus rate of B; None on an empty set.
        interval: 95 % interval of the difference, paired bootstrap.
        p_value: exact McNemar test.
    """

    total: int
    both: int
    only_a: int
    only_b: int
    neither: int
    difference: float | None
    interval: tuple[float, float] | None
    p_value: float


def paired_test(fooled_a: np.ndarray, fooled_b: np.ndarray, *, seed: int = 0, draws: int = 20_000) -> Paired:
    """Compare two victims on the same images.

    Args:
        fooled_a, fooled_b: (N,) bool over the common set.
        seed: of the bootstrap.
        draws: bootstrap resamples; four cells are resampled, so their number costs nothing in N.
    """
    total = len(fooled_a)
    both = int((fooled_a & fooled_b).sum())
    only_a, only_b = int((fooled_a & ~fooled_b).sum()), int((~fooled_a & fooled_b).sum())
    cells = [both, only_a, only_b, total - both - only_a - only_b]
    difference, interval = None, None
    if total:
        difference = (only_a - only_b) / total
        drawn = np.random.default_rng(seed % 2**128).multinomial(total, np.array(cells) / total, size=draws)
        low, high = np.quantile((drawn[:, 1] - drawn[:, 2]) / total, [0.025, 0.975])
        interval = (float(low), float(high))
    return Paired(total, both, only_a, only_b, cells[3], difference, interval, mcnemar(only_a, only_b))
