"""Two classifiers on the same images: exact test, interval of the difference, correction for many comparisons.

The images are the sample: what is found speaks for the two checkpoints at hand, not for their architectures or
training methods, of which each is one draw.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from advkit.metrics.intervals import tango


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


def holm(p_values: Sequence[float]) -> list[float]:
    """Step-down adjusted p-values (Holm 1979), in the given order: their family-wise error rate holds in any case.

    The smallest of m is multiplied by m, the next by m - 1, and so on; none becomes smaller than one before it, nor
    larger than 1.
    """
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


@dataclass(frozen=True)
class Paired:
    """Two victims on one common set.

    Attributes:
        total: images in the common set.
        both, only_a, only_b, neither: how many of them fool whom.
        difference: rate of A minus rate of B; None on an empty set.
        interval: 95 % interval of the difference, see :func:`advkit.metrics.intervals.tango`.
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


def paired_test(fooled_a: np.ndarray, fooled_b: np.ndarray) -> Paired:
    """Compare two victims on the same images: ``fooled_a`` and ``fooled_b`` are (N,) bool over the common set."""
    total = len(fooled_a)
    both = int((fooled_a & fooled_b).sum())
    only_a, only_b = int((fooled_a & ~fooled_b).sum()), int((~fooled_a & fooled_b).sum())
    return Paired(
        total=total,
        both=both,
        only_a=only_a,
        only_b=only_b,
        neither=total - both - only_a - only_b,
        difference=(only_a - only_b) / total if total else None,
        interval=tango(only_a, only_b, total),
        p_value=mcnemar(only_a, only_b),
    )
