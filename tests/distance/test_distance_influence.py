"""Influence functions against derivatives over an image's weight, by brute force, and against the jackknife."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import scipy.optimize
import torch
from torch import Tensor

from advkit.distance.kernel import kernel, kernel_distance
from advkit.distance.sliced_wasserstein import random_directions, sliced_wasserstein


def normal(n: int, d: int, seed: int, shift: float = 0.0) -> Tensor:
    return shift + torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def infinitesimal_jackknife(weighted: Callable[[Tensor], float], n: int, step: float) -> Tensor:
    """(n,) slopes of ``weighted``, of weights of mean 1, where an image gains weight and all lose it evenly."""
    slopes = []
    for image in range(n):
        change = torch.full((n,), -1.0 / n, dtype=torch.float64)
        change[image] += 1.0
        slopes.append((weighted(1 + step * change) - weighted(1 - step * change)) / (2 * step) * n)
    return torch.tensor(slopes, dtype=torch.float64)


def transport(x: Tensor, weights_x: Tensor, y: Tensor, weights_y: Tensor) -> float:
    """Least mean squared way between points on a line, by a linear program."""
    costs = (x[:, None] - y[None, :]).square()
    n, m = costs.shape
    rows = torch.kron(torch.eye(n), torch.ones(1, m)), torch.kron(torch.ones(1, n), torch.eye(m))
    margins = torch.cat([weights_x / n, weights_y / m])
    found = scipy.optimize.linprog(costs.flatten().numpy(), A_eq=torch.cat(rows).numpy(), b_eq=margins.numpy())
    assert found.success
    return float(found.fun)


@pytest.mark.parametrize(("n", "m"), [(7, 7), (9, 5)])
def test_the_kernels_influence_is_the_slope_over_an_images_weight(n: int, m: int) -> None:
    a, b = normal(n, 3, 0), normal(m, 3, 1, 0.8)

    def products(x: Tensor, y: Tensor) -> Tensor:
        return (x @ y.T / 3 + 1) ** 3

    def weighted(weights: Tensor) -> float:
        pairs = torch.outer(weights, weights) * products(a, a)
        within = (pairs.sum() - pairs.trace()) / (n * (n - 1))
        return float(within - 2 * (weights @ products(a, b)).sum() / (n * m))

    expected = infinitesimal_jackknife(weighted, n, 1e-4)
    assert kernel(a, b).influence_a == pytest.approx(expected, rel=1e-6, abs=1e-8)
    assert kernel(b, a).influence_b == pytest.approx(expected, rel=1e-6, abs=1e-8)


def test_the_kernels_influence_is_about_the_jackknifes() -> None:
    """What the distance falls by without an image, n - 1 times, but for terms of the order of 1 / n."""
    a, b = normal(60, 4, 0), normal(60, 4, 1, 0.5)
    kept = [torch.arange(60) != image for image in range(60)]
    for found, without in (
        (kernel(a, b).influence_a, [kernel_distance(a[rows], b) for rows in kept]),
        (kernel(a, b).influence_b, [kernel_distance(a, b[rows]) for rows in kept]),
    ):
        falls = 59 * (kernel_distance(a, b) - torch.tensor(without, dtype=torch.float64))
        slope = float(found @ falls / found.square().sum())
        assert slope == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("d", [1, 3])
def test_the_influence_on_transport_is_the_slope_over_an_images_weight(d: int) -> None:
    """The optimum has a kink where weights are equal; central differences take the mean of its two slopes."""
    n = 5
    a, b = normal(n, d, 0), normal(n, d, 1, 1.0)
    directions = random_directions(d, 0)[:, : 1 if d == 1 else None]

    def weighted(weights: Tensor) -> float:
        ways = [transport(a @ one, weights, b @ one, torch.ones(n).double()) for one in directions.T]
        return sum(ways) / len(ways)

    even = torch.ones(n, dtype=torch.float64)
    assert sliced_wasserstein(a, b, 0).value == pytest.approx(weighted(even), rel=1e-9)
    expected = infinitesimal_jackknife(weighted, n, 1e-3)
    assert sliced_wasserstein(a, b, 0).influence_a == pytest.approx(expected, rel=1e-6, abs=1e-6)
    assert sliced_wasserstein(b, a, 0).influence_b == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_directions_are_of_length_one_and_of_no_preference() -> None:
    directions = random_directions(40, 0)
    assert directions.norm(dim=0) == pytest.approx(torch.ones(128))
    assert (directions @ directions.T * 40 / 128 - torch.eye(40)).norm(dim=1).max() < 1.0
    assert not torch.equal(directions, random_directions(40, 1))
