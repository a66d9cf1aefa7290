"""MART (Wang et al. 2020): a stronger loss on adversarial images, and a divergence that counts where the clean
prediction is unsure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from advkit.models.network import Network
from advkit.tasks.task import probabilistic
from advkit.training.adversarial import AdversarialObjective, AdversarialPoints, ascend
from advkit.training.objective import Terms, TrainingStep
from advkit.training.params import TrainParams


class MART(AdversarialObjective):
    """Boosted cross-entropy plus ``beta`` (1 - p) times the divergence, p the truth's probability on the clean image.

    Clean images, where only a part is adversarial, have their cross-entropy.
    """

    measures = (*AdversarialObjective.measures, "divergence")
    training_passes = 2, 2

    def __init__(self, network: Network, references: Sequence[Network], params: TrainParams, recorded: Any) -> None:
        super().__init__(network, references, params, recorded)
        self.attack_passes = self.settings.steps, self.settings.steps
        self.probabilities = probabilistic(self.task, "mart")

    def attack(self, step: TrainingStep) -> Tensor:
        """PGD on the cross-entropy from a random start."""
        start, own = self.random_start(step), self.settings
        losses = self.attack_losses(step, self.objective)
        return ascend(losses, start, step.images, eps=own.eps, step_size=own.step_size, steps=own.steps)

    def terms(self, step: TrainingStep, points: AdversarialPoints) -> Terms:
        """Both terms, with a pass over the clean images and one over the adversarial ones."""
        smoothing, chosen = self.params.label_smoothing, points.chosen
        with self.autocast(step.images):
            clean = self.task.outputs([self.network], step.images)
            moved = self.task.outputs([self.network], points.images)
            plain, correct = self.probabilities.losses_of(clean, step.targets, label_smoothing=smoothing)
            own, still = self.probabilities.losses_of(moved, step.targets, label_smoothing=smoothing)
            boosted = own + self.probabilities.runner_up_losses(moved, step.targets)
            unsure = 1.0 - self.probabilities.confidence(clean, step.targets)
            divergence = self.probabilities.divergence(moved, clean) * unsure * chosen
        losses = boosted.where(chosen, plain)
        found = self.counts(points, losses, correct, still) | {"divergence": divergence.detach()}
        return Terms({"loss": losses, "divergence": self.settings.beta * divergence}, found)

    def record(self, sums: Mapping[str, float]) -> dict[str, Any]:
        """Also the mean weighted divergence."""
        return super().record(sums) | {"divergence": sums["divergence"] / max(sums["adversarial"], 1.0)}
