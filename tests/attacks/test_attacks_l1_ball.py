"""The L1 ball in the box against quadratic and linear programmes, brute force, and what an optimum must satisfy."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog, minimize
from torch import Tensor

from advkit.attacks import budget, l1_ball
from advkit.data.canvas import on_canvas
from advkit.metrics.norms import flat_norm


def some(seed: int, count: int, size: int) -> tuple[Tensor, Tensor]:
    """Images (N, 1, 1, D), some of their pixels black or white, and perturbations of any length, in float64."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 1, 1, size, generator=generator, dtype=torch.float64)
    edge = torch.rand(images.shape, generator=generator) < 0.3
    moved = torch.randn(images.shape, generator=generator, dtype=torch.float64)
    return torch.where(edge, images.round(), images), moved * 2.0


def test_the_nearest_point_is_that_of_a_quadratic_programme() -> None:
    images, moved = some(0, 12, 6)
    for row, (image, wanted) in enumerate(zip(images.flatten(1).numpy(), moved.flatten(1).numpy(), strict=True)):
        eps = 0.2 * (row + 1)
        up_and_down = [*((0, 1 - v) for v in image), *((0, v) for v in image)]
        best = minimize(
            lambda d, wanted=wanted: float(((d[:6] - d[6:] - wanted) ** 2).sum()),
            np.zeros(12),
            method="SLSQP",
            bounds=up_and_down,
            constraints={"type": "ineq", "fun": lambda d, eps=eps: eps - d.sum()},
            options={"ftol": 1e-14, "maxiter": 500},
        )
        found = l1_ball.project(moved[row : row + 1], images[row : row + 1], eps).flatten().numpy()
        assert float(np.abs(found - (best.x[:6] - best.x[6:])).max()) < 1e-4


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.integers(1, 40), share=st.floats(1e-3, 1.2))
def test_entries_shrink_by_one_amount_or_stop_at_the_edge(seed: int, size: int, share: float) -> None:
    """Karush, Kuhn and Tucker; found once more by bisection."""
    images, moved = some(seed, 3, size)
    eps = share * size / 2
    found = l1_ball.project(moved, images, eps)
    inside = torch.maximum(torch.minimum(moved, 1 - images), -images)
    assert float(flat_norm(found, "l1").max()) <= eps
    assert bool(((images + found >= 0) & (images + found <= 1)).all())
    low, high = torch.zeros(3, 1, 1, 1).double(), moved.abs().amax((1, 2, 3), keepdim=True)
    for _ in range(100):
        middle = (low + high) / 2
        shrunk = torch.sign(moved) * (moved.abs() - middle).clamp_min(0)
        over = torch.maximum(torch.minimum(shrunk, 1 - images), -images).abs().sum((1, 2, 3), keepdim=True) > eps
        low, high = torch.where(over, middle, low), torch.where(over, high, middle)
    shrunk = torch.sign(moved) * (moved.abs() - high).clamp_min(0)
    expected = torch.maximum(torch.minimum(shrunk, 1 - images), -images)
    within = flat_norm(inside, "l1") <= eps
    expected[within] = inside[within]
    assert float((found - expected).abs().max()) < 1e-5
    assert torch.equal(found[within], (images + inside).clamp(0, 1)[within] - images[within])


def test_ball_then_box_would_miss_it() -> None:
    """Two white pixels that want to become whiter: the ball alone spends half of the radius on them."""
    images = torch.tensor([[[[1.0, 1.0, 0.0, 0.0]]]])
    moved = torch.tensor([[[[3.0, 3.0, 2.0, 1.0]]]])
    assert l1_ball.project(moved, images, 1.0).flatten().tolist() == pytest.approx([0, 0, 1, 0], abs=1e-5)
    assert l1_ball.project(moved, images, 1.5).flatten().tolist() == pytest.approx([0, 0, 1, 0.5], abs=1e-5)


