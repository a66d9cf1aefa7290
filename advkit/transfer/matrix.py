"""Every surrogate attacked once, every victim looking once: predictions for a whole transfer matrix."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from advkit.attacks import budget
from advkit.attacks.dataset import attack_images, clean_batch
from advkit.attacks.gradient_similarity import input_gradient_cosines
from advkit.attacks.params import AttackParams
from advkit.data.images import ImageSet
from advkit.models.network import Network
from advkit.tasks.prediction import predict_all
from advkit.tasks.task import Task, task_of
from advkit.transfer.rates import SurrogateOutcome, VictimOutcome


@dataclass
class SurrogateRun:
    """One surrogate under one method, or a ready-made set.

    Attributes:
        task: says what is correct and what is a success.
        surrogate, method: names.
        positions: (N,) positions in the data of the images that were attacked.
        aims: (N, ...) what is true of the images, or what is aimed at.
        targeted: which of the two.
        norm, eps, goal: the budget, and whether the attack stopped on fooled images.
        crafted_on: positions of the models that the images were made on.
        victims, flipped: (M, N, ...) predictions of all models for the images, and for the sign-flipped perturbation.
        own: (N, ...) predictions of the surrogate for its own images.
        own_correct: (N,) bool, the surrogate is right on the clean images.
        noise: (M, N, ...) predictions of all models for noise of the attack's norm.
        forwards, backwards, zero, dead: cost, and images with zero gradients.
    """

    task: Task
    surrogate: str
    method: str
    positions: np.ndarray
    aims: np.ndarray
    targeted: bool
    norm: str
    eps: float
    goal: str
    crafted_on: tuple[int, ...]
    victims: np.ndarray
    flipped: np.ndarray
    own: np.ndarray
    own_correct: np.ndarray
    noise: np.ndarray
    forwards: int = 0
    backwards: int = 0
    zero: int = 0
    dead: int = 0

    def as_surrogate(self) -> SurrogateOutcome:
        """The surrogate's side of :func:`advkit.transfer.rates.count`."""
        return SurrogateOutcome(self.own_correct, self.own, self._is_success(self.own))

    def as_victim(self, model: int, correct: np.ndarray) -> VictimOutcome:
        """The side of victim ``model``; ``correct`` (M, images) is :attr:`Matrix.correct`."""
        return VictimOutcome(correct[model][self.positions], self.victims[model], self._is_success(self.victims[model]))

    def control(self, model: int, predictions: np.ndarray) -> np.ndarray:
        """(N,) bool: ``predictions`` (M, N, ...) of a control fool victim ``model``."""
        return self._is_success(predictions[model])

    def _is_success(self, predictions: np.ndarray) -> np.ndarray:
        found = self.task.is_success(torch.from_numpy(predictions), torch.from_numpy(self.aims), self.targeted)
        return found.numpy()


@dataclass
class Matrix:
    """All predictions.

    Attributes:
        clean: (M, images, ...) predictions for clean images.
        correct: (M, images) bool, they are right.
        attempts: surrogates times methods, then ready-made sets.
        cosines: (3, M, M) sums of input-gradient cosines and of their absolute values, and numbers of images; None
            when not asked for.
        seconds: spent in attacks, summed over batches.
    """

    clean: np.ndarray
    correct: np.ndarray
    attempts: list[SurrogateRun]
    cosines: Tensor | None
    seconds: float


@dataclass
class Plan:
    """What to measure.

    Attributes:
        names: of the models.
        networks, gradient_models: as loaded, and folded for gradients.
        surrogates: positions of the models that are attacked.
        params: one attack for each method, of one norm and eps.
        target: see :func:`advkit.attacks.dataset.attack_set`.
        gradients: whether to measure cosines.
        batch_size, device: how to work; no effect on results.
    """

    names: list[str]
    networks: Sequence[Network]
    gradient_models: Sequence[nn.Module]
    surrogates: list[int]
    params: list[AttackParams]
    target: str | int | None
    gradients: bool
    batch_size: int
    device: str


@dataclass
class Row:
    """One surrogate under one method on one batch; fields as of :class:`SurrogateRun`."""

    aims: np.ndarray
    victims: np.ndarray
    flipped: np.ndarray
    costs: tuple[int, int, int, int]


