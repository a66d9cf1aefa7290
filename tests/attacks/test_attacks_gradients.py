"""Gradients too small for float32, none at all, or no numbers: what an attack makes of them, and what it counts."""

from __future__ import annotations

import pytest
import torch
from test_attacks_loop import Dead, Tiny, run
from torch import Tensor, nn

from advkit.attacks.methods import parse_method
from advkit.attacks.params import AttackParams
from advkit.attacks.run import attack
from advkit.metrics.norms import Norm
from advkit.models.network import Network


class Scaled(nn.Module):
    """``network`` with its logits multiplied: the same decisions, no cross-entropy gradient."""

    def __init__(self, network: nn.Module, factor: float) -> None:
        super().__init__()
        self.network, self.factor = network, factor

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images) * self.factor


class Poisoned(nn.Module):
    """NaN for all-bright images, a linear model else."""

    def forward(self, images: Tensor) -> Tensor:
        score = images.flatten(1).mean(1)
        bad = torch.where(score > 0.9, torch.nan, 1.0)
        return torch.stack([score * bad, -score * bad], 1)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_over_confident_network_is_noticed_and_fooled(
    norm: Norm, trained: Network, test_digits: tuple[Tensor, Tensor]
) -> None:
    images, labels = test_digits[0][:60], test_digits[1][:60]
    network = Scaled(trained, 1e4)
    image = images.clone().requires_grad_()
    torch.autograd.backward(nn.functional.cross_entropy(network(image), labels, reduction="sum"))
    assert image.grad is not None
    silent = image.grad.flatten(1).abs().amax(1) == 0
    assert float(silent.float().mean()) > 0.9  # the trap is set
    params = AttackParams(parse_method("mi"), eps=24 / 255 if norm == "linf" else 2.0, norm=norm)
    found = attack([network], images, labels, torch.arange(60), params)
    assert bool(torch.isfinite(found.images).all())
    assert bool(found.zero_gradients[silent].all())
    assert not found.dead.any()
    rate = float((network(found.images).argmax(1) != labels).float().mean())
    honest = run(trained, images, labels, method="mi", eps=params.eps, norm=norm, loss="margin")
    assert rate > 0.8
    assert rate >= float((trained(honest).argmax(1) != labels).float().mean()) - 0.05


@pytest.mark.parametrize("factor", [1e-12, 1e-25, 1e-36])
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("method", ["mi", "ni", "ti", "pgd"])
def test_tiny_gradients_give_the_same_attack(method: str, norm: Norm, factor: float) -> None:
    """Squares and means of gradients this small underflow; directions must not."""
    images, classes = torch.rand(3, 3, 9, 9, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2])
    common = {"method": method, "norm": norm, "eps": 0.1, "steps": 3, "loss": "margin"}
    small = run(Scaled(Tiny(), factor), images, classes, **common)
    plain = run(Tiny(), images, classes, **common)
    assert float((small - plain).abs().mean()) < 1e-4


@pytest.mark.parametrize("method", ["fgsm", "pgd", "mi,di,ti", "ni", "si"])
def test_dead_network_is_counted_as_dead(method: str) -> None:
    images = torch.rand(4, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    params = AttackParams(parse_method(method), steps=2)
    found = attack([Dead()], images, torch.zeros(4, dtype=torch.int64), torch.arange(4), params)
    assert found.dead.all()
    assert found.zero_gradients.all()
    assert bool(torch.isfinite(found.images).all())
    if not params.starts_random:
        assert torch.equal(found.images, images)


def test_one_dead_image_does_not_touch_its_neighbours() -> None:
    images = torch.rand(4, 3, 9, 9, generator=torch.Generator().manual_seed(0)) * 0.5
    images[2] = 1.0  # NaN logits there
    labels = torch.zeros(4, dtype=torch.int64)
    params = AttackParams(parse_method("mi"), eps=0.1, steps=3)
    found = attack([Poisoned()], images, labels, torch.arange(4), params)
    assert found.dead.tolist() == [False, False, True, False]
    assert found.zero_gradients.tolist() == [False, False, True, False]
    assert bool(torch.isfinite(found.images).all())
    assert torch.equal(found.images[2], images[2])
    healthy = [0, 1, 3]
    assert float((found.images - (images - 0.1).clamp(0, 1))[healthy].abs().max()) < 1e-6
