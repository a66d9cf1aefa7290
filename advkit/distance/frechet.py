"""Frechet distance between two normal distributions with the moments of the samples (Dowson and Landau 1982).

d² = |mu_a - mu_b|² + Tr S_a + Tr S_b - 2 Tr (S_a S_b)^½, the squared value, as FID reports it (Heusel et al. 2017).

With centred features A and B divided by the root of n - 1, S_a = A'A, and the trace is the nuclear norm of A B': the
sum of its singular values. No d x d matrix is made where n < d, and a sample is at distance 0 from itself, where the
square root of a matrix without full rank is off by 1e-6 and more.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from advkit.distance.estimate import Estimate, check_samples


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Squared distance between ``a`` (n, d) and ``b`` (m, d), in squares of the features' unit; biased up by O(1/n).

    Raises:
        ValueError: fewer than two rows, other shapes, NaN.
    """
    check_samples(a, b)
    (mean_a, rows_a), (mean_b, rows_b) = _moments(a), _moments(b)
    nuclear_norm = float(torch.linalg.svdvals(_r_factor(rows_a) @ _r_factor(rows_b).T).sum())
    return _squared_distance(mean_a, mean_b, rows_a, rows_b, nuclear_norm)


def frechet(a: Tensor, b: Tensor, seed: int = 0) -> Estimate:
    """:func:`frechet_distance` with its influence function; ``seed`` changes nothing.

    The nuclear norm of A B' = U s V' grows by half of (U s U')_ii for each unit of weight on row i of A.
    """
    check_samples(a, b)
    (mean_a, rows_a), (mean_b, rows_b) = _moments(a), _moments(b)
    (basis_a, triangle_a), (basis_b, triangle_b) = _qr(rows_a), _qr(rows_b)
    u, s, vh = torch.linalg.svd(triangle_a @ triangle_b.T, full_matrices=False)
    shift = mean_a - mean_b
    return Estimate(
        _squared_distance(mean_a, mean_b, rows_a, rows_b, float(s.sum())),
        _influence(rows_a, u if basis_a is None else basis_a @ u, s, 2 * shift),
        _influence(rows_b, vh.T if basis_b is None else basis_b @ vh.T, s, -2 * shift),
    )


def _moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (d,), and rows (n, d) whose products are the covariance; float64."""
    features = features.double()
    mean = features.mean(0)
    return mean, (features - mean) / math.sqrt(len(features) - 1)


def _qr(rows: Tensor) -> tuple[Tensor | None, Tensor]:
    """Q and R of ``rows`` where those outnumber the columns; else None and the rows themselves."""
    if len(rows) <= rows.shape[1]:
        return None, rows
    basis, triangle = torch.linalg.qr(rows)
    return basis, triangle


def _r_factor(rows: Tensor) -> Tensor:
    """At most d rows with the products of ``rows``."""
    return rows if len(rows) <= rows.shape[1] else torch.linalg.qr(rows, mode="r").R


def _squared_distance(mean_a: Tensor, mean_b: Tensor, rows_a: Tensor, rows_b: Tensor, nuclear_norm: float) -> float:
    means = float((mean_a - mean_b).square().sum())
    return max(0.0, means + float(rows_a.square().sum()) + float(rows_b.square().sum()) - 2 * nuclear_norm)


def _influence(rows: Tensor, vectors: Tensor, values: Tensor, slope: Tensor) -> Tensor:
    """(n,) of ``rows`` (n, d): through the mean, through the trace, and through the nuclear norm."""
    n = len(rows)
    found = math.sqrt(n - 1) * (rows @ slope) + n * rows.square().sum(1) - n * (vectors.square() @ values)
    return found - found.mean()
