"""Reasons not to trust what an attack says of a network, found on one batch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from advkit.models.passes import in_parts
from advkit.tasks.task import task_of


def sanity_checks(network: nn.Module, images: Tensor) -> list[str]:
    """Flags among those below (Carlini et al. 2019; Pintor et al. 2022).

    ``random-forward`` (two passes differ), ``softmax-output`` (rows are probabilities, on which cross-entropy
    gradients vanish), ``not-finite`` and ``train-mode``.

    Args:
        network: as loaded.
        images: (N, C, H, W) float in [0, 1].
    """
    task = task_of([network])

    def outputs() -> Any:
        return task.joined(*in_parts(lambda part: task.outputs([network], images[part]), len(images)))

    with torch.no_grad():
        found = task.output_flags(outputs(), outputs())
    return ["train-mode", *found] if any(module.training for module in network.modules()) else found
