"""Two steps of mi and ni by hand, with a decay that is not its own square, on a loss whose gradient is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from advkit.attacks.methods import parse_method
from advkit.attacks.mi import momentum_step
from advkit.attacks.ni import look_ahead
from advkit.attacks.params import AttackParams
from advkit.attacks.run import attack


class Parabola(nn.Module):
    """Two classes; the loss of class 0 is y - 10 (x - 0.55)^2 at the image (x, y), its gradient (11 - 20 x, 1)."""

    def forward(self, images: Tensor) -> Tensor:
        x, y = images.flatten(1).unbind(1)
        loss = y - 10.0 * (x - 0.55).square()
        return torch.stack([-loss, torch.zeros_like(loss)], 1)


# The first step, 0.1 (1, 1) from (0.5, 0.5), follows the gradient (1, 1), and so does the momentum.
# mi: at (0.6, 0.6) the gradient is (-1, 1), of mean 1; the momentum 0.5 (1, 1) + (-1, 1) = (-1/2, 3/2).
# ni: it looks from half a step further, (0.65, 0.65): gradient (-2, 1) over its mean 3/2, plus 0.5 (1, 1).
SECOND = {"mi:decay=0.5": (-1.0, 3.0), "mi:decay=0.5,ni:decay=0.5": (-5.0, 7.0)}


@pytest.mark.parametrize("name", SECOND)
def test_two_steps_with_half_the_momentum(name: str) -> None:
    images, labels = torch.full((1, 1, 1, 2), 0.5), torch.tensor([0])
    step = 0.1 * math.sqrt(2.0)
    params = AttackParams(parse_method(name), eps=1.0, norm="l2", steps=2, step_size=step, loss="logit")
    found = attack([Parabola()], images, labels, torch.arange(1), params).images.flatten().tolist()
    length = math.hypot(*SECOND[name])
    assert found == pytest.approx([0.6 + step * entry / length for entry in SECOND[name]], abs=1e-5)


def test_the_momentum_decays_once_a_step() -> None:
    """Gradients (1, -3), (4, 4), (0, -2) over their means 2, 4, 1: (1, -3)/2, (1, 1), (0, -2)."""
    momentum = torch.zeros(1, 1, 1, 2)
    expected = [[0.5, -1.5], [1.25, 0.25], [0.625, -1.875]]
    for gradient, sum_so_far in zip([[1.0, -3.0], [4.0, 4.0], [0.0, -2.0]], expected, strict=True):
        momentum = momentum_step(torch.tensor(gradient).view(1, 1, 1, 2), momentum, decay=0.5)
        assert momentum.flatten().tolist() == pytest.approx(sum_so_far)


def test_the_look_ahead_is_a_decayed_step_along_the_momentum() -> None:
    x, momentum = torch.full((1, 1, 2, 2), 0.5), torch.tensor([2.0, -1.0, 0.0, 1.0]).view(1, 1, 2, 2)
    assert look_ahead(x, momentum, 0.1, "linf", decay=0.5).flatten().tolist() == pytest.approx([0.6, 0.45, 0.5, 0.55])
    assert look_ahead(x, momentum, 0.1, "l2", decay=0.5).flatten().tolist() == pytest.approx([0.55, 0.475, 0.5, 0.525])
    assert look_ahead(x, momentum, 0.1, "l1", decay=2.0).flatten().tolist() == pytest.approx([0.6, 0.45, 0.5, 0.55])
