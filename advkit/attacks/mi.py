"""MI: momentum over the gradients (Dong et al. 2018)."""

from __future__ import annotations

import torch
from torch import Tensor

from advkit.attacks.attack import Modifier
from advkit.metrics.norms import flat_norm, per_image


def momentum_step(gradient: Tensor, momentum: Tensor, *, decay: float = 1.0) -> Tensor:
    """``decay`` times the last direction plus the gradient over its mean absolute entry, both (N, C, H, W)."""
    # First by the largest entry: the mean of a tiny gradient would underflow and give NaN.
    gradient = gradient / per_image(flat_norm(gradient, "linf").clamp_min(torch.finfo(gradient.dtype).tiny))
    mean = gradient.abs().mean(dim=(1, 2, 3)).clamp_min(1e-30)
    return decay * momentum + gradient / per_image(mean)


MI = Modifier(
    "mi", "momentum over the gradients (Dong et al. 2018)", momentum_step, {"decay": (0.0, 10.0)}, "accumulate"
)
