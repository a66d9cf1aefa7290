"""The Fréchet distance against closed forms, scipy's root, pytorch-fid's formula, and its own influence function."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor

from advkit.distance.frechet import frechet, frechet_distance


def normal(n: int, d: int, seed: int, scale: float = 1.0) -> Tensor:
    """Correlated features of full rank where n > d."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(d, d, generator=generator, dtype=torch.float64) / d**0.5
    return scale * torch.randn(n, d, generator=generator, dtype=torch.float64) @ mixing + 0.3 * seed


def with_moments(mean: Tensor, variances: Tensor, n: int, seed: int) -> Tensor:
    """(n, d) of exactly this mean and this diagonal covariance."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(n, len(mean), generator=generator, dtype=torch.float64)
    basis, _ = torch.linalg.qr(rows - rows.mean(0))
    return mean + basis * (n - 1) ** 0.5 * variances.sqrt()


def by_square_root(a: Tensor, b: Tensor) -> float:
    """FID's formula as it is written (Heusel et al. 2017)."""
    s1, s2 = np.cov(a.numpy(), rowvar=False), np.cov(b.numpy(), rowvar=False)
    root = scipy.linalg.sqrtm(s1 @ s2)
    return float((a.mean(0) - b.mean(0)).square().sum() + np.trace(s1 + s2) - 2 * np.trace(root.real))


def by_eigenvalues(a: Tensor, b: Tensor) -> float:
    """As pytorch-fid and torchmetrics take the trace of the root."""
    s1, s2 = torch.cov(a.T), torch.cov(b.T)
    trace = torch.linalg.eigvals(s1 @ s2).sqrt().real.sum()
    return float((a.mean(0) - b.mean(0)).square().sum() + s1.trace() + s2.trace() - 2 * trace)


@pytest.mark.parametrize(("n", "m"), [(30, 30), (50, 20)])
def test_closed_form_of_normal_distributions(n: int, m: int) -> None:
    """With covariances that commute, |mu_1 - mu_2|² + sum of (sigma_1 - sigma_2)²."""
    means = torch.tensor([0.0, 1.0, -2.0]).double(), torch.tensor([1.0, 1.0, 2.0]).double()
    variances = torch.tensor([1.0, 4.0, 0.25]).double(), torch.tensor([9.0, 1.0, 0.25]).double()
    a, b = with_moments(means[0], variances[0], n, 0), with_moments(means[1], variances[1], m, 1)
    expected = 17.0 + 4.0 + 1.0 + 0.0
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("n", "m", "d"), [(200, 200, 12), (300, 100, 40), (70, 400, 60)])
def test_the_formulas_of_others_where_the_covariances_have_full_rank(n: int, m: int, d: int) -> None:
    a, b = normal(n, d, 0), normal(m, d, 1, scale=1.7)
    found = frechet_distance(a, b)
    assert found == pytest.approx(by_square_root(a, b), rel=1e-6)
    assert found == pytest.approx(by_eigenvalues(a, b), rel=1e-6)


def test_one_feature_by_hand() -> None:
    a, b = torch.tensor([[0.0], [2.0]]), torch.tensor([[1.0], [5.0], [9.0]])
    assert frechet_distance(a, b) == pytest.approx((1 - 5) ** 2 + (2**0.5 - 4) ** 2)


@pytest.mark.parametrize(("n", "d"), [(40, 500), (500, 40), (30, 30)])
def test_a_sample_is_at_no_distance_from_itself(n: int, d: int) -> None:
    a = normal(n, d, 3)
    assert frechet_distance(a, a) < 1e-9
    assert frechet_distance(a, a[torch.randperm(n)]) < 1e-9


@pytest.mark.parametrize(("n", "m", "d"), [(20, 30, 90), (80, 60, 10)])
def test_it_is_symmetric_and_order_does_not_matter(n: int, m: int, d: int) -> None:
    a, b = normal(n, d, 0), normal(m, d, 1)
    found = frechet_distance(a, b)
    assert frechet_distance(b, a) == pytest.approx(found, rel=1e-12)
    assert frechet_distance(a.flip(0), b[torch.randperm(m)]) == pytest.approx(found, rel=1e-12)
    assert frechet(a, b).value == pytest.approx(found, rel=1e-12)


@pytest.mark.parametrize(("n", "m", "d"), [(12, 15, 4), (9, 7, 20)])
def test_the_influence_is_the_slope_over_an_images_weight(n: int, m: int, d: int) -> None:
    """Central differences, the other images losing what one gains; weighted moments, the trace by eigenvalues."""
    a, b = normal(n, d, 0), normal(m, d, 1)

    def weighted(weights: Tensor) -> float:
        mean = weights @ a / n
        rows = (weights[:, None] / (n - 1)).sqrt() * (a - mean)
        others = (b - b.mean(0)) / (m - 1) ** 0.5
        cross = torch.linalg.svdvals(rows @ others.T).sum()
        return float((mean - b.mean(0)).square().sum() + rows.square().sum() + others.square().sum() - 2 * cross)

    step, slopes = 1e-5, []
    for image in range(n):
        change = torch.full((n,), -1.0 / n, dtype=torch.float64)
        change[image] += 1.0
        slopes.append((weighted(1 + step * change) - weighted(1 - step * change)) / (2 * step) * n)
    found = frechet(a, b)
    assert found.influence_a == pytest.approx(torch.tensor(slopes).double(), rel=1e-5, abs=1e-6)
    assert frechet(b, a).influence_b == pytest.approx(found.influence_a, rel=1e-6, abs=1e-9)
    assert abs(float(found.influence_a.sum())) < 1e-9


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (torch.zeros(1, 3), torch.zeros(5, 3)),
        (torch.zeros(5, 3), torch.zeros(5, 4)),
        (torch.zeros(5), torch.zeros(5)),
        (torch.full((5, 3), float("nan")), torch.zeros(5, 3)),
        (torch.zeros(5, 0), torch.zeros(5, 0)),
    ],
)
def test_other_samples_are_refused(a: Tensor, b: Tensor) -> None:
    with pytest.raises(ValueError, match=r"features|images"):
        frechet_distance(a, b)
