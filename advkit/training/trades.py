"""TRADES (Zhang et al. 2019): accuracy on clean images, and predictions that stay as they are around them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from advkit.data import counter_rng
from advkit.models.network import Network
from advkit.tasks.task import probabilistic
from advkit.training.adversarial import AdversarialObjective, AdversarialPoints, ascend
from advkit.training.objective import Terms, TrainingStep
from advkit.training.params import TrainParams

_START = 0.001  # standard deviation of the start, of the authors' code: at the image itself the divergence is flat


class TRADES(AdversarialObjective):
    """Cross-entropy on clean images plus ``beta`` times the divergence of the adversarial from the clean prediction."""

    measures = (*AdversarialObjective.measures, "divergence")
    training_passes = 2, 2

    def __init__(self, network: Network, references: Sequence[Network], params: TrainParams, recorded: Any) -> None:
        super().__init__(network, references, params, recorded)
        self.attack_passes = self.settings.steps + 1, self.settings.steps
        self.probabilities = probabilistic(self.task, "trades")

    def attack(self, step: TrainingStep) -> Tensor:
        """Steps up the divergence from the clean prediction, from a point close by."""
        own = self.settings
        seed = counter_rng.stream("trades start", self.params.seed, step.epoch)
        drawn = counter_rng.normal(seed, step.indices, 0, step.images[0].numel()).view_as(step.images)
        start = (step.images + (_START * drawn).clamp(-own.eps, own.eps)).clamp(0.0, 1.0)
        with torch.no_grad(), self.autocast(step.images):
            clean = self.task.outputs([self.network], step.images)

        def losses(x: Tensor) -> Tensor:
            with self.autocast(x):
                return self.probabilities.divergence(self.task.outputs([self.network], x), clean)

        return ascend(losses, start, step.images, eps=own.eps, step_size=own.step_size, steps=own.steps)

    def terms(self, step: TrainingStep, points: AdversarialPoints) -> Terms:
        """Both terms; batch-norm takes its statistics over clean and adversarial images apart, as the authors' does."""
        smoothing = self.params.label_smoothing
        with self.autocast(step.images):
            clean = self.task.outputs([self.network], step.images)
            moved = self.task.outputs([self.network], points.images)
            losses, correct = self.probabilities.losses_of(clean, step.targets, label_smoothing=smoothing)
            _, still = self.probabilities.losses_of(moved, step.targets)
            divergence = self.probabilities.divergence(moved, clean) * points.chosen
        found = self.counts(points, losses, correct, still) | {"divergence": divergence.detach()}
        return Terms({"loss": losses, "divergence": self.settings.beta * divergence}, found)

    def record(self, sums: Mapping[str, float]) -> dict[str, Any]:
        """Also the mean divergence."""
        return super().record(sums) | {"divergence": sums["divergence"] / max(sums["adversarial"], 1.0)}
