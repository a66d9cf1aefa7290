"""Cosines between input gradients where they are known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from advkit.attacks.gradient_similarity import input_gradient_cosines, margin_gradients
from advkit.metrics.gradient_similarity import cosines, expected_abs_cosine


class Linear(nn.Module):
    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, images: Tensor) -> Tensor:
        score = (images * self.weight).flatten(1).sum(1)
        return torch.stack([-score, score], 1)


def test_cosines_of_linear_models_are_those_of_their_weights() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 3, 4, 4, generator=generator)
    networks = [Linear(a), Linear(b), Linear(-2 * a), Linear(50 * b)]
    images, labels = torch.rand(6, 3, 4, 4, generator=generator), torch.arange(6) % 2
    signed, absolute, counted = input_gradient_cosines(networks, images, labels)
    assert bool((counted == 6).all())
    c = float((a * b).sum() / (a.norm() * b.norm()))
    expected = torch.tensor([[1, c, -1, c], [c, 1, -c, 1], [-1, -c, 1, -c], [c, 1, -c, 1]], dtype=torch.float64)
    assert torch.allclose(signed / 6, expected, atol=1e-5)
    assert torch.allclose(absolute / 6, expected.abs(), atol=1e-5)


def test_gradients_without_a_direction_are_counted_out_not_in_as_zero() -> None:
    class Patchy(Linear):
        def forward(self, images: Tensor) -> Tensor:
            score = super().forward(images)
            score[0] = score[0].detach().requires_grad_() * images.new_tensor(1.0)
            score[1] = score[1] * float("nan")
            return score

    generator = torch.Generator().manual_seed(3)
    a = torch.randn(3, 4, 4, generator=generator)
    images, labels = torch.rand(5, 3, 4, 4, generator=generator), torch.zeros(5, dtype=torch.int64)
    signed, absolute, counted = input_gradient_cosines([Linear(a), Patchy(a)], images, labels)
    assert counted.tolist() == [[5, 3], [3, 3]]
    assert signed.tolist() == absolute.tolist()
    assert torch.allclose(signed, counted, atol=1e-6), "three images at cosine 1, none at 0 or NaN"


def test_gradient_is_cross_entropys() -> None:
    generator = torch.Generator().manual_seed(1)
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 8), nn.Tanh(), nn.Linear(8, 5)).double()
    images = torch.rand(4, 3, 4, 4, generator=generator, dtype=torch.float64).requires_grad_()
    labels = torch.tensor([0, 1, 4, 2])
    (expected,) = torch.autograd.grad(nn.functional.cross_entropy(network(images), labels, reduction="sum"), images)
    direction, odds = margin_gradients(network, images, labels)
    assert torch.allclose(direction * torch.sigmoid(odds).view(-1, 1, 1, 1), expected, atol=1e-12)
    assert torch.allclose(cosines(direction, expected), torch.ones(4, dtype=torch.float64))
    own = network(images).softmax(1).gather(1, labels[:, None]).squeeze(1).detach()
    assert torch.allclose(torch.sigmoid(odds), 1 - own)


@pytest.mark.parametrize("factor", [1e-30, 1e-18, 1.0, 1e18, 1e30])
def test_cosine_does_not_depend_on_lengths(factor: float) -> None:
    a = torch.tensor([[3.0, 4.0], [1.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    b = torch.tensor([[4.0, 3.0], [0.0, 2.0], [-1.0, -1.0], [1.0, 0.0]])
    assert torch.allclose(cosines(a * factor, b), torch.tensor([0.96, 0.0, -1.0, 0.0]), atol=1e-6)


@pytest.mark.parametrize("dimensions", [1, 2, 3, 64, 3072])
def test_chance_level_is_what_random_directions_have(dimensions: int) -> None:
    known = {1: 1.0, 2: 2 / math.pi, 3: 0.5}
    if dimensions in known:
        assert expected_abs_cosine(dimensions) == pytest.approx(known[dimensions])
    generator = torch.Generator().manual_seed(2)
    drawn = torch.randn(2000, dimensions, generator=generator)
    other = torch.randn(2000, dimensions, generator=generator)
    measured = cosines(drawn, other).abs()
    error = float(measured.std()) / math.sqrt(2000) + 1e-6
    assert abs(float(measured.mean()) - expected_abs_cosine(dimensions)) < 4 * error
