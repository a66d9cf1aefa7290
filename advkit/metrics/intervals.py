"""Score intervals of proportions and of their differences: inside [-1, 1], and never of no width."""

from __future__ import annotations

import math

Z95 = 1.959963984540054  # two-sided 95 % quantile of the standard normal


def wilson(successes: int, total: int) -> tuple[float, float] | None:
    """Wilson's 95 % score interval (1927) of ``successes / total``; None without trials."""
    if total == 0:
        return None
    p, z2 = successes / total, Z95**2
    centre = (p + z2 / (2 * total)) / (1 + z2 / total)
    reach = Z95 / (1 + z2 / total) * math.sqrt(p * (1 - p) / total + z2 / (4 * total**2))
    low = 0.0 if successes == 0 else max(0.0, centre - reach)
    high = 1.0 if successes == total else min(1.0, centre + reach)
    return low, high


def tango(only_a: int, only_b: int, total: int, *, z: float = Z95) -> tuple[float, float] | None:
    """Score interval (Tango 1998) of the difference of two rates on the same images, A's minus B's.

    All differences that the score test with the nuisance parameter at its restricted maximum of likelihood does not
    reject. Swapping A and B swaps and negates the ends exactly.

    Args:
        only_a, only_b: images that only A and only B succeed on.
        total: all images, the concordant ones included.
        z: two-sided normal quantile of the level.

    Returns:
        the ends, in [-1, 1]; None without images.
    """
    if total == 0:
        return None
    return -_upper_end(only_b, only_a, total, z), _upper_end(only_a, only_b, total, z)


def _upper_end(b: int, c: int, n: int, z: float) -> float:
    """Largest difference that is not rejected, by bisection: the statistic falls as the difference rises."""
    inside, outside = (b - c) / n, 1.0
    if b == n:
        return 1.0
    while True:
        middle = (inside + outside) / 2
        if not inside < middle < outside:
            return inside
        accepted = (b - c - n * middle) ** 2 <= z * z * n * _variance(b, c, n, middle)
        inside, outside = (middle, outside) if accepted else (inside, middle)


def _variance(b: int, c: int, n: int, difference: float) -> float:
    """Of one image's outcome, p_b + p_c - difference^2, at the likeliest p_b and p_c = p_b - difference."""
    if difference < 0.0:
        b, c, difference = c, b, -difference
    product = difference * (1.0 - difference)
    # 2n p^2 + slope p - c product = 0, whose larger root is taken in the form that cancels no digits.
    slope = (2 * n - b + c) * difference - b - c
    root = math.sqrt(slope * slope + 8 * n * c * product)
    p = 2 * c * product / (slope + root) if slope > 0.0 else (root - slope) / (4 * n)
    return 2.0 * p + product
