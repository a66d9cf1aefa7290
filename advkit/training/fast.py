"""Training on FGSM examples from a random start (Wong, Rice and Kolter 2020: "Fast is better than free")."""

from __future__ import annotations

from torch import Tensor

from advkit.training.adversarial import AdversarialObjective, ascend
from advkit.training.objective import TrainingStep


class FastTraining(AdversarialObjective):
    """The task's losses at points one step from a random start.

    The step of 1.25 eps, cut back to the ball, is the paper's. Its gradient is of another point and another mode than
    the update's, so the two can't share a pass.
    """

    attack_passes = 1, 1

    def attack(self, step: TrainingStep) -> Tensor:
        """One step of ``step_size``."""
        start, own = self.random_start(step), self.settings
        return ascend(self.attack_losses(step), start, step.images, eps=own.eps, step_size=own.step_size, steps=1)
