"""Means over squares are torch's average pooling, with all derivatives, in whatever order the maps lie."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from advkit.models.genome.pooling import avg_pool3, downsample

CASES: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "halved": (lambda x: downsample(x, 1), lambda x: F.avg_pool2d(x, 2, ceil_mode=True)),
    "quartered": (lambda x: downsample(x, 2), lambda x: F.avg_pool2d(x, 4, ceil_mode=True)),
    "smoothed": (avg_pool3, lambda x: F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)),
}


@pytest.mark.parametrize("size", [(8, 8), (8, 12), (7, 6), (5, 1), (1, 1)], ids=str)
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("last", [False, True], ids=["channels first", "channels last"])
def test_values_and_derivatives_are_those_of_torch(name: str, size: tuple[int, int], last: bool) -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 5, *size, dtype=torch.float64, requires_grad=True)
    results = []
    for function in CASES[name]:
        out = function(x.contiguous(memory_format=torch.channels_last) if last else x)
        (first,) = torch.autograd.grad(out.pow(3).sum(), x, create_graph=True)
        (second,) = torch.autograd.grad((first.square() * torch.linspace(-1, 1, x.numel()).view_as(x)).sum(), x)
        results.append((out, first, second))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("size", [(8, 8), (7, 5)], ids=str)
@pytest.mark.parametrize("name", CASES)
def test_autocast_does_not_round(name: str, size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        found = CASES[name][0](x)
    torch.testing.assert_close(found, CASES[name][1](x))


def test_nothing_to_halve() -> None:
    x = torch.randn(1, 2, 3, 3)
    assert downsample(x, 0) is x