def test_radii_of_their_own_none_and_zero() -> None:
    images, moved = some(3, 4, 9)
    radii = torch.tensor([0.0, 0.5, 2.0, float("inf")]).double()
    found = l1_ball.project(moved, images, radii)
    for row, radius in enumerate(radii.tolist()):
        part = slice(row, row + 1)
        assert torch.equal(found[part], l1_ball.project(moved[part], images[part], radius))
    assert not bool(found[0].any())
    assert torch.allclose(images[3] + found[3], (images[3] + moved[3]).clamp(0, 1))


def test_in_float32_a_long_sum_stays_in_the_ball() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.round(torch.rand(4, 3, 64, 64, generator=generator) * 255) / 255
    moved = torch.randn(4, 3, 64, 64, generator=generator)
    for eps in (0.5, 12.0, 500.0):
        found = budget.project(moved, images, eps, "l1")
        assert float(found.double().abs().sum((1, 2, 3)).max()) <= eps
        exact = budget.project(moved.double(), images.double(), eps, "l1")
        assert float((found - exact).abs().max()) < 5e-6  # amounts near 4, of 24 bits
        alone = budget.project(moved[2:3], images[2:3], eps, "l1")
        assert torch.equal(alone[0], found[2])


def test_what_lies_beyond_an_image_on_its_canvas_takes_nothing() -> None:
    images = on_canvas([torch.full((1, 2, 2), 0.5), torch.full((1, 1, 2), 0.5)], (2, 2))
    moved = torch.ones(2, 1, 2, 2) + images * 0.0
    found = l1_ball.project(moved, images, 0.4)
    assert torch.equal(found.isnan(), images.isnan())
    assert found[0].flatten().tolist() == pytest.approx([0.1] * 4, abs=1e-6)
    assert found[1, 0, 0].tolist() == pytest.approx([0.2, 0.2], abs=1e-6)
    step = l1_ball.steepest_step(torch.ones(2, 1, 2, 2), images, 0.6)
    assert step[1].flatten().tolist() == pytest.approx([0.5, 0.1, 0.0, 0.0])


@pytest.mark.parametrize(("size", "sharing"), [(9, 1), (250, 2), (400, 4)])
def test_a_step_is_a_linear_programmes(size: int, sharing: int) -> None:
    """A hundredth of the entries shares the length; a share that the box cuts goes on to the next."""
    x, gradient = some(5, 4, size)
    for length in (0.3, 2.5, size / 8):
        found = l1_ball.steepest_step(gradient, x, length).flatten(1)
        for row in range(4):
            slope, share = gradient[row].flatten().numpy(), length / sharing
            room = [*((0, min(1 - v, share)) for v in x[row].flatten().tolist())]
            room += [(0, min(v, share)) for v in x[row].flatten().tolist()]
            best = linprog(np.r_[-slope, slope], A_ub=np.ones((1, 2 * size)), b_ub=[length], bounds=room)
            assert float((found[row] * gradient[row].flatten()).sum()) == pytest.approx(-best.fun, rel=1e-6)
        assert float(found.abs().sum(1).max()) <= length * (1 + 1e-9)
        assert float(found.abs().max()) <= min(1.0, length / sharing) * (1 + 1e-9)


def test_a_step_is_none_where_the_gradient_is() -> None:
    x, _ = some(6, 2, 12)
    assert not bool(l1_ball.steepest_step(torch.zeros_like(x), x, 3.0).any())
    slope = torch.zeros_like(x)
    slope[0, 0, 0, 4] = -1e-30
    x[0, 0, 0, 4] = 0.75
    assert l1_ball.steepest_step(slope, x, 3.0)[0].flatten().tolist() == [0, 0, 0, 0, -0.75] + [0] * 7


