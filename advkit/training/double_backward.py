"""Convolutions whose second derivative costs what a first one does.

PyTorch composes the double backward of a convolution from convolutions with batch and channels swapped, whose kernels
are as large as the images; its own kernels for first derivatives compute the same numbers directly.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advkit.training.double_backward_elements import DoubleBackwardGELU, DoubleBackwardGroupNorm, DoubleBackwardSiLU

_Geometry = tuple[list[int], list[int], list[int], int]  # stride, padding, dilation, groups


def _backward(grad: Tensor, x: Tensor, weight: Tensor, geometry: _Geometry, wanted: list[bool]) -> tuple[Any, ...]:
    stride, padding, dilation, groups = geometry
    bias_sizes = [weight.shape[0]] if wanted[2] else None
    return torch.ops.aten.convolution_backward(  # type: ignore[no-any-return]
        grad, x, weight, bias_sizes, stride, padding, dilation, False, [0, 0], groups, wanted
    )


class _Conv(torch.autograd.Function):
    """A convolution. A backward pass that keeps its graph gives the gradient of the input alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, geometry: _Geometry) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.geometry, ctx.has_bias = geometry, bias is not None
        return F.conv2d(x, weight, bias, *geometry)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        if torch.is_grad_enabled():
            return _InputGradient.apply(grads[0], x.detach(), weight, ctx.geometry), None, None, None
        wanted = [ctx.needs_input_grad[0], ctx.needs_input_grad[1], ctx.has_bias and ctx.needs_input_grad[2]]
        return *_backward(grads[0], x, weight, ctx.geometry, wanted), None


class _InputGradient(torch.autograd.Function):
    """The gradient of a convolution's input: linear in the gradient of the output, and in the weight."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor, x: Tensor, weight: Tensor, geometry: _Geometry) -> Tensor:
        ctx.save_for_backward(grad, weight)
        ctx.geometry = geometry
        found: Tensor = _backward(grad, x, weight, geometry, [True, False, False])[0]
        return found

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad, weight = ctx.saved_tensors
        above = F.conv2d(grads[0], weight, None, *ctx.geometry)
        wanted = [False, True, False]
        return above, None, _backward(grad, grads[0], weight, ctx.geometry, wanted)[1], None


class DoubleBackwardConv2d(nn.Conv2d):
    """Conv2d for :func:`torch.autograd.grad` with ``create_graph`` by the input, then a backward to everything.

    Not for gradients of gradients by the weights: the first pass gives those no graph.
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        assert isinstance(self.padding, tuple)
        geometry = (list(self.stride), list(self.padding), list(self.dilation), self.groups)
        if torch.is_autocast_enabled(input.device.type):  # it does not look into functions of our own
            kind = torch.get_autocast_dtype(input.device.type)
            input, weight, bias = input.to(kind), weight.to(kind), bias.to(kind) if bias is not None else None
        found: Tensor = _Conv.apply(input, weight, bias, geometry)
        return found


def enable_fast_double_backward(net: nn.Module) -> nn.Module:
    """Give every module of ``net`` that has one here its quick second derivative, in place; returns ``net``."""
    for module in net.modules():
        if type(module) is nn.Conv2d and module.padding_mode == "zeros" and isinstance(module.padding, tuple):
            module.__class__ = DoubleBackwardConv2d
        elif type(module) is nn.GroupNorm and module.affine:
            module.__class__ = DoubleBackwardGroupNorm
        elif type(module) is nn.GELU and module.approximate == "none":
            module.__class__ = DoubleBackwardGELU
        elif type(module) is nn.SiLU:
            module.__class__ = DoubleBackwardSiLU
    return net
