"""Budgets of images that do not fill their canvas: lengths are over the pixels that are there."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from advkit.attacks import budget
from advkit.data.canvas import on_canvas, sizes
from advkit.metrics.norms import Norm, flat_norm

SHAPES = [(8, 8), (4, 8), (1, 1)]


def gray(channels: int = 3, level: int = 128) -> Tensor:
    return on_canvas([torch.full((channels, *shape), level / 255) for shape in SHAPES], (8, 8))


def lengths(perturbation: Tensor) -> Tensor:
    return perturbation.nan_to_num().flatten(1).norm(dim=1)


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_noise_has_full_length_in_every_image(norm: Norm) -> None:
    images = gray()
    moved = budget.noise(images, torch.arange(3), 0.1, norm, 0)
    assert sizes(moved).tolist() == [list(shape) for shape in SHAPES]
    torch.testing.assert_close(flat_norm((moved - images).nan_to_num(), norm), torch.full((3,), 0.1))


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_random_starts_are_uniform_in_the_ball_of_the_pixels(norm: Norm) -> None:
    """In 192 dimensions nearly all of the ball lies near its surface, in one it lies anywhere."""
    for shape, low, high in (((8, 8), 0.98, 1.0), ((1, 1), 0.4, 0.6)):
        images = on_canvas([torch.full((1, *shape), 0.5)] * 400, (8, 8))
        moved = budget.random_start(images, torch.arange(400), 0.1, norm, 0, 0)
        size = flat_norm(moved.nan_to_num(), norm)
        assert low < float(size.mean() / 0.1) < high
        assert float(size.max()) <= 0.1 * (1 + 1e-5)


def test_rounding_to_8_bits_stays_in_the_ball() -> None:
    images = gray()
    moved = images + 0.6 / 255
    eps = float(lengths(moved - images).max()) * 1.001
    small = eps * (32 / 64) ** 0.5  # half of the pixels: to the nearest level would be a whole one in each
    for place, radius in ((0, eps), (1, small)):
        part = images[place : place + 1]
        levels = budget.quantize(moved[place : place + 1], part, radius, "l2")
        found = budget.from_levels(levels, part)
        assert torch.equal(found.isnan(), part.isnan())
        assert float(lengths(found - part)[0]) <= radius * (1 + 1e-4)
