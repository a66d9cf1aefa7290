"""Activations and group norm whose second derivatives are written out.

PyTorch composes them from dozens of passes over the maps, and lays group norm's out anew; each of these is a few
passes in the order that the maps have.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_Map = Callable[[Tensor], Tensor]
_Slope = Callable[[Tensor, Tensor], Tensor]


def _gelu_slope(grad: Tensor, x: Tensor) -> Tensor:
    return torch.ops.aten.gelu_backward(grad, x)  # type: ignore[no-any-return]


def _gelu_curvature(x: Tensor) -> Tensor:
    """(2 - x^2) times the density of the standard normal distribution."""
    square = x.square()
    density = square.mul(-0.5).exp_().mul_(1.0 / math.sqrt(2.0 * math.pi))
    return square.neg_().add_(2.0).mul_(density)


def _silu_slope(grad: Tensor, x: Tensor) -> Tensor:
    return torch.ops.aten.silu_backward(grad, x)  # type: ignore[no-any-return]


def _silu_curvature(x: Tensor) -> Tensor:
    """s (1 - s) (2 + x (1 - 2 s)) with s = sigmoid(x)."""
    s = x.sigmoid()
    inner = s.mul(-2.0).add_(1.0).mul_(x).add_(2.0)
    return inner.mul_(s).mul_(s.neg_().add_(1.0))


class _Pointwise(torch.autograd.Function):
    """f(x), element by element; ``slope`` (g, x) gives g f'(x) and ``curvature`` f''(x)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, f: _Map, slope: _Slope, curvature: _Map) -> Tensor:
        ctx.save_for_backward(x)
        ctx.slope, ctx.curvature = slope, curvature
        return f(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        found: Tensor = _Sloped.apply(grads[0], x, ctx.slope, ctx.curvature)
        return found, None, None, None


class _Sloped(torch.autograd.Function):
    """g f'(x): linear in g."""

    @staticmethod
    def forward(ctx: Any, grad: Tensor, x: Tensor, slope: _Slope, curvature: _Map) -> Tensor:
        ctx.save_for_backward(grad, x)
        ctx.slope, ctx.curvature = slope, curvature
        return slope(grad, x)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad, x = ctx.saved_tensors
        curved = ctx.curvature(x.to(torch.promote_types(x.dtype, torch.float32)))
        return ctx.slope(grads[0], x), curved.mul_(grad).mul_(grads[0]).to(x.dtype), None, None


class DoubleBackwardGELU(nn.GELU):
    """The exact GELU."""

    def forward(self, input: Tensor) -> Tensor:
        found: Tensor = _Pointwise.apply(input, F.gelu, _gelu_slope, _gelu_curvature)
        return found


class DoubleBackwardSiLU(nn.SiLU):
    """SiLU, never in place."""

    def forward(self, input: Tensor) -> Tensor:
        found: Tensor = _Pointwise.apply(input, F.silu, _silu_slope, _silu_curvature)
        return found


class _GroupNorm(torch.autograd.Function):
    """Group norm. A backward pass that keeps its graph gives the gradient of the input alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:
        out, mean, rstd = torch.native_group_norm(x, weight, bias, *_sizes(x), groups, eps)
        ctx.save_for_backward(x, weight, mean, rstd)
        ctx.groups = groups
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, rstd = ctx.saved_tensors
        if torch.is_grad_enabled():
            found: Tensor = _NormInputGradient.apply(grads[0], x, weight, mean.detach(), rstd.detach(), ctx.groups)
            return found, None, None, None, None
        wanted = [bool(ctx.needs_input_grad[place]) for place in range(3)]
        return *_norm_backward(grads[0], x, weight, mean, rstd, ctx.groups, wanted), None, None


class _NormInputGradient(torch.autograd.Function):
    """The gradient of a group norm's input.

    With h the normalised input, a = weight * grad, and means <.> over a group, it is r (a - <a> - h <a h>): a
    projection P(a), times r = 1 / standard deviation. P is symmetric, so the derivative by grad is weight * r P(v) for
    v from above. By the input it is -r^2 (P(<v h> a + <a h> v) + q h) with q = <a v> - <a> <v> - <a h> <v h>.
    """

    @staticmethod
    def forward(ctx: Any, grad: Tensor, x: Tensor, weight: Tensor, mean: Tensor, rstd: Tensor, groups: int) -> Tensor:
        ctx.save_for_backward(grad, x, weight, mean, rstd)
        ctx.groups = groups
        found: Tensor = _norm_backward(grad, x, weight, mean, rstd, groups, [True, False, False])[0]
        return found

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        grad, x, weight, mean, rstd = ctx.saved_tensors
        u, h, v = _rows(grad), _rows(x), _rows(grads[0])
        count, channels = x.shape[:2]
        size = channels // ctx.groups

        def spread(value: Tensor) -> Tensor:  # (N, groups) to (N, C)
            return torch.repeat_interleave(value, size, 1)

        def average(sums: Tensor) -> Tensor:  # (N, C) sums over places to (N, C) means over groups
            return spread(sums.view(count, -1, size).sum(2) / (size * h.shape[1]))

        m, r = spread(mean.view(count, ctx.groups)), spread(rstd.view(count, ctx.groups))
        sum_u, sum_v, sum_uv = u.sum(1), v.sum(1), (u * v).sum(1)
        sum_uh, sum_vh = r * ((u * h).sum(1) - m * sum_u), r * ((v * h).sum(1) - m * sum_v)
        a, ah, one_v, vh = average(weight * sum_u), average(weight * sum_uh), average(sum_v), average(sum_vh)
        q = average(weight * sum_uv) - a * one_v - ah * vh

        by_weight = (r * (sum_uv - one_v * sum_u - vh * sum_uh)).sum(0)
        by_grad = _combined([(v, weight * r), (h, -weight * r.square() * vh)], -weight * r * (one_v - r * m * vh))
        slope = -(r**3) * (q - 2.0 * ah * vh)
        constant = r.square() * (vh * a + ah * one_v) - slope * m
        by_input = _combined([(u, -r.square() * vh * weight), (v, -r.square() * ah), (h, slope)], constant)
        return _maps(by_grad, x), _maps(by_input, x), by_weight, None, None, None


class DoubleBackwardGroupNorm(nn.GroupNorm):
    """GroupNorm with weight and bias, in float32 at least. Not for gradients of gradients by these."""

    def forward(self, input: Tensor) -> Tensor:
        if input.ndim != 4 or not len(input):
            return super().forward(input)
        input = input.to(torch.promote_types(input.dtype, self.weight.dtype))
        found: Tensor = _GroupNorm.apply(input, self.weight, self.bias, self.num_groups, self.eps)
        return found


def _sizes(x: Tensor) -> tuple[int, int, int]:
    return x.shape[0], x.shape[1], x[0, 0].numel()


def _norm_backward(
    grad: Tensor, x: Tensor, weight: Tensor, mean: Tensor, rstd: Tensor, groups: int, wanted: list[bool]
) -> tuple[Any, ...]:
    last = torch.channels_last if x.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
    grad = grad.contiguous(memory_format=last)
    return torch.ops.aten.native_group_norm_backward(  # type: ignore[no-any-return]
        grad, x, mean, rstd, weight, *_sizes(x), groups, wanted
    )


def _rows(x: Tensor) -> Tensor:
    """(N, C, H, W) as (N, HW, C): a view where channels come last."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def _maps(rows: Tensor, like: Tensor) -> Tensor:
    """What :func:`_rows` was made from."""
    return rows.view(like.shape[0], *like.shape[2:], -1).permute(0, 3, 1, 2)


def _combined(terms: list[tuple[Tensor, Tensor]], constant: Tensor) -> Tensor:
    """Sum of (N, P, C) maps times (N, C) factors, plus (N, C)."""
    (first, factor), *rest = terms
    out = first * factor[:, None]
    for rows, factor in rest:
        out.addcmul_(rows, factor[:, None])
    return out.add_(constant[:, None])
