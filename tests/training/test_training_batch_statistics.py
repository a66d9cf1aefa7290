"""Precise batch-norm: statistics of whole batches, and what becomes of everything else."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from advkit.data import reference as data_reference
from advkit.data.images import ImageSet
from advkit.files.signals import Stop
from advkit.models.build import create
from advkit.models.network import Network
from advkit.reports import train as reports
from advkit.training import loop
from advkit.training.batch_statistics import precise_batch_norm
from advkit.training.evaluation import accuracy
from advkit.training.measurement import accuracy_with_precise_bn
from advkit.training.order import epoch_order
from advkit.training.params import TrainParams
from advkit.training.run import Run

POSITIONS = torch.arange(96)


@pytest.fixture(scope="module")
def digits() -> ImageSet:
    return data_reference.load("digits", role="train")


@pytest.fixture
def network(digits: ImageSet) -> Network:
    return create("advkit/cnn", num_classes=10, input_size=digits.size, seed=0)


def norms(network: Network) -> list[nn.BatchNorm2d]:
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]


def test_one_batch_gives_its_own_mean_and_biased_variance(network: Network, digits: ImageSet) -> None:
    inputs: list[torch.Tensor] = []
    norms(network)[0].register_forward_hook(lambda module, given, output: inputs.append(given[0].detach()))
    precise_batch_norm(network, digits, POSITIONS, TrainParams(batch_size=96), 0)
    (first,) = inputs
    norm = norms(network)[0]
    assert norm.running_mean is not None
    assert norm.running_var is not None
    torch.testing.assert_close(norm.running_mean, first.mean((0, 2, 3)))
    torch.testing.assert_close(norm.running_var, first.var((0, 2, 3), unbiased=False))


def test_several_batches_are_pooled_in_the_first_layer_to_what_one_batch_of_all_gives(
    network: Network, digits: ImageSet
) -> None:
    found = []
    for size in (96, 32):
        precise_batch_norm(network, digits, POSITIONS, TrainParams(batch_size=size), 0)
        norm = norms(network)[0]
        assert norm.running_mean is not None
        assert norm.running_var is not None
        found.append((norm.running_mean.clone(), norm.running_var.clone()))
    torch.testing.assert_close(found[0], found[1])


def test_inference_on_the_batch_is_then_what_training_mode_computes(network: Network, digits: ImageSet) -> None:
    images = digits.batch(POSITIONS)[0]
    state = {name: tensor.clone() for name, tensor in network.net.state_dict().items()}
    with torch.no_grad():
        expected = network.train()(images)
    network.net.load_state_dict(state)
    precise_batch_norm(network, digits, POSITIONS, TrainParams(batch_size=96), 0)
    assert not network.training
    with torch.no_grad():
        torch.testing.assert_close(network(images), expected, atol=1e-4, rtol=1e-4)


def test_frozen_layers_momentum_and_counts_stay(network: Network, digits: ImageSet) -> None:
    frozen = norms(network)[1]
    frozen.train = lambda mode=True: frozen  # type: ignore[method-assign, assignment]
    frozen.training = False
    before = {name: tensor.clone() for name, tensor in network.net.state_dict().items()}
    precise_batch_norm(network, digits, POSITIONS, TrainParams(batch_size=32), 0)
    changed = {name for name, tensor in network.net.state_dict().items() if not torch.equal(tensor, before[name])}
    own = {name for name, module in network.net.named_modules() if module is not frozen and module in norms(network)}
    assert changed == {f"{name}.{kind}" for name in own for kind in ("running_mean", "running_var")}
    assert {norm.momentum for norm in norms(network)} == {0.1}


def _run(network: Network, digits: ImageSet, params: TrainParams) -> Run:
    return Run(network, digits, torch.arange(256), torch.arange(256, 320), [], params, None, {})


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_the_checkpoint_holds_the_statistics_of_its_own_weights(network: Network, digits: ImageSet, ema: float) -> None:
    params = TrainParams(epochs=2, batch_size=64, precise_bn=128, ema=ema)
    run = _run(network, digits, params)
    loop.train(run, resume=False, stop=Stop(), show=lambda progress: None)
    saved = {name: tensor.clone() for name, tensor in network.net.state_dict().items()}
    order = run.train[epoch_order(256, 0, 1)][:128]
    precise_batch_norm(network, digits, order, params, 1)
    for name, tensor in network.net.state_dict().items():
        assert torch.equal(tensor, saved[name]), name
    correct, total = accuracy(network, digits, run.validation)
    assert (run.history[-1]["validation_right"], run.history[-1]["validation_images"]) == (correct, total)


def test_weights_are_trained_as_without(digits: ImageSet) -> None:
    found = []
    for count in (0, 128):
        network = create("advkit/cnn", num_classes=10, input_size=digits.size, seed=0)
        run = _run(network, digits, TrainParams(epochs=2, batch_size=64, precise_bn=count))
        loop.train(run, resume=False, stop=Stop(), show=lambda progress: None)
        found.append(dict(network.net.named_parameters()))
    assert all(torch.equal(tensor, found[1][name]) for name, tensor in found[0].items())


def test_stale_averages_are_found_and_told(network: Network, digits: ImageSet) -> None:
    params = TrainParams(epochs=1, batch_size=64)
    run = _run(network, digits, params)
    loop.train(run, resume=False, stop=Stop(), show=lambda progress: None)
    state = {name: tensor.clone() for name, tensor in network.net.state_dict().items()}
    fresh = accuracy_with_precise_bn(run)
    assert fresh is not None
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.net.state_dict().items())
    for norm in norms(network):
        assert norm.running_mean is not None
        norm.running_mean.add_(100.0)  # as averages of long ago may be
    assert accuracy_with_precise_bn(run) == fresh
    run.history[-1]["validation_right"] = 40
    assert any("--precise-bn" in flag for flag in reports.flags(run, 44))
    assert not any("--precise-bn" in flag for flag in reports.flags(run, 43))
    assert not any("--precise-bn" in flag for flag in reports.flags(run))
    run.params = replace(params, precise_bn=64)
    assert accuracy_with_precise_bn(run) is None
