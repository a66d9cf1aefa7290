"""Norms taken over each image of a batch."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Norm = Literal["linf", "l2", "l1"]


def flat_norm(x: Tensor, norm: Norm) -> Tensor:
    """(N,) norms of the images of ``x``; the L2 norm neither under- nor overflows."""
    rows = x.flatten(1)
    if norm == "l1":
        return rows.abs().sum(1)
    largest = rows.abs().amax(1)
    if norm == "linf":
        return largest
    scale = largest.clamp_min(torch.finfo(x.dtype).tiny)
    length: Tensor = torch.linalg.vector_norm(rows / scale[:, None], dim=1)
    return length * scale


def per_image(values: Tensor) -> Tensor:
    """(N,) to (N, 1, 1, 1)."""
    return values.view(-1, 1, 1, 1)
