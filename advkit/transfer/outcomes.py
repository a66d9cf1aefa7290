"""What a transfer matrix keeps: of every image a few yes and no, and the task's figures, counted batch by batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from torch import Tensor

from advkit.attacks import budget
from advkit.models.network import Network
from advkit.tasks.prediction import not_finite, predict_all
from advkit.tasks.task import Task, task_of
from advkit.transfer.rates import SurrogateOutcome, VictimOutcome, alike

Figures = Mapping[str, Any]  # what a metric of the task computes


@dataclass
class Verdicts:
    """What M victims make of N images of one surrogate under one method; (M, N) bool each.

    Attributes:
        fooled: the attack's aim is reached.
        alike: the prediction is the surrogate's own.
        not_finite: the outputs are not.
        flipped, noise: the sign-flipped perturbation, and noise of the attack's norm, reach the aim.
    """

    fooled: np.ndarray
    alike: np.ndarray
    not_finite: np.ndarray
    flipped: np.ndarray
    noise: np.ndarray

    @classmethod
    def room(cls, models: int, images: int) -> Self:
        """Room for all images, to put batches in."""
        return cls(*(np.empty((models, images), dtype=bool) for _ in fields(cls)))

    def put(self, where: slice | Tensor, part: Verdicts) -> None:
        """Copy ``part`` to the images at ``where``."""
        for field in fields(self):
            getattr(self, field.name)[:, where] = getattr(part, field.name)


def fooled(task: Task, predictions: Tensor, aims: Tensor, targeted: bool) -> np.ndarray:
    """(M, N) bool: ``predictions`` (M, N, ...) reach the aim."""
    return np.stack([task.is_success(one, aims, targeted).numpy() for one in predictions])


@dataclass(frozen=True)
class AttackPredictions:
    """(M, N, ...) predictions of M victims for adversarial images, and for the controls of the same norm."""

    adversarial: Tensor
    flipped: Tensor
    noise: Tensor

    def verdicts(self, task: Task, own: Tensor, aims: Tensor, targeted: bool) -> Verdicts:
        """The verdicts; ``own`` (N, ...) are the surrogate's predictions for its adversarial images."""
        return Verdicts(
            fooled=fooled(task, self.adversarial, aims, targeted),
            alike=np.stack([alike(own.numpy(), one.numpy()) for one in self.adversarial]),
            not_finite=np.stack([not_finite(one).numpy() for one in self.adversarial]),
            flipped=fooled(task, self.flipped, aims, targeted),
            noise=fooled(task, self.noise, aims, targeted),
        )


def predicted(networks: list[Network], adversarial: Tensor, images: Tensor, noise: Tensor) -> AttackPredictions:
    """Let all of ``networks`` look at ``adversarial`` images and at the controls; ``noise`` are predictions already."""
    flipped = budget.negated_perturbation(adversarial, images)
    return AttackPredictions(predict_all(networks, adversarial), predict_all(networks, flipped), noise)


class FigureCounts:
    """The task's metric of each of M victims."""

    def __init__(self, networks: list[Network]) -> None:
        task = task_of(networks)
        self._metrics = [task.metric(network.spec.num_classes) for network in networks]

    def update(self, predictions: Tensor, targets: Tensor) -> None:
        """Count one batch of ``predictions`` (M, B, ...) for images of which ``targets`` (B, ...) are true."""
        for metric, own in zip(self._metrics, predictions, strict=True):
            metric.update(own, targets)

    def compute(self) -> list[Figures]:
        """M figures."""
        return [metric.compute() for metric in self._metrics]


@dataclass
class SurrogateRun:
    """One surrogate under one method, or a ready-made set.

    Attributes:
        surrogate, method: names.
        positions: (N,) positions in the data of the images that were attacked.
        norm, eps, goal: the budget, and whether the attack stopped on fooled images.
        crafted_on: positions of the models that the images were made on.
        own_correct: (N,) bool, the surrogate is right on the clean images.
        own_fooled: (N,) bool, its own images fool it.
        victims: of all M models.
        forwards, backwards, zero, dead: cost, and images with zero gradients.
        figures, noise_figures: M each, on the images and on noise of the attack's norm; None where the task has none.
    """

    surrogate: str
    method: str
    positions: np.ndarray
    norm: str
    eps: float
    goal: str
    crafted_on: tuple[int, ...]
    own_correct: np.ndarray
    own_fooled: np.ndarray
    victims: Verdicts
    forwards: int = 0
    backwards: int = 0
    zero: int = 0
    dead: int = 0
    figures: list[Figures] | None = None
    noise_figures: list[Figures] | None = None

    def as_surrogate(self) -> SurrogateOutcome:
        """The surrogate's side of :func:`advkit.transfer.rates.count`."""
        return SurrogateOutcome(self.own_correct, self.own_fooled)

    def as_victim(self, model: int, correct: np.ndarray) -> VictimOutcome:
        """The side of victim ``model``; ``correct`` (M, images) is :attr:`Matrix.correct`."""
        return VictimOutcome(correct[model][self.positions], self.victims.fooled[model], self.victims.alike[model])


@dataclass
class Matrix:
    """All that was found.

    Attributes:
        correct: (M, images) bool, predictions for the clean images are right.
        not_finite: (M, images) bool, outputs for them are not.
        attempts: surrogates times methods, then ready-made sets.
        cosines: (3, M, M) sums of input-gradient cosines and of their absolute values, and numbers of images; None
            when not asked for.
        seconds: spent in attacks, summed over batches.
        figures: M, on the clean images; None where the task has none.
    """

    correct: np.ndarray
    not_finite: np.ndarray
    attempts: list[SurrogateRun]
    cosines: Tensor | None
    seconds: float
    figures: list[Figures] | None = None
