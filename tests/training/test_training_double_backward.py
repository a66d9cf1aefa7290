"""The quick second derivative of a convolution is torch's own, whatever the geometry."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from advkit.training.double_backward import DoubleBackwardConv2d, enable_fast_double_backward

GEOMETRIES = {
    "plain": {},
    "strided": {"stride": 2},
    "uneven": {"stride": (2, 1), "padding": (0, 2), "kernel_size": (3, 5)},
    "dilated": {"dilation": 2, "padding": 2},
    "grouped": {"groups": 2},
    "depthwise": {"groups": 4},
    "no bias": {"bias": False},
}


def derivatives(net: nn.Module, x: Tensor) -> list[Tensor]:
    """Gradients, by every parameter, of a function of the input's gradient and of the output."""
    x = x.clone().requires_grad_()
    out = net(x)
    (first,) = torch.autograd.grad(out.pow(3).sum(), x, create_graph=True)
    loss = (first * torch.linspace(-1, 1, first.numel(), dtype=x.dtype).view_as(first)).sum() + out.square().sum()
    return [first.detach(), *torch.autograd.grad(loss, list(net.parameters()))]


@pytest.mark.parametrize("name", GEOMETRIES)
def test_second_derivatives_are_those_of_autograd(name: str) -> None:
    torch.manual_seed(0)
    options = {"kernel_size": 3, "padding": 1} | GEOMETRIES[name]
    net = nn.Sequential(nn.Conv2d(4, 8, **options), nn.SiLU(), nn.Conv2d(8, 4, 3)).double()  # type: ignore[arg-type]
    x = torch.randn(3, 4, 9, 8, dtype=torch.float64)
    expected = derivatives(net, x)
    found = derivatives(enable_fast_double_backward(net), x)
    assert sum(isinstance(module, DoubleBackwardConv2d) for module in net) == 2
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


ELEMENTS = {
    "gelu": nn.GELU(),
    "silu": nn.SiLU(),
    "in place": nn.SiLU(inplace=True),
    "group norm": nn.GroupNorm(2, 8),
    "layer norm": nn.GroupNorm(1, 8, eps=0.1),
    "instance norm": nn.GroupNorm(8, 8),
}


@pytest.mark.parametrize("last", [False, True], ids=["channels first", "channels last"])
@pytest.mark.parametrize("name", ELEMENTS)
def test_second_derivatives_of_elements_and_norms(name: str, last: bool) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(4, 8, 3), deepcopy(ELEMENTS[name]), nn.Tanh(), nn.Conv2d(8, 4, 3)).double()
    for parameter in net.parameters():
        nn.init.normal_(parameter, 0.3, 0.5)  # no weight of 1, no bias of 0
    x = torch.randn(3, 4, 9, 8, dtype=torch.float64)
    if last:
        x, net = x.contiguous(memory_format=torch.channels_last), net.to(memory_format=torch.channels_last)
    expected = derivatives(net, x)
    before = type(net[1])
    found = derivatives(enable_fast_double_backward(net), x)
    assert type(net[1]) is not before
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_group_norm_of_vectors_and_of_nothing() -> None:
    net = enable_fast_double_backward(nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.GroupNorm(2, 8)))
    assert len(derivatives(net, torch.randn(2, 3, 2, 2))) == 5
    assert enable_fast_double_backward(nn.GroupNorm(2, 8))(torch.randn(0, 8, 3, 3)).shape == (0, 8, 3, 3)


@pytest.mark.parametrize("module", [nn.GELU(), nn.SiLU()], ids=["GELU", "SiLU"])
def test_curvature_at_half_precision_is_exact_but_for_rounding(module: nn.Module) -> None:
    """Computed in bfloat16 it would lose all digits where it crosses zero."""
    x = torch.linspace(-4, 4, 801).bfloat16()
    curved = []
    for net, values in ((enable_fast_double_backward(deepcopy(module)), x), (module, x.double())):
        values = values.clone().requires_grad_()
        (slope,) = torch.autograd.grad(net(values).sum(), values, create_graph=True)
        curved.append(torch.autograd.grad(slope.sum(), values)[0].double())
    found, exact = curved
    assert float(((found - exact).abs() - 2**-8 * exact.abs()).max()) < 1e-5


def test_group_norm_of_half_precision_is_computed_in_single() -> None:
    torch.manual_seed(0)
    net, x = enable_fast_double_backward(nn.GroupNorm(2, 8)), torch.randn(3, 8, 5, 5).bfloat16()
    found = net(x)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, nn.functional.group_norm(x.float(), 2, net.weight, net.bias))


def test_what_has_no_quick_second_derivative_is_left_to_torch() -> None:
    others = [nn.GELU(approximate="tanh"), nn.GroupNorm(2, 8, affine=False), nn.ReLU(), nn.BatchNorm2d(8)]
    assert [type(module) for module in enable_fast_double_backward(nn.Sequential(*others))] == [
        type(module) for module in others
    ]


def test_other_paddings_are_left_to_torch() -> None:
    net = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect"), nn.Conv2d(3, 3, 3, padding="same"))
    assert not any(isinstance(module, DoubleBackwardConv2d) for module in enable_fast_double_backward(net))
