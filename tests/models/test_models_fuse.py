"""Folding: the same function, for every network of the registry, and nothing folded that must not be."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import fx, nn
from torch.func import functional_call

from advkit.models.build import assemble, create
from advkit.models.config import ModelConfig
from advkit.models.fuse import AGREEMENT, fold_pairs, fold_weights, folded_skeleton, fuse_conv_bn
from advkit.models.nets import NETS

SIZE = (3, 16, 16)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def lived_in(net: nn.Module, seed: int = 0) -> nn.Module:
    """``net`` with batch-norms that do something, as after training."""
    generator = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, NORMS):
            for tensor, low, high in ((module.running_mean, -0.3, 0.3), (module.running_var, 0.6, 1.5)):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)
            if module.weight is not None:
                with torch.no_grad():
                    module.weight.copy_(torch.rand(module.weight.shape, generator=generator) * 0.5 + 0.5)
                    module.bias.copy_(torch.rand(module.bias.shape, generator=generator) - 0.5)
    return net


def as_network(net: nn.Module, size=SIZE, classes=4):
    channels = size[0]
    said = ModelConfig(classes, size, (0.5,) * channels, (0.5,) * channels)
    return assemble(net, "test", "test", said, {})


def images(n: int = 4, size=SIZE) -> torch.Tensor:
    return torch.rand(n, *size, generator=torch.Generator().manual_seed(9))


@pytest.mark.parametrize("name", NETS)
def test_every_network_folds_exactly(name):
    network = create(f"advkit/{name}", num_classes=4, input_size=SIZE)
    lived_in(network.net)
    network.eval()
    quick = fuse_conv_bn(network)
    expected, found = network(images()), quick(images())
    scale = expected.abs().max().clamp(min=1)
    assert (expected - found).abs().max() <= 1e-5 * scale
    assert not any(p.requires_grad for p in quick.parameters())
    norms = sum(isinstance(m, NORMS) for m in network.modules())
    assert sum(isinstance(m, NORMS) for m in quick.modules()) == norms - len(fold_pairs(network.net))


@pytest.mark.parametrize(("name", "pairs"), [("resnet20", 19), ("vgg16", 13), ("cnn", 6), ("wrn-16-4", 7),
                                             ("preact-resnet18", 8), ("densenet-40-12", 0)])  # fmt: skip
def test_as_many_pairs_as_the_architecture_has(name, pairs):
    net = create(f"advkit/{name}", num_classes=4, input_size=SIZE).net
    assert len(fold_pairs(net)) == pairs
    assert fold_pairs(net.eval()) == fold_pairs(net.train())


@pytest.mark.parametrize("name", ["timm/resnet18", "timm/efficientnet_b0", "timm/tf_efficientnetv2_b0",
                                  "torchvision/mobilenet_v2"])  # fmt: skip
def test_library_networks_fold(name):
    network = create(name, num_classes=4, input_size=(3, 64, 64))
    lived_in(network.net)
    network.eval()
    quick = fuse_conv_bn(network)
    assert len(fold_pairs(network.net)) >= 20
    expected = network(images(size=(3, 64, 64)))
    assert (expected - quick(images(size=(3, 64, 64)))).abs().max() <= 1e-5 * expected.abs().max().clamp(min=1)
    assert len([m for m in quick.modules() if isinstance(m, nn.BatchNorm2d)]) == 0


@pytest.mark.parametrize("name", NETS)
def test_live_fold_has_the_derivatives_of_the_net(name):
    """Input gradient, and the gradient of its norm in the weights, against the unfolded net; float64."""
    size = (1, 8, 8)
    net = lived_in(create(f"advkit/{name}", num_classes=4, input_size=size).net).double().eval()
    x = images(2, size).double().requires_grad_()

    def penalty(function):
        (gradient,) = torch.autograd.grad(function(x)[:, 0].sum(), x, create_graph=True)
        value = gradient.square().sum()
        weights = [p for p in net.parameters() if p.ndim > 1]
        return gradient.detach(), torch.autograd.grad(value, weights, allow_unused=True)

    live = dict(net.named_parameters()) | dict(net.named_buffers())
    for conv, norm in fold_pairs(net):
        weight, bias = fold_weights(net.get_submodule(conv), net.get_submodule(norm))
        live = {key: value for key, value in live.items() if not key.startswith(f"{norm}.")}
        live |= {f"{conv}.weight": weight, f"{conv}.bias": bias}
    skeleton = folded_skeleton(net, fold_pairs(net)).eval()
    gradient, second = penalty(lambda x: functional_call(skeleton, live, (x,)))
    expected, expected_second = penalty(net)
    torch.testing.assert_close(gradient, expected, rtol=1e-6, atol=1e-10)
    assert any(s is not None and s.abs().max() > 0 for s in second)
    for found, wanted in zip(second, expected_second, strict=True):
        assert (found is None) == (wanted is None)
        if found is not None:
            torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-10)


class Wired(nn.Module):
    """Two convolutions and batch-norms, wired by ``how``."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.bn = nn.BatchNorm2d(3, affine=how != "plain statistics", track_running_stats=how != "batch statistics")
        self.other = nn.BatchNorm2d(3)
        self.again = nn.Conv2d(3, 3, 3, padding=1)
        if how == "tied weights":
            self.again.weight = self.conv.weight
        if how == "two names":
            self.alias = self.conv
        self.linear = nn.Linear(3, 4)

    def forward(self, x):
        y = self.conv(x)
        z = self.bn(y)
        if self.how == "second reader":
            z = z + y
        elif self.how == "conv twice":
            z = z + self.other(self.conv(z))
        elif self.how == "norm twice":
            z = self.bn(self.again(z))
        elif self.how == "between":
            z = self.bn(torch.tanh(y))
        elif self.how == "tied weights":
            z = self.again(z)
        elif self.how == "reads weights":
            z = z * self.conv.weight.mean()
        elif self.how == "control flow" and z.sum() > 0:
            z = z * 2
        return self.linear(torch.relu(z).mean((2, 3)))


