"""Losses and their gradients, also where a network is very sure of itself."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from advkit.tasks.classification import CLASSIFICATION, cross_entropy

LOSSES = CLASSIFICATION.attack_losses


def logits(scale: float, count: int = 64, classes: int = 10) -> torch.Tensor:
    return scale * torch.randn(count, classes, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


@pytest.mark.parametrize("scale", [0.1, 1.0, 5.0])
@pytest.mark.parametrize("targeted", [False, True])
def test_cross_entropy_is_cross_entropy(scale: float, targeted: bool) -> None:
    values, classes = logits(scale), torch.arange(64) % 10
    expected = F.cross_entropy(values, classes, reduction="none")
    torch.testing.assert_close(cross_entropy(values, classes, targeted), -expected if targeted else expected)


@pytest.mark.parametrize("scale", [1.0, 3.0, 10.0, 20.0])
def test_its_direction_in_float32_is_that_of_float64_however_sure_the_network(scale: float) -> None:
    """The direction by the input of a linear network; p - 1 would be exactly 0 for the class from a margin of 17 on."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(10, 30, generator=generator, dtype=torch.float64)
    x = torch.randn(200, 30, generator=generator, dtype=torch.float64) * scale / 5
    classes = (x @ weight.T).argmax(1)

    def direction(dtype: torch.dtype) -> torch.Tensor:
        point = x.to(dtype).requires_grad_()
        loss = cross_entropy(point @ weight.to(dtype).T, classes, False)
        return torch.autograd.grad(loss.sum(), point)[0].double()

    exact, found = direction(torch.float64), direction(torch.float32)
    margins = -(torch.logsumexp((x @ weight.T).scatter(1, classes[:, None], -torch.inf), 1) - (x @ weight.T).amax(1))
    counted = margins < 80  # beyond, the gradient as a whole underflows, which is noticed and answered
    assert counted.sum() > 50
    if scale > 15:
        assert (margins[counted] > 17).sum() > 20, "nobody is sure enough here for the usual form to fail"
    agreement = (found.sign() == exact.sign()).double().mean(1)[counted]
    assert agreement.min() > 0.9
    assert agreement.mean() > 0.999


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_grows_towards_the_attackers_aim(name: str) -> None:
    values = torch.tensor([[3.0, 0.0, -1.0, -2.0]])
    closer = torch.tensor([[1.0, 0.0, -1.0, -2.0]])
    zero, one = torch.tensor([0]), torch.tensor([1])
    assert LOSSES[name](closer, zero, False) > LOSSES[name](values, zero, False)
    raised = torch.tensor([[3.0, 2.0, -1.0, -2.0]])
    assert LOSSES[name](raised, one, True) > LOSSES[name](values, one, True)
