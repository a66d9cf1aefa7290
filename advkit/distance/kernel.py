"""Kernel distance: the squared maximum mean discrepancy (Gretton et al. 2012), without bias, with the kernel of KID.

k(x, y) = (x·y / d + 1)³ (Binkowski et al. 2018). Unlike a Frechet distance it is 0 on average where nothing differs,
whatever the number of images, and so may be negative.
"""

from __future__ import annotations

import torch
from torch import Tensor

from advkit.distance.estimate import Estimate, check_samples

_CHUNK = 8_000_000  # numbers of a matrix of permutations


def kernel_distance(a: Tensor, b: Tensor) -> float:
    """Unbiased squared MMD between ``a`` (n, d) and ``b`` (m, d); no unit.

    Raises:
        ValueError: fewer than two rows, other shapes, NaN.
    """
    return kernel(a, b).value


def kernel(a: Tensor, b: Tensor, seed: int = 0) -> Estimate:
    """:func:`kernel_distance` with its influence function; ``seed`` changes nothing."""
    check_samples(a, b)
    a, b = a.double(), b.double()
    within_a, within_b, across = _off_diagonal_kernel(a), _off_diagonal_kernel(b), _polynomial_kernel(a, b)
    first = 2 * (within_a.sum(1) / (len(a) - 1) - across.mean(1))
    second = 2 * (within_b.sum(1) / (len(b) - 1) - across.mean(0))
    value = float((within_a.sum(1) / (len(a) - 1)).mean() + (within_b.sum(1) / (len(b) - 1)).mean() - 2 * across.mean())
    return Estimate(value, first - first.mean(), second - second.mean())


def permutation_test(a: Tensor, b: Tensor, permutations: int, seed: int) -> tuple[int, float]:
    """How many of so many random regroupings of ``a`` (n, d) and ``b`` (m, d) lie as far apart, and the p-value.

    The value itself counts among them (Phipson and Smyth 2010): the p-value is never 0, and exact where both samples
    are of one distribution.

    Raises:
        ValueError: as :func:`kernel_distance`; no permutation.
    """
    check_samples(a, b)
    if permutations < 1:
        raise ValueError(f"{permutations} permutations; at least one is needed")
    n, m = len(a), len(b)
    pooled = _off_diagonal_kernel(torch.cat([a, b]).double())
    generator = torch.Generator().manual_seed(seed & (2**63 - 1))
    threshold = float(_mmd_of_groupings(pooled, torch.arange(n + m)[:, None] < n))
    threshold -= 1e-12 * float(pooled.abs().mean())  # the same grouping, added up in another order, is as far apart
    reached, step = 0, max(1, _CHUNK // (n + m))
    for start in range(0, permutations, step):
        groups = torch.zeros(n + m, min(step, permutations - start), dtype=torch.bool)
        for column in range(groups.shape[1]):
            groups[torch.randperm(n + m, generator=generator)[:n], column] = True
        reached += int((_mmd_of_groupings(pooled, groups) >= threshold).sum())
    return reached, (reached + 1) / (permutations + 1)


def _mmd_of_groupings(pooled: Tensor, groups: Tensor) -> Tensor:
    """(P,) distances of the groupings ``groups`` (N, P) bool by the kernel ``pooled`` (N, N), whose diagonal is 0."""
    chosen = groups.double()
    n = float(chosen[:, 0].sum())
    m = len(pooled) - n
    inside = (chosen * (pooled @ chosen)).sum(0)
    rows, total = pooled.sum(0) @ chosen, pooled.sum()
    return inside / (n * (n - 1)) + (total - 2 * rows + inside) / (m * (m - 1)) - 2 * (rows - inside) / (n * m)


def _polynomial_kernel(a: Tensor, b: Tensor) -> Tensor:
    return (a @ b.T / a.shape[1] + 1) ** 3


def _off_diagonal_kernel(a: Tensor) -> Tensor:
    return _polynomial_kernel(a, a).fill_diagonal_(0.0)
