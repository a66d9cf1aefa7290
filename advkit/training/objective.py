"""What a training minimises: named terms, one number for each image. A new objective is one file and one line here."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor

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
        epoch, number: of the run, from 0; ``number`` counts steps over all epochs.
        steps: in an epoch.
    """

    images: Tensor
    targets: Tensor
    indices: Tensor
    epoch: int
    number: int
    steps: int


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


class TrainingObjective(Protocol):
    """An objective of one run.

    Attributes:
        measures: names of what :attr:`Terms.measures` holds.
    """

    measures: tuple[str, ...]

    def __call__(self, step: TrainingStep) -> Terms:
        """The terms of one step; the network is in training mode and runs its training forward pass here."""
        ...


OBJECTIVES: dict[str, str] = {
    "plain": "advkit.training.plain:Plain",
    "misaligned": "advkit.training.misalign:Misaligned",
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
