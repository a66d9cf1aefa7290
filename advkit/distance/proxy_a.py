"""Proxy A-distance (Ben-David et al. 2010): how well a classifier tells the domains of unseen images.

2 (1 - 2 e) of the error rate e in cross-validation: 0 for a guess, 2 at most. Where domains lie far apart it is 2 for
all of them and ranks no more; by chance it may fall below 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from advkit.distance.estimate import Estimate, check_samples

FOLDS = 5
_RIDGE = 0.1  # against a kernel whose diagonal is 1 on average


def proxy_a(a: Tensor, b: Tensor, seed: int = 0) -> Estimate:
    """Error of a linear classifier between ``a`` (n, d) and ``b`` (m, d), in five folds, as a distance.

    Least squares with a ridge, which has a closed form; features are standardised by the images that it is trained on.
    A score of 0 falls to neither domain and is half an error.

    Args:
        a: (n, d).
        b: (m, d).
        seed: of the folds.

    Raises:
        ValueError: fewer than four rows, other shapes, NaN.
    """
    check_samples(a, b, least=4)
    features = torch.cat([a, b]).double()
    signs = torch.cat([torch.ones(len(a)), -torch.ones(len(b))]).double()
    fold = torch.cat([folds(len(a), seed), folds(len(b), seed)])
    margins = torch.empty_like(signs)
    for number in range(FOLDS):
        held = fold == number
        if bool(held.any()):
            margins[held] = signs[held] * _scores(features[~held], signs[~held], features[held])
    wrong = (1 - margins.sign()) / 2
    first, second = wrong[: len(a)], wrong[len(a) :]
    rates = first.mean(), second.mean()
    return Estimate(
        float(2 - 2 * (rates[0] + rates[1])),
        -2 * (first - rates[0]),
        -2 * (second - rates[1]),
        errors=int((margins < 0).sum()),
        ties=int((margins == 0).sum()),
        predictions=len(wrong),
    )


def folds(count: int, seed: int) -> Tensor:
    """(count,) int64, a fold for each image, of equal sizes give or take one."""
    generator = torch.Generator().manual_seed(seed & (2**63 - 1))
    return torch.randperm(count, generator=generator) % FOLDS


def _scores(train: Tensor, signs: Tensor, test: Tensor) -> Tensor:
    """Scores of ``test``, above 0 for the domain whose sign is 1; no intercept, as ``train`` is centred."""
    mean, deviation = train.mean(0), train.std(0)
    deviation = torch.where(deviation > 1e-9 * mean.abs().clamp_min(1e-30), deviation, torch.inf)  # constant: no say
    train, test = ((one - mean) / deviation for one in (train, test))
    size = train.shape[1]
    if len(train) > size:
        weights = _ridge_solve(train.T @ train / size, (train.T @ signs)[:, None])
    else:  # the same by as many equations as there are images
        weights = train.T @ _ridge_solve(train @ train.T / size, signs[:, None])
    scores: Tensor = (test @ weights)[:, 0] / size
    return scores


def _ridge_solve(products: Tensor, right: Tensor) -> Tensor:
    ridge = _RIDGE * torch.eye(len(products), dtype=products.dtype)
    return torch.cholesky_solve(right, torch.linalg.cholesky(products + ridge))
