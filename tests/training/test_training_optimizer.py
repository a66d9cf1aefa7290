"""Rates and steps in numbers: the schedule at its landmarks, the loop at every step, Nesterov's first step."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from advkit.data import reference as data_reference
from advkit.files.signals import Stop
from advkit.models.build import create
from advkit.tasks.classification import CLASSIFICATION
from advkit.tasks.sampling import limited
from advkit.training import loop
from advkit.training.loop import train
from advkit.training.optimizer import make_optimizer
from advkit.training.params import TrainParams
from advkit.training.run import Run
from advkit.training.schedule import lr_factor

pytestmark = pytest.mark.usefixtures("one_thread")


def test_one_cycle_rises_over_a_fifth_and_falls_along_a_cosine() -> None:
    landmarks = {0: 1 / 21, 9: 10 / 21, 19: 20 / 21, 20: 1.0, 60: 0.5, 80: 0.5 - math.sqrt(0.125), 100: 0.0}
    for step, factor in landmarks.items():
        assert lr_factor("one-cycle", step, 100) == pytest.approx(factor, abs=1e-12), step


def test_every_step_takes_the_rate_of_its_place_in_the_whole_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two epochs of five steps: 1/3 and 2/3 of the peak while it rises, then eight steps of half a cosine."""
    data = limited(CLASSIFICATION, data_reference.load("digits", role="train"), 40, 0)
    network = create("advkit/cnn", num_classes=10, input_size=data.size, seed=1)
    network.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    rates: list[set[float]] = []
    make = make_optimizer

    def watched(*arguments: Any) -> torch.optim.Optimizer:
        optimizer = make(*arguments)
        optimizer.register_step_pre_hook(
            lambda optimizer, args, kwargs: rates.append({group["lr"] for group in optimizer.param_groups})
        )
        return optimizer

    monkeypatch.setattr(loop, "make_optimizer", watched)
    params = TrainParams(epochs=2, batch_size=8, lr=0.3)
    run = Run(network, data, torch.arange(40), torch.arange(0), [], params, None, {})
    train(run, resume=False, stop=Stop(), show=lambda progress: None)
    assert all(len(groups) == 1 for groups in rates)
    expected = [0.1, 0.2, *(0.15 * (1 + math.cos(math.pi * k / 8)) for k in range(8))]
    assert [rate for groups in rates for rate in groups] == pytest.approx(expected)


@pytest.mark.parametrize(("momentum", "first", "second"), [(0.5, 1.5, 1.75), (0.0, 1.0, 1.0)])
def test_momentum_is_nesterovs(momentum: float, first: float, second: float) -> None:
    """Under a gradient of 1 the velocity is 1, then 1 + m; a step is 1 + m times it, not the velocity alone."""
    network = create("advkit/cnn", num_classes=10, input_size=(1, 8, 8), seed=1)
    optimizer = make_optimizer(network, TrainParams(lr=0.5, momentum=momentum, weight_decay=0.0))
    for expected in (first, second):
        before = [parameter.detach().clone() for parameter in network.net.parameters()]
        for parameter in network.net.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        for parameter, start in zip(network.net.parameters(), before, strict=True):
            torch.testing.assert_close(start - parameter.detach(), torch.full_like(start, 0.5 * expected))
