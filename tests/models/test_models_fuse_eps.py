"""Each batch-norm folds with an eps of its own: 1e-5 of torch, 1e-3 of TensorFlow's nets."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from advkit.models.build import assemble
from advkit.models.config import ModelConfig
from advkit.models.fuse import fold_pairs, fuse_conv_bn
from advkit.models.network import Network

SIZE = (3, 8, 8)


def network(first: float, second: float) -> Network:
    """Two convolutions with batch-norms whose variances are so small that eps decides."""
    generator = torch.Generator().manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8, eps=first), nn.ReLU(),
        nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8, eps=second), nn.ReLU(), nn.Flatten(), nn.Linear(128, 4),
    )  # fmt: skip
    with torch.no_grad():
        for tensor in net.parameters():
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.05)
        for norm in (net[1], net[4]):
            norm.running_var.copy_(torch.rand(8, generator=generator) * 1e-3 + 1e-5)
            norm.running_mean.copy_(torch.randn(8, generator=generator) * 0.01)
            norm.weight.fill_(1.0)
    return assemble(net, "test", "test", ModelConfig(4, SIZE, (0.5,) * 3, (0.5,) * 3), {}).eval()


def images() -> Tensor:
    return torch.rand(6, *SIZE, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("first", "second"), [(1e-5, 1e-5), (1e-3, 1e-3), (1e-5, 1e-3), (1e-3, 1e-5)])
def test_folded_is_unfolded(first: float, second: float) -> None:
    plain = network(first, second)
    assert len(fold_pairs(plain.net)) == 2
    folded = fuse_conv_bn(plain)
    assert not [module for module in folded.modules() if isinstance(module, nn.BatchNorm2d)]
    wanted, found = plain(images()).detach(), folded(images())
    scale = float(wanted.abs().max())
    assert float((found - wanted).abs().max()) <= 1e-5 * scale
    other = copy.deepcopy(plain)
    for norm in (other.net[1], other.net[4]):  # type: ignore[index]
        norm.eps = 1e-3 if norm.eps == 1e-5 else 1e-5
    assert float((other(images()).detach() - wanted).abs().max()) > 0.05 * scale  # what a wrong eps would do
