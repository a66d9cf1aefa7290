"""TI: gradients smoothed by a Gaussian (Dong et al. 2019)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from advkit.attacks.attack import Modifier


def default_kernel(side: int) -> int:
    """Odd width of the TI kernel: 15 at the paper's 299 pixels, in proportion elsewhere, at least 5."""
    return max(5, 2 * round(side / 40) + 1)


def smoothed(gradient: Tensor, *, kernel: int | None = None) -> Tensor:
    """``gradient`` (N, C, H, W) convolved with a Gaussian that ends at three standard deviations.

    ``kernel`` is its odd width in pixels; None takes :func:`default_kernel`.
    """
    kernel = kernel or default_kernel(min(gradient.shape[-2:]))
    reach = kernel // 2
    line = torch.exp(-0.5 * torch.linspace(-3.0, 3.0, kernel, device=gradient.device, dtype=gradient.dtype) ** 2)
    line = (line / line.sum()).view(1, 1, -1)
    channels = gradient.shape[1]
    down = line.view(1, 1, -1, 1).expand(channels, 1, -1, 1)
    across = line.view(1, 1, 1, -1).expand(channels, 1, 1, -1)
    half = F.conv2d(gradient, down, padding=(reach, 0), groups=channels)
    return F.conv2d(half, across, padding=(0, reach), groups=channels)


TI = Modifier("ti", "gradients smoothed by a Gaussian (Dong et al. 2019)", smoothed, {"kernel": (1, 1023)}, "filter")
