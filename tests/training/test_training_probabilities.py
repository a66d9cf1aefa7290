"""TRADES and MART, which compare probabilities of clean and adversarial images."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from adversarial import objective
from linear_net import a_batch, a_step, linear, settings, with_batch_norm
from torch import Tensor, nn

from advkit.data import counter_rng
from advkit.files.errors import InputError
from advkit.tasks import task as tasks
from advkit.training.adversarial import AdversarialPoints, as_attacked
from advkit.training.objective import Terms

pytestmark = pytest.mark.usefixtures("one_thread")
EPS = 0.1


HAND_STEP = a_step(torch.zeros(2, 1, 1, 1), torch.tensor([0, 0]))
HAND_POINTS = AdversarialPoints(torch.ones(2, 1, 1, 1), torch.tensor([True, False]))


def hand_terms(method: str, slope: float = math.log(3.0), **values: float) -> tuple[Terms, nn.Parameter]:
    """Clean predictions (1/2, 1/2), adversarial ones (1/4, 3/4); the second image stays clean."""
    network = linear(torch.tensor([[0.0], [slope]]), (1, 1, 1))
    terms = objective(network, settings(method, **values)).terms(HAND_STEP, HAND_POINTS)
    return terms, next(network.parameters())


def test_trades_against_hand_values() -> None:
    terms, _ = hand_terms("trades", beta=6.0)
    divergence = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    torch.testing.assert_close(terms.losses["loss"], torch.full((2,), math.log(2.0)))
    torch.testing.assert_close(terms.losses["divergence"], torch.tensor([6.0 * divergence, 0.0]))
    assert terms.measures["adversarial"].tolist() == [1.0, 0.0]
    assert terms.measures["adversarial_correct"].tolist() == [0.0, 0.0]


def test_mart_against_hand_values() -> None:
    terms, _ = hand_terms("mart", beta=5.0)
    boosted = -math.log(0.25) - math.log(1.0 - 0.75)
    divergence = (1.0 - 0.5) * (0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75))
    torch.testing.assert_close(terms.losses["loss"], torch.tensor([boosted, math.log(2.0)]))
    torch.testing.assert_close(terms.losses["divergence"], torch.tensor([5.0 * divergence, 0.0]))


@pytest.mark.parametrize("method", ["trades", "mart"])
def test_their_gradients_go_through_both_predictions(method: str) -> None:
    """By the slope of the second logit, against differences; the clean image is at 0.5, so that both move with it."""
    step = replace(HAND_STEP, images=torch.full((2, 1, 1, 1), 0.5))

    def total(slope: float) -> tuple[Tensor, nn.Parameter]:
        network = linear(torch.tensor([[0.0], [slope]]), (1, 1, 1))
        losses = objective(network, settings(method, beta=2.0)).terms(step, HAND_POINTS).losses
        return torch.stack(list(losses.values())).sum(), next(network.parameters())

    loss, weight = total(1.2)
    torch.autograd.backward(loss)
    assert weight.grad is not None
    difference = float((total(1.21)[0] - total(1.19)[0]).detach()) / 0.02
    assert float(weight.grad[1, 0]) == pytest.approx(difference, rel=1e-3)


def test_trades_starts_close_and_climbs_the_divergence() -> None:
    """At the image itself the divergence has no gradient; an attack on the cross-entropy would need no start."""
    network, step = with_batch_norm(5), a_batch(seed=4)
    own = objective(network, settings("trades", eps=EPS, step_size=EPS / 4, steps=5))
    few = objective(network, settings("trades", eps=EPS, step_size=0.0, steps=1))
    start = few.points(step).images - step.images
    assert 0.0005 < float(start.std()) < 0.0015
    with as_attacked(network), torch.no_grad():
        clean = network(step.images)
        compare = tasks.probabilistic(own.task, "").divergence
        near, far = (compare(network(each.points(step).images), clean) for each in (few, own))
    assert bool((far > 10 * near).all())


def test_methods_that_compare_probabilities_say_so_to_a_task_without() -> None:
    class Boxes:
        name = "boxes"

    with pytest.raises(InputError, match="--method trades: models for boxes give no probabilities"):
        tasks.probabilistic(Boxes(), "trades")  # type: ignore[arg-type]


def test_trades_start_is_a_normal_draw_of_the_image() -> None:
    step = a_batch()
    own = objective(linear(torch.zeros(2, 64)), settings("trades", eps=EPS, step_size=0.0, steps=1))
    seed = counter_rng.stream("trades start", 0, 0)
    drawn = 0.001 * counter_rng.normal(seed, step.indices, 0, 64).view_as(step.images)
    torch.testing.assert_close(own.points(step).images, (step.images + drawn).clamp(0, 1))
