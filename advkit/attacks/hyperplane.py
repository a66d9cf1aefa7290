"""The nearest point of a hyperplane inside the box of all images."""

from __future__ import annotations

import torch
from torch import Tensor

from advkit.metrics.norms import Norm


def to_hyperplane(x: Tensor, w: Tensor, c: Tensor, norm: Norm) -> Tensor:
    """The smallest step d with ``w . d = c`` and ``x + d`` in [0, 1]; where none is, as far towards it as the box lets.

    Every entry goes the way that c needs, to ``t`` (Linf) or ``t |w|`` (L2) or its edge of the box, whichever comes
    first; what that gains is piecewise linear in ``t``, so that the right one is found between two sorted kinks.

    Args:
        x, w: (N, D), ``x`` in [0, 1].
        c: (N,).
        norm: that is smallest.
    """
    weight, way = w.abs(), w.sign() * c.sign()[:, None]
    room = torch.where(way > 0, 1.0 - x, torch.where(way < 0, x, torch.zeros_like(x))).clamp_min(0.0)
    speed = torch.ones_like(weight) if norm == "linf" else weight  # of each entry with t
    kink = torch.where(weight > 0, room / speed.clamp_min(torch.finfo(x.dtype).tiny), torch.zeros_like(room))
    order = kink.argsort(1)
    kink = kink.gather(1, order)
    slope = (weight * speed * (room > 0)).gather(1, order)  # what each entry gains with t before its edge
    at_edge = (weight * room).gather(1, order).cumsum(1)  # gained by those that have reached theirs
    moving = slope.sum(1, keepdim=True) - slope.cumsum(1)  # slope of those that have not
    gained, need = at_edge + kink * moving, c.abs()[:, None]
    first = (gained < need).sum(1, keepdim=True).clamp_max(x.shape[1] - 1)  # the first kink that gains enough
    before = (first - 1).clamp_min(0)
    none = first == 0
    edge = torch.where(none, torch.zeros_like(need), at_edge.gather(1, before))
    rate = torch.where(none, slope.sum(1, keepdim=True), moving.gather(1, before))
    t = (need - edge) / rate.clamp_min(torch.finfo(x.dtype).tiny)
    t = torch.minimum(t, kink.gather(1, first))
    return way * torch.minimum(t * speed, room)
