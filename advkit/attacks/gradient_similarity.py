"""Cosines between the input gradients of networks: what the misalignment penalty drives to zero."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from advkit.attacks.budget import flat_norm, per_image


def margin_gradients(
    network: nn.Module, images: Tensor, labels: Tensor, *, create_graph: bool = False
) -> tuple[Tensor, Tensor]:
    """Direction of the gradient of each image's own cross-entropy, free of underflow.

    Cross-entropy is softplus(m) with m = logsumexp of the other logits - the true one, so its gradient is sigmoid(m)
    times the gradient of m. On confident networks the first factor underflows, and the second derivative of a cosine
    taken after it overflows; the cosine needs the second factor only.

    Args:
        network: from images in [0, 1] to logits; in eval mode, or batch-mates would leak into each other.
        images: (N, C, H, W) float in [0, 1].
        labels: (N,) int64.
        create_graph: keep the graph, to differentiate once more.

    Returns:
        gradient of m (N, C, H, W), and m (N,): sigmoid(m) is the slope, softplus(m) the cross-entropy; detached
        unless ``create_graph``.
    """
    x = images.detach().requires_grad_()
    with torch.enable_grad():
        logits = network(x).to(x.dtype)  # under autocast too
        own = logits.gather(1, labels[:, None]).squeeze(1)
        others = logits.scatter(1, labels[:, None], float("-inf")).logsumexp(1)
        m = others - own
        (gradient,) = torch.autograd.grad(m.sum(), x, create_graph=create_graph)
    return gradient, m if create_graph else m.detach()


def input_gradients(network: nn.Module, images: Tensor, labels: Tensor, *, create_graph: bool = False) -> Tensor:
    """Gradient of each image's own cross-entropy, (N, C, H, W); arguments as :func:`margin_gradients`."""
    direction, m = margin_gradients(network, images, labels, create_graph=create_graph)
    return direction * per_image(m.sigmoid())


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


def input_gradient_cosines(networks: Sequence[nn.Module], images: Tensor, labels: Tensor) -> Tensor:
    """Sums over the batch of the cosines between all networks' input gradients; see :func:`pairwise_cosines`."""
    return pairwise_cosines([margin_gradients(network, images, labels)[0] for network in networks])


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
