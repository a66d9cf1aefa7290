"""The plain objective: the task's own loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from advkit.models.network import Network
from advkit.tasks.task import task_of
from advkit.training.objective import Terms, TrainingObjective, TrainingStep
from advkit.training.params import TrainParams


class Plain(TrainingObjective):
    """The task's losses on the images as they are."""

    def __init__(self, network: Network, references: Sequence[Network], params: TrainParams, recorded: Any) -> None:
        self._network, self._params, self._task = network, params, task_of([network])

    def __call__(self, step: TrainingStep) -> Terms:
        """The task's losses on the training forward pass."""
        half = self._params.precision == "bfloat16"
        with torch.autocast(step.images.device.type, torch.bfloat16, enabled=half):
            losses, correct = self._task.losses(
                self._network, step.images, step.targets, label_smoothing=self._params.label_smoothing
            )
        return Terms({"loss": losses}, {"loss": losses.detach(), "correct": correct})
