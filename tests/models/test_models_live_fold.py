"""Batch-norm folded while a network trains: the same values and gradients, in whatever mode each module is."""

from __future__ import annotations

import pytest
import torch
from test_models_fuse import as_network, images, lived_in
from torch import nn

from advkit.models import live_fold
from advkit.models.build import create
from advkit.models.live_fold import LiveFold
from advkit.models.network import Network

TIMM = "tf_efficientnet_lite0"  # BatchNormAct2d, depth-wise convolutions padded to TensorFlow's rule


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def residual() -> Network:
    network = create("advkit/resnet8", num_classes=4, input_size=(3, 16, 16), seed=0)
    lived_in(network.net)
    return network


def detector() -> Network:
    made = create("advkit/fcos", num_classes=2, input_size=(3, 64, 64), seed=0, model_args={"backbone": f"timm/{TIMM}"})
    lived_in(made.net)
    return made


def passed(network: Network, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """What a pass says, the gradients that it leaves, and the buffers after it."""
    leaf = x.clone().requires_grad_()
    said = network(leaf)
    numbers = said if isinstance(said, torch.Tensor) else said.scores()
    numbers.square().sum().backward()
    found = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    network.zero_grad()
    assert leaf.grad is not None
    return found | {"said": numbers.detach(), "x": leaf.grad} | {name: b.clone() for name, b in network.named_buffers()}


@pytest.mark.parametrize("make", [residual, detector])
def test_frozen_statistics_fold_without_a_trace(make):
    """In double precision, where only a wrong fold could differ."""
    network = make().double().eval()
    fold, x = LiveFold(network), images(2, network.spec.input_size).double()
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    assert len(fold.pairs) == norms >= 7
    names, plain = list(network.state_dict()), passed(network, x)
    with fold.applied():
        folded = passed(network, x)
    assert folded.keys() == plain.keys()
    for name, expected in plain.items():
        torch.testing.assert_close(
            folded[name], expected, rtol=1e-9, atol=1e-10 * float(expected.abs().max()), msg=name
        )
    assert list(network.state_dict()) == names
    assert not any("forward" in vars(module) for module in network.modules())


def test_it_goes_by_the_parameters_of_each_pass():
    network = residual().eval()
    fold, x = LiveFold(network), images(2, network.spec.input_size)
    before = network(x)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.1)
    after = network(x)
    assert float((after - before).detach().abs().max()) > 0.01
    with fold.applied():
        torch.testing.assert_close(network(x), after, rtol=1e-4, atol=1e-5)


def test_a_norm_in_training_mode_works_as_ever():
    """To the bit: the statistics of the batch, and running ones that move."""
    network, x = residual(), images(4)
    fold = LiveFold(network)
    assert all(module.training for module in network.modules()), "modes are put back"
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    plain = passed(network, x)
    network.load_state_dict(state)
    with fold.applied():
        folded = passed(network, x)
    assert all(torch.equal(folded[name], expected) for name, expected in plain.items())
    assert not all(torch.equal(folded[name], state[name]) for name in state if name.endswith("running_mean"))


def test_no_batch_norm_runs_where_it_is_folded(monkeypatch):
    network, x = residual().eval(), images(2)
    fold = LiveFold(network)

    def refuse(*_args, **_options):
        raise AssertionError("batch_norm")

    monkeypatch.setattr(nn.functional, "batch_norm", refuse)
    with fold.applied():
        network(x)
    with pytest.raises(AssertionError, match="batch_norm"):
        network(x)


def test_after_an_error_nothing_is_left():
    network = residual().eval()
    fold = LiveFold(network)
    with pytest.raises(ZeroDivisionError), fold.applied():
        raise ZeroDivisionError
    assert not any("forward" in vars(module) for module in network.modules())


def test_a_network_that_runs_otherwise_than_it_traces_is_left_alone(monkeypatch):
    network = as_network(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(784, 4)))
    assert len(LiveFold(network).pairs) == 1
    monkeypatch.setattr(live_fold, "fold_weights", lambda layer, norm: (2 * layer.weight, layer.bias))
    fold = LiveFold(network)
    assert fold.pairs == []
    monkeypatch.undo()
    with fold.applied():
        network(images(2))
