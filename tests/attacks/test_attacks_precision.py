"""Attacks that compute in bfloat16 stop on what float32 says, and are as strong."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advkit.attacks.faster_precision import IMAGES, faster_precision
from advkit.attacks.methods import parse_method
from advkit.attacks.params import AttackParams
from advkit.attacks.run import attack
from advkit.models.network import Network


class Close(nn.Module):
    """Class 1 by a margin that bfloat16 rounds away: there both logits are equal, and the first one wins."""

    def forward(self, images: Tensor) -> Tensor:
        return F.linear(images.flatten(1), torch.tensor([[1.0], [1.001]]))


def settings(**more: object) -> AttackParams:
    common = {"eps": 0.01, "steps": 4, "goal": "robustness", "precision": "bfloat16"}
    return AttackParams(parse_method("mi"), **{**common, **more})  # type: ignore[arg-type]


@pytest.mark.parametrize("restarts", [1, 2])
def test_an_image_is_not_left_before_float32_says_that_it_is_fooled(restarts: int) -> None:
    image, label = torch.full((1, 1, 1, 1), 0.5), torch.tensor([1])
    with torch.autocast("cpu", torch.bfloat16):
        assert int(Close()(image).argmax(1)) == 0, "the trap is set"
    found = attack([Close()], image, label, torch.arange(1), settings(restarts=restarts))
    assert found.backwards >= 4 * restarts


@pytest.mark.parametrize("goal", ["robustness", "transfer"])
@pytest.mark.parametrize("eps", [4 / 255, 8 / 255, 16 / 255])
def test_success_in_float32_is_that_of_a_float32_attack(
    eps: float, goal: str, trained: Network, test_digits: tuple[Tensor, Tensor]
) -> None:
    """The loss is a mean and says it finely; which of the images at the border fall is a matter of rounding."""
    images, labels = test_digits
    held, losses = [], []
    for precision in ("float32", "bfloat16"):
        params = settings(eps=eps, goal=goal, precision=precision, steps=8)
        logits = trained(attack([trained], images, labels, torch.arange(len(labels)), params).images)
        held.append(int((logits.argmax(1) == labels).sum()))
        losses.append(float(F.cross_entropy(logits, labels)))
    assert losses[1] >= 0.98 * losses[0]
    assert held[1] <= held[0] + 0.03 * len(labels)
    assert held[0] < len(labels)


class Slow(nn.Module):
    """Takes its time where it works in the given precision."""

    def __init__(self, slow: torch.dtype) -> None:
        super().__init__()
        self.layer, self.slow, self.passes = nn.Linear(4, 4), slow, 0

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.layer(images.flatten(1))
        self.passes += 1
        if found.dtype == self.slow:
            time.sleep(0.02)
        return found


@pytest.mark.parametrize("method", ["pgd", "square:queries=5000"])
def test_auto_is_what_a_few_passes_show_to_be_faster(method: str) -> None:
    images, targets = torch.rand(80, 1, 2, 2), torch.zeros(80).long()
    params = AttackParams(parse_method(method), steps=100)
    assert len(images) > IMAGES
    for slow, expected in ((torch.float32, "bfloat16"), (torch.bfloat16, "float32")):
        assert faster_precision([Slow(slow)], images, targets, params, 10_000) == expected
    network = Slow(torch.float32)
    assert (
        faster_precision([network], images, targets, replace(params, method=parse_method("pgd"), steps=2), 8)
        == "float32"
    )
    assert network.passes == 0, "so few images are not worth a measurement"
