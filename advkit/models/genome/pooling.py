"""Means over squares of a map, as often differentiable as one likes, and quick on processors.

On a CPU a depthwise convolution with a constant kernel is two to four times as quick as torch's average pooling in
channels-last order, whose gradient also begins by filling a map with zeros. The map is linear, so all that its
derivatives need is itself and its transpose.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def downsample(x: Tensor, times: int) -> Tensor:
    """``x`` (N, C, H, W) averaged over squares of side 2**times; those at the border over what is there."""
    side = 2**times
    if not times:
        return x
    if x.device.type != "cpu" or x.shape[2] % side or x.shape[3] % side:
        return F.avg_pool2d(x, side, ceil_mode=True)
    found: Tensor = _Squares.apply(x, side)
    return found


def avg_pool3(x: Tensor) -> Tensor:
    """``x`` (N, C, H, W) averaged over 3x3 squares around each place; at the border over what is there."""
    if x.device.type != "cpu":
        return F.avg_pool2d(x, 3, 1, padding=1, count_include_pad=False)
    rows, columns = (_reach(size, x) for size in x.shape[2:])
    found: Tensor = _Sum3.apply(x)
    return found / (rows[:, None] * columns)


def _reach(size: int, like: Tensor) -> Tensor:
    """How many of three neighbours there are, along one side."""
    reach = torch.full((size,), 3.0, dtype=like.dtype, device=like.device)
    reach[0] -= 1.0
    reach[-1] -= 1.0
    return reach


def _sums(x: Tensor, side: int, stride: int, padding: int) -> Tensor:
    kernel = torch.ones(x.shape[1], 1, side, side, dtype=x.dtype, device=x.device)
    with torch.autocast(x.device.type, enabled=False):  # a mean is no convolution that may round its input
        return F.conv2d(x, kernel, None, stride, padding, 1, x.shape[1])


class _Sum3(torch.autograd.Function):
    """Sums over 3x3 squares: its own transpose."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return _sums(x, 3, 1, 1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        found: Tensor = _Sum3.apply(grads[0])
        return found


class _Squares(torch.autograd.Function):
    """Means over squares that tile the map."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, side: int) -> Tensor:
        ctx.side = side
        return _sums(x, side, side, 0).div_(side * side)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return _Spread.apply(grads[0], ctx.side), None


class _Spread(torch.autograd.Function):
    """The transpose of :class:`_Squares`: each value, shared evenly by its square."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor, side: int) -> Tensor:
        ctx.side = side
        return F.interpolate(grad / (side * side), scale_factor=side)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return _Squares.apply(grads[0], ctx.side), None