@pytest.mark.parametrize("levels", [0, 1, 4, 5, 8, 9])
def test_rounding_is_the_nearest_on_the_grid_within_the_ball(levels: int) -> None:
    """By brute force over both neighbouring levels of four pixels."""
    clean = torch.tensor([[[[10.0, 0.0, 255.0, 200.0]]]])
    for pixels in ([12.7, 1.6, 252.1, 200.4], [9.3, 0.9, 254.4, 201.7], [10.0, 2.5, 255.0, 197.55]):
        wanted = np.array(pixels)
        moved = torch.tensor(pixels).view(1, 1, 1, 4)
        found = l1_ball.round_within(moved, clean, float(levels), 1e-4)
        assert found is not None
        assert float((found - clean).abs().sum()) <= levels
        if float((moved - clean).abs().sum()) > levels:
            continue
        choices = [np.array(one) for one in product(*((np.floor(v), np.ceil(v)) for v in pixels))]
        allowed = [one for one in choices if np.abs(one - clean.flatten().numpy()).sum() <= levels]
        least = min(float(np.abs(one - wanted).sum()) for one in allowed)
        assert float(np.abs(found.flatten().numpy() - wanted).sum()) == pytest.approx(least, abs=1e-4)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), eps=st.floats(0.02, 6.0), grid=st.booleans())
def test_eight_bits_keep_the_ball_and_most_of_the_perturbation(seed: int, eps: float, grid: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(2, 3, 6, 6, generator=generator)
    images = torch.round(images * 255) / 255 if grid else images
    moved = budget.project(torch.randn(images.shape, generator=generator), images, eps, "l1")
    if not grid and eps < 0.3:  # a clean image between levels is itself up to half a level from each
        return
    found = budget.quantize((images + moved).clamp(0, 1), images, eps, "l1").double() / 255
    length = (found - images.double()).abs().sum((1, 2, 3))
    assert float(length.max()) <= eps * (1 + 1e-5) + 1e-5
    if grid:
        whole = flat_norm(moved, "l1")
        assert bool((length >= whole - 0.51 * (moved != 0).sum((1, 2, 3)) / 255 - 1 / 255).all())
        assert float((found - images - moved).abs().max()) < 1.01 / 255


def test_the_largest_slopes_share_a_unit_step_and_equals_come_along() -> None:
    gradient = torch.tensor([[[[3.0, -5.0, 3.0, 1.0]]], [[[0.0, 0.0, 2.0, 0.0]]]])
    found = l1_ball.ranked_signs(gradient, torch.tensor([2, 3])).flatten(1)
    assert found[0].tolist() == pytest.approx([1 / 3, -1 / 3, 1 / 3, 0])
    assert found[1].tolist() == [0, 0, 1, 0]
    assert l1_ball.ranked_signs(gradient, torch.tensor([0, 1])).flatten(1)[0].tolist() == [0, -1, 0, 0]


@pytest.mark.parametrize("eps", [1.0, 30.0])
def test_large_projections_stay_inside_as_float32_holds_them(eps: float) -> None:
    draw = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, 224, 224, generator=draw)
    wanted = torch.rand(2, 3, 224, 224, generator=draw) * 2 - 1
    for perturbation in (wanted, wanted * 3 * eps / wanted.abs().flatten(1).sum(1).view(-1, 1, 1, 1)):
        found = l1_ball.project(perturbation, images, eps)
        written = (images + found) - images
        length = written.abs().flatten(1).sum(1, dtype=torch.float64)
        assert (length <= eps * (1 + 1e-6)).all(), length
        assert (length > 0.98 * eps).all(), length


def test_images_off_the_grid_have_no_level_within_a_small_radius() -> None:
    clean = torch.full((2, 1, 3, 3), 100.4)  # 0.4 of a level each to the nearest one
    assert l1_ball.round_within(clean, clean, 9 * 0.4 - 0.1, 1e-3) is None
    found = l1_ball.round_within(clean, clean, 9 * 0.4 + 0.1, 1e-3)
    assert found is not None
    assert torch.equal(found, torch.full_like(clean, 100.0))
