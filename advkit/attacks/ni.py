"""NI: Nesterov's look-ahead along the momentum of mi (Lin et al. 2020)."""

from __future__ import annotations

import math

from torch import Tensor

from advkit.attacks.attack import Modifier
from advkit.metrics.norms import Norm


def look_ahead(x: Tensor, momentum: Tensor, step: float, norm: Norm, *, decay: float = 1.0) -> Tensor:
    """The point (N, C, H, W) one step ahead of ``x`` along ``momentum``.

    The momentum's mean entry is about 1: a step's length in Linf, but sqrt(C H W) of them in L2.
    """
    return x + step * decay / (math.sqrt(x[0].numel()) if norm == "l2" else 1.0) * momentum


NI = Modifier(
    "ni",
    "Nesterov's look-ahead, with momentum (Lin et al. 2020)",
    look_ahead,
    {"decay": (0.0, 10.0)},
    "look_ahead",
    brings="mi",
)
