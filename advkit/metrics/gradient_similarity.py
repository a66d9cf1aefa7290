"""How alike the input gradients of networks are: their cosines, and what chance alone would give."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from advkit.metrics.norms import flat_norm


def cosines(a: Tensor, b: Tensor) -> Tensor:
    """(N,) cosines between the flattened images of ``a`` and ``b`` (N, ...); 0 where one of them is zero.

    Differentiable in both. Each image is first scaled by its largest entry: gradients of confident networks are so
    small that their squares underflow.
    """

    def unit(x: Tensor) -> Tensor:
        rows = x.flatten(1)
        largest = flat_norm(x.detach(), "linf").clamp_min(torch.finfo(x.dtype).tiny)
        rows = rows / largest[:, None]
        return rows / rows.square().sum(1, keepdim=True).clamp_min(1e-12).sqrt()

    return (unit(a) * unit(b)).sum(1)


def expected_abs_cosine(dimensions: int) -> float:
    """Mean |cosine| of two independent random directions: Gamma(d/2) / (sqrt(pi) Gamma((d+1)/2)).

    About ``0.8 / sqrt(d)``: 0.0144 for d = 3072, whose root mean square is 0.0180.
    """
    return math.exp(math.lgamma(dimensions / 2) - math.lgamma((dimensions + 1) / 2)) / math.sqrt(math.pi)


def pairwise_cosines(gradients: Sequence[Tensor]) -> Tensor:
    """Sums over N images of the cosines between M networks' input gradients, each (N, C, H, W).

    A gradient that is zero or not finite has no direction: its image is left out of that network's pairs.

    Returns:
        (3, M, M) float64: sums of cosines, of their absolute values, and the number of images.
    """
    sizes = [flat_norm(gradient, "linf") for gradient in gradients]
    defined = [(size > 0) & size.isfinite() for size in sizes]
    sums = torch.zeros(3, len(gradients), len(gradients), dtype=torch.float64)
    for i, a in enumerate(gradients):
        for j in range(i, len(gradients)):
            both = defined[i] & defined[j]
            c = cosines(a, gradients[j]).double()[both]
            sums[:, i, j] = sums[:, j, i] = torch.stack([c.sum(), c.abs().sum(), both.double().sum()]).cpu()
    return sums
