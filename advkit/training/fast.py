"""Training on FGSM examples from a random start (Wong, Rice and Kolter 2020: "Fast is better than free")."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from advkit.models.network import Network
from advkit.training.adversarial import AdversarialObjective
from advkit.training.objective import TrainingStep
from advkit.training.params import TrainParams


class FastTraining(AdversarialObjective):
    """The task's losses at points one step from a random start.

    The step of 1.25 eps, cut back to the ball, is the paper's. Its gradient is of another point and another mode than
    the update's, so the two can't share a pass.
    """

    def __init__(self, network: Network, references: Sequence[Network], params: TrainParams, recorded: Any) -> None:
        super().__init__(network, references, params, recorded)
        self.attack_passes = self.passes(1)

    def attack(self, step: TrainingStep) -> Tensor:
        """One step of ``step_size``."""
        return self.strongest(step, 1)
