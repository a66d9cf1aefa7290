"""Sliced Wasserstein distance (Rabin et al. 2011; Bonneel et al. 2015): optimal transport along random directions."""

from __future__ import annotations

import torch
from torch import Tensor

from advkit.distance.estimate import Estimate, check_samples

DIRECTIONS = 128


def sliced_wasserstein(a: Tensor, b: Tensor, seed: int = 0) -> Estimate:
    """Mean over 128 directions of the squared 2-Wasserstein distance between the projections.

    The mean is taken over unit vectors; times d it is of the order of a Frechet distance. Along one direction, sorted
    images are matched, and the influence of an image is the Kantorovich potential at its place.

    Args:
        a: (n, d).
        b: (n, d), as many.
        seed: of the directions.

    Raises:
        ValueError: fewer than two rows, other shapes, NaN.
    """
    check_samples(a, b)
    if len(a) != len(b):
        raise ValueError(f"{len(a)} and {len(b)} images; as many of each are needed")
    directions = random_directions(a.shape[1], seed)
    (x, order_x), (y, order_y) = ((one.double() @ directions).sort(0) for one in (a, b))
    return Estimate(
        float((x - y).square().mean()), _kantorovich_potential(x, y, order_x), _kantorovich_potential(y, x, order_y)
    )


def random_directions(size: int, seed: int) -> Tensor:
    """(size, 128) float64, columns of length 1, uniform over the sphere."""
    generator = torch.Generator().manual_seed(seed & (2**63 - 1))
    directions = torch.randn(size, DIRECTIONS, generator=generator, dtype=torch.float64)
    directions /= directions.norm(dim=0)
    return directions


def _kantorovich_potential(x: Tensor, y: Tensor, order: Tensor) -> Tensor:
    """(n,) mean potential of each image: its slope at ``x`` (n, L), sorted, is 2 (x - y), ``y`` matched with it."""
    gap = x - y
    steps = (x[1:] - x[:-1]) * (gap[1:] + gap[:-1])
    heights = torch.cat([torch.zeros_like(x[:1]), steps.cumsum(0)])
    by_image = torch.empty_like(heights).scatter_(0, order, heights - heights.mean(0))
    return by_image.mean(1)
