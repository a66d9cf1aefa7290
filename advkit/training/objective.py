"""What a training minimises: named terms, one number for each image. A new objective is one file and one line here."""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

if TYPE_CHECKING:
    from advkit.models.network import Network
    from advkit.training.params import TrainParams


@dataclass(frozen=True)
class TrainingStep:
    """One step of a training, this process's share of it.

    Attributes:
        images: (N, C, H, W) float32 in [0, 1], augmented.
        targets: (N, ...) what the task wants of them.
        indices: (N,) int64 identities, which key randomness.
        epoch: the pass over the data that the batch belongs to, from 0; it keys randomness.
        number: of the step, from 0, counted over all epochs.
        steps: in an epoch.
    """

    images: Tensor
    targets: Tensor
    indices: Tensor
    epoch: int
    number: int
    steps: int

    def take(self, which: Tensor) -> TrainingStep:
        """The images at ``which`` (positions or a mask)."""
        return replace(self, images=self.images[which], targets=self.targets[which], indices=self.indices[which])


@dataclass(frozen=True)
class Terms:
    """What an objective says of one step.

    Attributes:
        losses: (N,) each, differentiable: the step minimises the mean over images of their sum.
        measures: (N,) each, detached: summed over images for progress and report. ``loss`` and ``correct`` are always
            among them.
    """

    losses: dict[str, Tensor]
    measures: dict[str, Tensor]


class TrainingObjective(ABC):
    """An objective of one run.

    Attributes:
        measures: names of what :attr:`Terms.measures` holds.
        replays: consecutive steps that are taken on one batch.
        trained: weights of the objective's own, which are trained beside the network's; None without any.
    """

    measures: tuple[str, ...] = ("loss", "correct")
    replays: int = 1
    trained: nn.Module | None = None

    @abstractmethod
    def __call__(self, step: TrainingStep) -> Terms:
        """The terms of one step; the network is in training mode and runs its training forward pass here."""

    def after_backward(self) -> None:  # noqa: B027  (most have nothing to do)
        """Called when the gradients of a step's loss are there, before the weights move."""

    def after_step(self) -> None:  # noqa: B027
        """Called when the weights have moved."""

    def prepare_inference(self) -> None:  # noqa: B027
        """Called before the network is measured and where the training ends: it gets what inference is to have.

        What it was is put back after a measurement.
        """

    def record(self, sums: Mapping[str, float]) -> dict[str, Any]:
        """What an epoch's sums of ``images`` and :attr:`measures` say beyond loss and accuracy."""
        return {}

    def state(self) -> dict[str, Tensor]:
        """What is carried from step to step, of all ranks together: every rank calls this."""
        return {}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:  # noqa: B027
        """Go on from what :meth:`state` gave.

        Raises:
            ValueError: tensors that do not fit.
        """


OBJECTIVES: dict[str, str] = {
    "plain": "advkit.training.plain:Plain",
    "misaligned": "advkit.training.misalign:Misaligned",
    "pgd": "advkit.training.pgd:PGDTraining",
    "trades": "advkit.training.trades:TRADES",
    "mart": "advkit.training.mart:MART",
    "fast": "advkit.training.fast:FastTraining",
    "free": "advkit.training.free:FreeTraining",
    "awp": "advkit.training.awp:WeightPerturbation",
}


def objective_of(
    network: Network, references: Sequence[Network], params: TrainParams, recorded: Any
) -> TrainingObjective:
    """The objective that ``params`` name, for one network.

    Args:
        network: the one in training.
        references: frozen networks, for objectives that compare with some.
        params: of the run.
        recorded: the references' gradients, where they are known beforehand.
    """
    module, _, name = OBJECTIVES[params.objective].partition(":")
    found: TrainingObjective = getattr(importlib.import_module(module), name)(network, references, params, recorded)
    return found
