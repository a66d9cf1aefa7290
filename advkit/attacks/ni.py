"""NI: Nesterov's look-ahead along the momentum of mi (Lin et al. 2020)."""

from __future__ import annotations

import math

from torch import Tensor

from advkit.attacks.attack import Modifier
from advkit.metrics.norms import Norm


def look_ahead(x: Tensor, momentum: Tensor, step: float, norm: Norm, *, decay: float = 1.0) -> Tensor:
    """The point (N, C, H, W) one step ahead of ``x`` along ``momentum``.

    The momentum's mean entry is about 1: a step's length in Linf, but sqrt(C H W) of them in L2, and C H W in L1.
    """
    size = x[0].numel()
    return x + step * decay / {"linf": 1.0, "l2": math.sqrt(size), "l1": float(size)}[norm] * momentum


NI = Modifier(
    "ni",
    "Nesterov's look-ahead, with momentum (Lin et al. 2020)",
    look_ahead,
    {"decay": (0.0, 10.0)},
    "look_ahead",
    brings="mi",
)
