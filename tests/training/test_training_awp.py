"""Adversarial weight perturbation: how far weights move, which way, and that they come back."""

from __future__ import annotations

import pytest
import torch
from linear_net import a_batch, settings, with_batch_norm
from torch import Tensor

from advkit.models.network import Network
from advkit.training.adversarial import AdversarialObjective
from advkit.training.awp import WeightPerturbation
from advkit.training.objective import Terms, objective_of

pytestmark = pytest.mark.usefixtures("one_thread")
GAMMA = 0.05


def without_dropout() -> Network:
    network = with_batch_norm(2)
    network.net[3].p = 0.0
    return network


def state(network: Network) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.net.state_dict().items()}


@pytest.mark.parametrize("method", ["pgd", "trades", "mart", "fast", "free"])
def test_weights_move_by_their_part_up_the_loss_and_come_back(method: str) -> None:
    values = {"eps": 0.1, "step_size": 0.05, "steps": 2}
    network, step = without_dropout(), a_batch(8)
    plain = objective_of(without_dropout(), [], settings(method, **values), None)
    assert isinstance(plain, AdversarialObjective)
    own = objective_of(network, [], settings(method, awp=GAMMA, **values), None)
    assert isinstance(own, WeightPerturbation)
    assert (own.measures, own.replays) == (plain.measures, plain.replays)
    before = state(network)
    terms, still = own(step), plain(step)
    inside = state(network)
    for name, parameter in network.net.named_parameters():
        length = float((inside[name] - before[name]).norm())
        if parameter.ndim > 1:
            assert length == pytest.approx(GAMMA * float(before[name].norm()), rel=1e-4), name
        else:
            assert length == 0.0, name
    assert total(terms) > total(still)
    assert torch.equal(terms.measures["forwards"], still.measures["forwards"] + plain.training_passes[0])
    torch.autograd.backward(torch.stack(list(terms.losses.values())).sum(0).mean())
    own.after_backward()
    after = state(network)
    assert all(torch.equal(after[name], before[name]) for name, _ in network.net.named_parameters())
    counted = "1.num_batches_tracked"  # of the training pass alone
    assert int(after[counted]) == int(plain.network.net.state_dict()[counted])


def total(terms: Terms) -> float:
    return float(torch.stack(list(terms.losses.values())).sum(0).mean().detach())


def test_a_weight_without_gradient_stays() -> None:
    network = without_dropout()
    with torch.no_grad():
        network.net[6].weight.zero_()  # what is before it has no gradient, and it has no norm
    own = objective_of(network, [], settings("fast", awp=GAMMA, eps=0.1, step_size=0.1), None)
    before = state(network)
    own(a_batch(4))
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.net.named_parameters())
