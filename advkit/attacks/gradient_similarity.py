"""Input gradients of networks, and the cosines between them: what the misalignment penalty drives to zero."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from advkit.metrics.gradient_similarity import pairwise_cosines
from advkit.models.passes import in_parts
from advkit.tasks.task import task_of


def margin_gradients(
    network: nn.Module, images: Tensor, targets: Tensor, *, create_graph: bool = False
) -> tuple[Tensor, Tensor]:
    """Direction of the gradient of each image's own training loss, free of underflow.

    The loss is softplus(m) with m the task's margin (for classes: logsumexp of the other logits - the true one), so
    its gradient is sigmoid(m) times the gradient of m. On confident networks the first factor underflows, and the
    second derivative of a cosine taken after it overflows; the cosine needs the second factor only.

    Args:
        network: from images in [0, 1] to raw outputs; in eval mode, or batch-mates would leak into each other.
        images: (N, C, H, W) float in [0, 1].
        targets: (N, ...) what the task wants of each image.
        create_graph: keep the graph, to differentiate once more.

    Returns:
        gradient of m (N, C, H, W), and m (N,): sigmoid(m) is the slope, softplus(m) the loss; detached
        unless ``create_graph``.
    """
    x = images.detach().requires_grad_()
    with torch.enable_grad():
        task = task_of([network])
        m = task.margin(task.outputs([network], x), targets)
        (gradient,) = torch.autograd.grad(m.sum(), x, create_graph=create_graph)
    return gradient, m if create_graph else m.detach()


def input_gradient_cosines(networks: Sequence[nn.Module], images: Tensor, targets: Tensor) -> Tensor:
    """Sums over the batch of the cosines between all networks' input gradients; see :func:`pairwise_cosines`."""

    def gradients(network: nn.Module) -> Tensor:
        parts, _ = in_parts(lambda part: margin_gradients(network, images[part], targets[part])[0], len(images))
        return torch.cat(parts)

    return pairwise_cosines([gradients(network) for network in networks])
