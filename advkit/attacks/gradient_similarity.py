"""Input gradients of networks, and the cosines between them: what the misalignment penalty drives to zero."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from advkit.metrics.gradient_similarity import pairwise_cosines
from advkit.metrics.norms import per_image


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


def input_gradient_cosines(networks: Sequence[nn.Module], images: Tensor, labels: Tensor) -> Tensor:
    """Sums over the batch of the cosines between all networks' input gradients; see :func:`pairwise_cosines`."""
    return pairwise_cosines([margin_gradients(network, images, labels)[0] for network in networks])
