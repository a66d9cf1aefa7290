"""Balls, steps and the 8-bit grid."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from advkit.attacks import budget
from advkit.files.errors import InputError
from advkit.metrics.norms import Norm, flat_norm


def drawn(seed: int, *shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), eps=st.floats(1e-4, 1.0), norm=st.sampled_from(["linf", "l2", "l1"]))
def test_projection_stays_inside_and_leaves_the_inside_alone(seed: int, eps: float, norm: Norm) -> None:
    images, moved = drawn(seed, 3, 2, 5, 4), (drawn(seed + 1, 3, 2, 5, 4) - 0.5) * 3
    found = budget.project(moved, images, eps, norm)
    assert float(flat_norm(found, norm).max()) <= eps * (1 + 1e-5) + 1e-6
    assert float((images + found).min()) >= -1e-7
    assert float((images + found).max()) <= 1 + 1e-7
    assert torch.allclose(budget.project(found, images, eps, norm), found, atol=1e-6)


def test_l2_projection_is_the_nearest_point() -> None:
    images = torch.full((1, 1, 2, 2), 0.5)
    moved = torch.tensor([[[[0.3, 0.4], [0.0, 0.0]]]])
    assert torch.allclose(budget.project(moved, images, 0.25, "l2"), moved / 2)
    assert torch.allclose(budget.project(moved, images, 0.35, "linf"), moved.clamp_max(0.35))


@pytest.mark.parametrize("factor", [1e-35, 1e-25, 1.0, 1e25])
def test_steepest_is_a_unit_step_at_any_scale(factor: float) -> None:
    gradient = (drawn(0, 3, 2, 4, 4) - 0.5) * factor
    gradient[1] = 0
    l2 = budget.steepest_ascent(gradient, "l2")
    assert torch.allclose(l2.flatten(1).norm(dim=1), torch.tensor([1.0, 0.0, 1.0]), atol=1e-5)
    assert torch.equal(budget.steepest_ascent(gradient, "linf"), gradient.sign())
    assert torch.allclose(flat_norm(gradient, "l2") / factor, (gradient / factor).flatten(1).norm(dim=1))


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_random_start_fills_the_ball(norm: Norm) -> None:
    images, eps = torch.full((4000, 1, 2, 2), 0.5), 0.2
    start = budget.random_start(images, torch.arange(4000), eps, norm, seed=1, restart=0)
    radius = flat_norm(start, norm) / eps
    assert float(radius.max()) <= 1 + 1e-5
    volume = radius**4  # uniform in a ball of 4 dimensions, of either norm
    expected = torch.linspace(0, 1, 4000)
    assert float((volume.sort().values - expected).abs().max()) < 1.95 / 4000**0.5  # KS, 0.1 %
    assert float(start.mean((0, 1)).abs().max()) < 0.01
    if norm == "l1":  # of a direction's entries, which are as parts of a stick broken at random (Dirichlet, all 1)
        parts = (start.abs() / radius.view(-1, 1, 1, 1) / eps).flatten(1)
        assert float(parts.square().sum(1).mean()) == pytest.approx(2 / (4 + 1), rel=0.03)


def test_flipped_is_the_other_side() -> None:
    images = torch.tensor([[[[0.5, 0.9, 0.1]]]])
    adversarial = torch.tensor([[[[0.6, 0.7, 0.3]]]])
    assert torch.allclose(budget.negated_perturbation(adversarial, images), torch.tensor([[[[0.4, 1.0, 0.0]]]]))


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 10**6), levels=st.integers(0, 40), norm=st.sampled_from(["linf", "l2", "l1"]))
def test_quantize_on_the_grid(seed: int, levels: int, norm: Norm) -> None:
    eps = levels / {"linf": 255, "l2": 20, "l1": 8}[norm]
    images = torch.round(drawn(seed, 2, 3, 5, 5) * 255) / 255
    moved = budget.project((drawn(seed + 1, 2, 3, 5, 5) - 0.5) * 2, images, eps, norm)
    adversarial = (images + moved).clamp(0, 1)
    found = budget.quantize(adversarial, images, eps, norm)
    distance = found.double() - torch.round(images.double() * 255)
    assert float(flat_norm(distance, norm).max()) <= eps * 255 + 2e-3
    assert float((found.float() / 255 - adversarial).abs().max()) <= (0.51 if norm == "linf" else 1.01) / 255
    if levels == 0:
        assert torch.equal(found.float() / 255, images)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), eps=st.floats(0.6 / 255, 0.2))
def test_quantize_off_the_grid_keeps_the_linf_budget(seed: int, eps: float) -> None:
    images = drawn(seed, 2, 3, 5, 5)
    adversarial = (images + budget.project((drawn(seed + 1, 2, 3, 5, 5) - 0.5) * 2, images, eps, "linf")).clamp(0, 1)
    found = budget.quantize(adversarial, images, eps, "linf")
    assert float((found.double() / 255 - images.double()).abs().max()) <= eps + 1e-6


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_quantize_refuses_what_no_level_reaches(norm: Norm) -> None:
    images = torch.full((1, 1, 2, 2), 100.5 / 255)
    with pytest.raises(InputError, match="no 8-bit image"):
        budget.quantize(images, images, 0.2 / 255, norm)


@pytest.mark.parametrize(("text", "value"), [("8/255", 8 / 255), ("0.03", 0.03), ("0", 0.0), ("1e-2", 0.01)])
def test_parse_eps(text: str, value: float) -> None:
    assert budget.parse_eps(text) == value


@pytest.mark.parametrize("text", ["", "x", "1/0", "-1", "nan", "inf", "8/", "1/2/3"])
def test_parse_eps_refuses(text: str) -> None:
    with pytest.raises(InputError, match="--eps"):
        budget.parse_eps(text)


def test_what_reaches_from_any_image_to_any_other_is_refused() -> None:
    with pytest.raises(InputError, match="8/255"):
        budget.check_eps(8.0, "linf", "8")
    size = (3, 4, 5)
    for norm, widest, text in (("l2", 60**0.5, "7.746"), ("l1", 60.0, "60")):
        budget.check_eps(8000.0, norm, "8000")  # type: ignore[arg-type]
        budget.check_eps(widest, norm, str(widest), size)  # type: ignore[arg-type]
        with pytest.raises(
            InputError, match=f"--eps 61: no two images of 3x4x5 are further apart than {text}, so"
        ) as told:
            budget.check_eps(61.0, norm, "61", size)  # type: ignore[arg-type]
        assert ("61/255" in str(told.value)) == (norm == "l2"), "in L1 a 255th is next to nothing"
