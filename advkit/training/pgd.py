"""Training on PGD examples (Madry et al. 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from advkit.models.network import Network
from advkit.training.adversarial import AdversarialObjective
from advkit.training.objective import TrainingStep
from advkit.training.params import TrainParams


class PGDTraining(AdversarialObjective):
    """The task's losses at points of PGD from a random start."""

    def __init__(self, network: Network, references: Sequence[Network], params: TrainParams, recorded: Any) -> None:
        super().__init__(network, references, params, recorded)
        self.attack_passes = self.passes(self.settings.steps)

    def attack(self, step: TrainingStep) -> Tensor:
        """``steps`` steps of ``step_size``."""
        return self.strongest(step, self.settings.steps)
