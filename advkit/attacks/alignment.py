"""Cosines between the input gradients of networks: what the misalignment penalty drives to zero."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advkit.attacks.budget import flat_norm


def input_gradients(network: nn.Module, images: Tensor, labels: Tensor, *, create_graph: bool = False) -> Tensor:
    """Gradient of each image's own cross-entropy with respect to that image.

    Args:
        network: from images in [0, 1] to logits; in eval mode, or batch-mates would leak into each other.
        images: (N, C, H, W) float in [0, 1].
        labels: (N,) int64.
        create_graph: keep the graph, to differentiate the gradient once more.

    Returns:
        (N, C, H, W), detached unless ``create_graph``.
    """
    x = images.detach().requires_grad_()
    with torch.enable_grad():
        loss = F.cross_entropy(network(x), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, x, create_graph=create_graph)
    return gradient


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


def chance_level(dimensions: int) -> float:
    """Mean |cosine| of two independent random directions: Gamma(d/2) / (sqrt(pi) Gamma((d+1)/2)).

    About ``0.8 / sqrt(d)``: 0.0144 for d = 3072, whose root mean square is 0.0180.
    """
    return math.exp(math.lgamma(dimensions / 2) - math.lgamma((dimensions + 1) / 2)) / math.sqrt(math.pi)


def cosine_sums(networks: Sequence[nn.Module], images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Sums over the batch of the cosines, and of their absolute values, between all networks' input gradients.

    Returns:
        two (M, M) float64 tensors for M networks.
    """
    gradients = [input_gradients(network, images, labels) for network in networks]
    signed = torch.zeros(len(networks), len(networks), dtype=torch.float64)
    absolute = signed.clone()
    for i, a in enumerate(gradients):
        for j in range(i, len(gradients)):
            c = cosines(a, gradients[j]).double()
            signed[i, j] = signed[j, i] = c.sum()
            absolute[i, j] = absolute[j, i] = c.abs().sum()
    return signed, absolute
