"""One training run: what goes in, what stands after each epoch, and what a display needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from advkit.data.images import ImageSet
from advkit.files.errors import InputError
from advkit.models.network import Network
from advkit.training.misalign import CachedGradients
from advkit.training.objective import TrainingObjective
from advkit.training.params import TrainParams
from advkit.training.robust_check import RobustCheck


class Diverged(InputError):  # noqa: N818  (like Interrupted, it says what happened)
    """The loss is no longer finite.

    Attributes:
        why: without ``how``, which says how to go on.
    """

    def __init__(self, why: str, how: str = "") -> None:
        super().__init__(why + how)
        self.why = why


@dataclass
class TrainProgress:
    """What a display needs after a step: position, the epoch's running means, seconds of this process."""

    epoch: int
    step: int
    steps: int
    loss: float
    accuracy: float | None
    seconds: float
    left: float


class EpochSelection(Protocol):
    """How a training chooses the epoch whose weights it keeps."""

    def measure(self, network: Network) -> dict[str, Any]:
        """What an epoch is judged by; the network is as inference has it, and stays so. Every rank gets the same."""
        ...

    def best_epoch(self, history: Sequence[Mapping[str, Any]]) -> int | None:
        """The epoch, from 1, to keep of those in ``history``; None for the last, whichever it will be."""
        ...


@dataclass
class Run:
    """One training run.

    Attributes:
        network: trained in place; ends in eval mode, with the averaged weights when there are any.
        data: training data set.
        train, validation: positions in ``data``; validation images are never trained on.
        references: frozen networks of the misalignment penalty.
        params: settings.
        state_path: where the state of an interrupted run goes; None keeps none.
        settings: all that decides the run, as JSON values: a state of other settings is refused.
        recorded: the reference's gradients, where they are known beforehand.
        check: what is measured under attack after each epoch; None for nothing.
        objective: what is minimised, where it is more than ``params`` say; None for what they name.
        selection: which epoch's weights are kept; None for the last, or what ``check`` asks for.
        history: one dict for each finished epoch.
        best: the weights that did best in the check or selection, as they were measured; empty unless they may be
            asked for.
        ema: averaged weights; empty without.
        kept_epoch: the epoch, from 1, that the weights are of in the end.
    """

    network: Network
    data: ImageSet
    train: Tensor
    validation: Tensor
    references: Sequence[Network]
    params: TrainParams
    state_path: Path | None
    settings: dict[str, Any]
    recorded: CachedGradients | None = None
    check: RobustCheck | None = None
    objective: TrainingObjective | None = None
    selection: EpochSelection | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    ema: dict[str, Tensor] = field(default_factory=dict)
    kept_epoch: int = 0
