"""Logits and classes of networks, alone or as an ensemble."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def ensemble_logits(networks: Sequence[nn.Module], images: Tensor) -> Tensor:
    """(N, K) mean of the networks' logits (Dong et al. 2018, their strongest ensemble), float32."""
    total: Tensor = networks[0](images)
    for network in networks[1:]:
        total = total + network(images)
    return (total if total.dtype == torch.float64 else total.float()) / len(networks)


def classes_of(logits: Tensor) -> Tensor:
    """(N,) int64 the largest of ``logits`` (N, K); -1 where one is NaN or infinite."""
    return torch.where(torch.isfinite(logits).all(1), logits.argmax(1), -1)