@dataclass
class BatchPredictions:
    """What one batch of B images gave: small, and picklable.

    Attributes:
        clean: (M, B, ...) predictions for clean images.
        noise: (methods, M, B, ...) predictions for noise of the attacks' norm, one draw for each method.
        rows: one for each attempt.
        cosines: (3, M, M), see :func:`advkit.attacks.gradient_similarity.input_gradient_cosines`; or None.
        seconds: spent in attacks.
    """

    clean: np.ndarray
    noise: np.ndarray
    rows: list[Row]
    cosines: Tensor | None
    seconds: float

    def room_for(self, count: int) -> BatchPredictions:
        """A part for all ``count`` images, of the kind of this one, to put batches in."""

        def room(found: np.ndarray, axis: int) -> np.ndarray:
            return np.empty((*found.shape[:axis], count, *found.shape[axis + 1 :]), found.dtype)

        rows = [Row(room(row.aims, 0), room(row.victims, 1), room(row.flipped, 1), (0, 0, 0, 0)) for row in self.rows]
        cosines = torch.zeros_like(self.cosines) if self.cosines is not None else None
        return BatchPredictions(room(self.clean, 1), room(self.noise, 2), rows, cosines, 0.0)

    def put(self, batch: slice, part: BatchPredictions) -> None:
        """Copy the predictions of ``part`` to the images of ``batch``, and add up the rest."""
        self.clean[:, batch], self.noise[:, :, batch] = part.clean, part.noise
        for row, found in zip(self.rows, part.rows, strict=True):
            row.aims[batch] = found.aims
            row.victims[:, batch], row.flipped[:, batch] = found.victims, found.flipped
            a, b, c, d = (mine + more for mine, more in zip(row.costs, found.costs, strict=True))
            row.costs = (a, b, c, d)
        if self.cosines is not None and part.cosines is not None:
            self.cosines += part.cosines
        self.seconds += part.seconds


def measure(plan: Plan, data: ImageSet, show: Callable[[int], None]) -> Matrix:
    """Attack and look, batch by batch; memory holds one batch and the predictions.

    Args:
        plan: what to measure.
        data: clean images.
        show: told the number of images that are done.
    """

    def parts() -> Iterator[BatchPredictions]:
        for batch in batches(plan, data):
            yield measure_batch(plan, data, batch)
            show(batch.stop)

    return merged(plan, data, parts())


def batches(plan: Plan, data: ImageSet) -> list[slice]:
    """Positions of the images that are worked on together."""
    size = plan.batch_size
    return [slice(start, min(start + size, len(data))) for start in range(0, len(data), size)]


def measure_batch(plan: Plan, data: ImageSet, batch: slice) -> BatchPredictions:
    """Attack and look on one of :func:`batches`. Batches know nothing of each other: randomness belongs to an image."""
    clean = clean_batch(data, batch)
    images, targets = clean.images.to(plan.device), clean.targets.to(plan.device)
    indices = clean.indices.to(plan.device)
    rows, seconds = [], 0.0
    for surrogate, params in _attempts(plan):
        one, fused = [plan.networks[surrogate]], [plan.gradient_models[surrogate]]
        done = attack_images(one, fused, clean, params, plan.target, plan.device)
        adversarial, found = done.adversarial.to(plan.device), done.batch
        seconds += done.seconds
        rows.append(
            Row(
                aims=done.aims.numpy(),
                victims=predict_all(plan.networks, adversarial).numpy(),
                flipped=predict_all(plan.networks, budget.negated_perturbation(adversarial, images)).numpy(),
                costs=(found.forwards, found.backwards, int(found.zero_gradients.sum()), int(found.dead.sum())),
            )
        )
    return BatchPredictions(
        clean=predict_all(plan.networks, images).numpy(),
        noise=np.stack(
            [
                # A draw for each method: the union of several is held against the best of as many draws.
                predict_all(
                    plan.networks, budget.noise(images, indices, params.eps, params.norm, params.seed + draw)
                ).numpy()
                for draw, params in enumerate(plan.params)
            ]
        ),
        rows=rows,
        cosines=input_gradient_cosines(plan.gradient_models, images, targets) if plan.gradients else None,
        seconds=seconds,
    )


def merged(plan: Plan, data: ImageSet, parts: Iterable[BatchPredictions]) -> Matrix:
    """The parts of all :func:`batches`, in their order, as one matrix.

    They are copied into arrays made beforehand: small ones kept from every batch would lie between the large ones that
    come and go, and the heap would grow with the number of images.
    """
    whole: BatchPredictions | None = None
    for batch, part in zip(batches(plan, data), parts, strict=True):
        if whole is None:
            whole = part.room_for(len(data))
        whole.put(batch, part)
    assert whole is not None  # a data set has images
    task = task_of(plan.networks)
    correct = np.stack([task.correct(torch.from_numpy(clean), data.targets).numpy() for clean in whole.clean])
    return Matrix(
        clean=whole.clean,
        correct=correct,
        attempts=[_attempt(plan, number, whole, correct) for number in range(len(_attempts(plan)))],
        cosines=whole.cosines,
        seconds=whole.seconds,
    )


def _attempts(plan: Plan) -> list[tuple[int, AttackParams]]:
    return [(surrogate, params) for surrogate in plan.surrogates for params in plan.params]


def _attempt(plan: Plan, number: int, whole: BatchPredictions, correct: np.ndarray) -> SurrogateRun:
    surrogate, params = _attempts(plan)[number]
    row = whole.rows[number]
    return SurrogateRun(
        task_of(plan.networks),
        plan.names[surrogate],
        params.method.name,
        np.arange(correct.shape[1]),
        row.aims,
        params.targeted,
        params.norm,
        params.eps,
        params.goal,
        (surrogate,),
        row.victims,
        row.flipped,
        row.victims[surrogate],
        correct[surrogate],
        whole.noise[number % len(plan.params)],
        *row.costs,
    )
