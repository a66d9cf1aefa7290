"""The nearest point of a hyperplane inside the box of all images."""

from __future__ import annotations

import torch
from torch import Tensor

from advkit.attacks.l1_ball import largest_first
from advkit.metrics.norms import Norm


def to_hyperplane(x: Tensor, w: Tensor, c: Tensor, norm: Norm) -> Tensor:
    """The smallest step d with ``w . d = c`` and ``x + d`` in [0, 1]; where none is, as far towards it as the box lets.

    Every entry goes the way that c needs, to ``t`` (Linf) or ``t |w|`` (L2) or its edge of the box, whichever comes
    first. What that gains is concave and piecewise linear in ``t``, so that Newton's steps from 0 pass at least one
    kink each, never go too far, and soon end on the right piece. In L1 the entries with the largest ``|w|`` go to the
    edge, the last of them only as far as c needs.

    Args:
        x, w: (N, D), ``x`` in [0, 1].
        c: (N,).
        norm: that is smallest.
    """
    largest = w.abs().amax(1, keepdim=True).clamp_min(torch.finfo(x.dtype).tiny)  # whose square may not be a number
    w, c = w / largest, c / largest.squeeze(1)
    weight, way = w.abs(), w.sign() * c.sign()[:, None]
    room = torch.where(way > 0, 1.0 - x, torch.where(way < 0, x, torch.zeros_like(x))).clamp_min(0.0)
    if norm == "l1":
        exact = weight.double()  # one entry takes what all others round
        gains = largest_first(weight, exact * room, c.abs()[:, None])
        return way * torch.minimum((gains / exact.clamp_min(torch.finfo(x.dtype).tiny)).to(x.dtype), room)
    speed = torch.ones_like(weight) if norm == "linf" else weight  # of each entry with t
    need, enough = c.abs()[:, None], 1.0 - 4.0 * torch.finfo(x.dtype).eps
    t, moved = torch.zeros_like(need), torch.zeros_like(room)
    for _ in range(x.shape[1] + 1):
        gained = (weight * moved).sum(1, keepdim=True)
        slope = torch.where(t * speed < room, weight * speed, 0.0).sum(1, keepdim=True)
        short = (gained < need * enough) & (slope > 0)
        if not bool(short.any()):
            break
        t = torch.where(short, t + (need - gained) / slope.clamp_min(torch.finfo(x.dtype).tiny), t)
        moved = torch.minimum((t * speed).nan_to_num(nan=0.0), room)  # NaN: an infinite t where nothing moves
    return way * moved
