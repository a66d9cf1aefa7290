"""Frozen batch-norms: the statistics that a training starts with are those that it normalises with, and ends with."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from linear_net import network_of, settings, two_classes
from torch import Tensor, nn

from advkit.files.signals import Stop
from advkit.training.loop import train
from advkit.training.params import TrainParams
from advkit.training.run import Run

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("freeze", [True, False])
@pytest.mark.parametrize("adversarial", [True, False])
def test_frozen_statistics_are_normalised_with_and_kept(freeze: bool, adversarial: bool) -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(3)
    norm.running_mean, norm.running_var = torch.tensor([0.1, -0.2, 0.3]), torch.tensor([0.5, 1.0, 2.0])
    bias = norm.bias.detach().clone()
    before = {name: buffer.clone() for name, buffer in norm.named_buffers()}
    net = nn.Sequential(nn.Conv2d(1, 3, 3), norm, nn.ReLU(), nn.Flatten(), nn.Linear(108, 2))
    frozen: list[bool] = []

    def look(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        expected = nn.functional.batch_norm(
            inputs[0], before["running_mean"], before["running_var"], module.weight, module.bias
        )
        frozen.append(torch.allclose(output, expected, atol=1e-5))

    params = TrainParams(epochs=1, batch_size=8, lr=0.1, freeze_bn=freeze)
    if adversarial:
        params = replace(settings("pgd", params, eps=0.1, step_size=0.1), freeze_bn=freeze)
    hook = norm.register_forward_hook(look)
    run = Run(network_of(net), two_classes(), torch.arange(32), torch.arange(0), [], params, None, {})
    train(run, resume=False, stop=Stop(), show=lambda progress: None)
    hook.remove()
    assert all(frozen) == freeze
    assert all(torch.equal(buffer, before[name]) for name, buffer in norm.named_buffers()) == freeze
    assert not torch.equal(norm.bias, bias), "what follows them is trained"


@pytest.mark.parametrize(
    ("freeze", "adversarial", "expected"), [(True, True, 0), (True, False, 0), (False, True, 4), (False, False, 4)]
)
def test_batch_norm_runs_on_statistics_of_the_batch_alone(
    freeze: bool, adversarial: bool, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In an attack, or frozen, it is part of the layer before it: four steps of training are left."""
    ran = 0
    batch_norm = nn.functional.batch_norm

    def counted(*args: Any, **options: Any) -> Tensor:
        nonlocal ran
        ran += 1
        return batch_norm(*args, **options)

    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 2))
    params = TrainParams(epochs=1, batch_size=8, lr=0.1, freeze_bn=freeze)
    if adversarial:
        params = replace(settings("pgd", params, eps=0.1, step_size=0.05, steps=3), freeze_bn=freeze)
    run = Run(network_of(net), two_classes(), torch.arange(32), torch.arange(0), [], params, None, {})
    network_of(net)(torch.rand(2, 1, 8, 8))  # its first call may load modules
    with monkeypatch.context() as patch:
        patch.setattr(nn.functional, "batch_norm", counted)
        patch.setattr("advkit.models.live_fold.agree", lambda network, folded: True)
        train(run, resume=False, stop=Stop(), show=lambda progress: None)
    assert ran == expected
