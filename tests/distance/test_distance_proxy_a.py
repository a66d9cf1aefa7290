"""The classifier of proxy-A, image by image: against least squares by numpy, what it may not see, and ties."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from advkit.distance.comparison import SubsamplingPlan, compare
from advkit.distance.features import content_hash, write_features
from advkit.distance.proxy_a import FOLDS, folds, proxy_a


def normal(n: int, d: int, seed: int, shift: float = 0.0) -> Tensor:
    return shift + torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def errors_by_lstsq(a: Tensor, b: Tensor, seed: int, ridge: float = 0.1) -> tuple[Tensor, Tensor]:
    """1 for each image that is taken for the other domain's; a ridge is as many more rows as there are features."""
    features = torch.cat([a, b]).numpy()
    signs = np.repeat([1.0, -1.0], [len(a), len(b)])
    fold = np.concatenate([folds(len(a), seed).numpy(), folds(len(b), seed).numpy()])
    size, wrong = features.shape[1], np.empty(len(signs))
    for held in (fold == number for number in range(FOLDS)):
        mean, deviation = features[~held].mean(0), features[~held].std(0, ddof=1)
        train, test = (features[~held] - mean) / deviation, (features[held] - mean) / deviation
        rows = np.concatenate([train, np.sqrt(ridge * size) * np.eye(size)])
        goals = np.concatenate([signs[~held] - signs[~held].mean(), np.zeros(size)])
        wrong[held] = test @ np.linalg.lstsq(rows, goals, rcond=None)[0] * signs[held] < 0
    return torch.from_numpy(wrong[: len(a)]), torch.from_numpy(wrong[len(a) :])


@pytest.mark.parametrize(("n", "d"), [(15, 12), (12, 30)])
def test_the_same_images_are_wrong_as_by_ridge_regression_of_numpy(n: int, d: int) -> None:
    """Few images and features of a heavy tail, so that the ridge and the held-out images' own moments would be seen."""
    others = 0
    for seed in range(25):
        a, b = normal(n, d, 2 * seed, 0.3) ** 3, normal(n + 3, d, 2 * seed + 1) ** 3
        found, wrong = proxy_a(a, b, seed), errors_by_lstsq(a, b, seed)
        assert found.errors == sum(int(one.sum()) for one in wrong)
        for influence, one in zip((found.influence_a, found.influence_b), wrong, strict=True):
            assert influence == pytest.approx(-2 * (one - one.mean()), abs=1e-12)
        rates = [float(one.mean()) for one in wrong]
        assert found.value == pytest.approx(2 - 2 * sum(rates))
        for ridge in (0.05, 0.2):
            others += not all(map(torch.equal, errors_by_lstsq(a, b, seed, ridge), wrong))
    assert others >= 10, "another ridge is wrong about other images"


def test_folds_are_of_equal_sizes_and_of_the_seed() -> None:
    assert sorted(torch.bincount(folds(23, 0)).tolist()) == [4, 4, 5, 5, 5]
    assert not torch.equal(folds(23, 0), folds(23, 1))


def test_a_score_of_nothing_is_half_an_error() -> None:
    """Features that differ by rounding alone say nothing of an image."""
    for value in (0.1, 1 / 3, 1e6 / 7):
        same = torch.full((23, 3), value, dtype=torch.float64)
        found = proxy_a(same, same[:20] * (1 + 1e-12))
        assert (found.value, found.errors, found.ties, found.predictions) == (0.0, 0, 43, 43)
        assert found.influence_a.abs().max() == 0
    apart = proxy_a(normal(20, 3, 0), normal(20, 3, 1, 50.0))
    assert (apart.value, apart.errors, apart.ties) == (2.0, 0, 0)


def test_half_of_ties_count_in_intervals_too() -> None:
    same = torch.full((60, 3), 0.1, dtype=torch.float64)
    table = write_features("x", [([content_hash(bytes([k])) for k in range(60)], same)])
    found = compare(table, [table], SubsamplingPlan(images=20, repeats=2, permutations=5, seed=0))
    one = found.targets[0].by_measure["proxy_a"]
    assert (one.value, one.errors, one.ties, one.predictions) == (0.0, 0, 80, 80)
    assert one.interval[0] == pytest.approx(-one.interval[1])
