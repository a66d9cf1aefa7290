"""Held-out measurements of a network in training: evaluation mode, shared out over the ranks, integer counts."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from advkit.attacks.gradient_similarity import input_gradient_cosines
from advkit.data.images import ImageSet
from advkit.models.network import Network
from advkit.parallel import process_group
from advkit.tasks.prediction import predict
from advkit.tasks.task import task_of

_BATCH, _PIXELS = 256, 256 * 64 * 64


def accuracy(network: Network, data: ImageSet, positions: Tensor) -> tuple[int, int]:
    """Right predictions among the images at ``positions``, and their number."""
    task = task_of([network.eval()])
    device, step = next(network.parameters()).device, images_at_once(data.size)
    share = positions[process_group.rank() :: process_group.world_size()]
    correct = torch.zeros((), dtype=torch.int64)
    for start in range(0, len(share), step):
        images, targets = data.batch(share[start : start + step])
        correct += task.correct(predict([network], images.to(device)).cpu(), targets).sum()
    return int(process_group.sum_over_ranks(correct)), len(positions)


def accuracy_and_figures(
    network: Network, data: ImageSet, positions: Tensor
) -> tuple[int, int, dict[str, float | None]]:
    """As :func:`accuracy`, and what the task tells besides of the images at ``positions``, by name; in one pass.

    Such figures are no sums over images: every rank looks at all of them.
    """
    task = task_of([network.eval()])
    if not task.figures:
        return *accuracy(network, data, positions), {}
    metric, device = task.metric(network.spec.num_classes), next(network.parameters()).device
    step, correct = images_at_once(data.size), 0
    for start in range(0, len(positions), step):
        images, targets = data.batch(positions[start : start + step])
        predictions = predict([network], images.to(device)).cpu()
        correct += int(task.correct(predictions, targets).sum())
        metric.update(predictions, targets)
    found = metric.compute()
    return correct, len(positions), {name: found[name] for name in task.figures}


def images_at_once(size: tuple[int, int, int]) -> int:
    """How many images of ``size`` (C, H, W) to look at in one pass: as many pixels as 256 images of 64x64 have."""
    return max(1, min(_BATCH, _PIXELS // (size[1] * size[2])))


def cosines(
    network: Network, references: Sequence[Network], data: ImageSet, positions: Tensor
) -> list[dict[str, float | int | None]]:
    """Mean cosine, and mean |cosine|, of the input gradients of ``network`` and each reference on held-out images.

    ``images`` counts those where both have a direction; without any the means are None.
    """
    network.eval()
    device = next(network.parameters()).device
    sums = torch.zeros(3, len(references), dtype=torch.float64)
    share = positions[process_group.rank() :: process_group.world_size()]
    for start in range(0, len(share), _BATCH):
        images, targets = data.batch(share[start : start + _BATCH])
        sums += input_gradient_cosines([network, *references], images.to(device), targets.to(device))[:, 0, 1:]
    sums = process_group.sum_over_ranks(sums)
    return [
        {
            "cosine": signed / images if images else None,
            "absolute_cosine": absolute / images if images else None,
            "images": int(images),
        }
        for signed, absolute, images in sums.T.tolist()
    ]
