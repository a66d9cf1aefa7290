"""An average of weights over the steps of a training, with exponentially fading memory."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def warmed_up(decay: float, step: int) -> float:
    """``decay`` in ``step``, counted from 0: short memory at first, so that the start is soon forgotten.

    By (1 + step) / (10 + step) until that reaches ``decay``: the average is over about the last tenth of the steps.
    """
    return min(decay, (1 + step) / (10 + step))


def move_average(average: Mapping[str, Tensor], weights: Mapping[str, Tensor], decay: float) -> None:
    """average = decay average + (1 - decay) weights, in place, by name; whole numbers are those of ``weights``."""
    with torch.no_grad():
        for name, tensor in average.items():
            if tensor.is_floating_point():
                tensor.mul_(decay).add_(weights[name], alpha=1.0 - decay)
            else:
                tensor.copy_(weights[name])