@pytest.mark.parametrize(
    ("how", "folds"),
    [("straight", 1), ("plain statistics", 1), ("second reader", 0), ("conv twice", 0), ("norm twice", 0),
     ("between", 0), ("tied weights", 0), ("two names", 0), ("reads weights", 0), ("control flow", 0),
     ("batch statistics", 0)],
)  # fmt: skip
def test_only_what_may_be_folded_is(how, folds):
    torch.manual_seed(0)
    net = lived_in(Wired(how)) if how != "batch statistics" else Wired(how)
    network = as_network(net).eval()
    before = copy.deepcopy(net.state_dict())
    assert len(fold_pairs(net)) == folds
    torch.testing.assert_close(fuse_conv_bn(network)(images()), network(images()), rtol=1e-5, atol=1e-6)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items()), "the original was changed"


class TracedOtherwise(nn.Module):
    """Runs as it is traced but for a factor 1 + ``k`` before batch-norm, which the fold makes a difference of ``k``."""

    def __init__(self, k: float) -> None:
        super().__init__()
        self.k = k
        self.conv = nn.Conv2d(3, 3, 1)
        self.bn = nn.BatchNorm2d(3)
        with torch.no_grad():
            self.conv.weight.copy_(0.1 * torch.eye(3)[:, :, None, None])
            self.conv.bias.zero_()
            self.bn.bias.fill_(1.0)

    def forward(self, x):
        y = self.conv(x)
        return self.bn(y if isinstance(y, fx.Proxy) else y * (1 + self.k)).mean((2, 3))


@pytest.mark.parametrize(("part", "folded"), [(0.0, True), (0.5, True), (2.0, False), (1000.0, False)])
def test_a_fold_that_differs_by_more_than_it_says_is_given_up(part, folded):
    network = as_network(TracedOtherwise(part * AGREEMENT), classes=3).eval()
    quick = fuse_conv_bn(network)
    assert isinstance(quick.net.bn, nn.Identity) == folded
    expected = network(images())
    assert 1 < expected.max() < 1.1
    assert (quick(images()) - expected).abs().max() <= (part if folded else 0) * AGREEMENT + 1e-6


@pytest.mark.parametrize(
    "name",
    [
        "timm/efficientnet_b0",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("timm/resnet50", "torchvision/vgg16_bn")),
    ],
)
def test_library_networks_fold_with_random_weights(name):
    network = create(name, num_classes=4, input_size=(3, 64, 64)).eval()
    assert not [m for m in fuse_conv_bn(network).modules() if isinstance(m, nn.BatchNorm2d)]


def test_linear_then_batch_norm():
    net = lived_in(nn.Sequential(nn.Flatten(), nn.Linear(48, 8, bias=False), nn.BatchNorm1d(8), nn.Linear(8, 4)))
    network = as_network(net, (3, 4, 4)).eval()
    assert fold_pairs(net) == [("1", "2")]
    torch.testing.assert_close(fuse_conv_bn(network)(images(size=(3, 4, 4))), network(images(size=(3, 4, 4))))


def test_hooks_keep_a_layer_whole():
    net = lived_in(Wired("straight"))
    net.conv.register_forward_hook(lambda *a: None)
    assert fold_pairs(net) == []


def test_weights_survive_a_later_step_of_the_statistics():
    """Training updates the running statistics in place between the fold and the backward pass."""
    net = lived_in(Wired("straight"))
    weight, bias = fold_weights(net.conv, net.bn)
    net.bn.running_mean.add_(1)
    net.bn.running_var.mul_(2)
    (weight.sum() + bias.sum()).backward()
    assert net.bn.weight.grad is not None


def test_a_detector_without_batch_norm_is_copied_as_it_is() -> None:
    """Its outputs are no tensor, and there is nothing to compare."""
    network = create("advkit/tiny-ssd", num_classes=2, input_size=(3, 96, 96), seed=0).eval()
    plain = fuse_conv_bn(network)
    images = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    assert plain is not network
    assert not any(parameter.requires_grad for parameter in plain.parameters())
    with torch.no_grad():
        torch.testing.assert_close(plain(images).predictions(), network(images).predictions(), rtol=1e-3, atol=1e-3)
