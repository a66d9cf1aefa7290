"""Every surrogate attacked once, every victim looking once: a whole transfer matrix."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from advkit.attacks import budget
from advkit.attacks.admix import PartnerPool
from advkit.attacks.dataset import attack_images, clean_batch
from advkit.attacks.gradient_similarity import input_gradient_cosines
from advkit.attacks.params import AttackParams
from advkit.data.images import ImageSet
from advkit.models.network import Network
from advkit.tasks.prediction import not_finite, predict_all
from advkit.tasks.task import task_of
from advkit.transfer.outcomes import FigureCounts, Matrix, SurrogateRun, Verdicts, predicted


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
        pool: of :func:`advkit.attacks.dataset.pool_for`.
    """

    names: list[str]
    networks: list[Network]
    gradient_models: Sequence[nn.Module]
    surrogates: list[int]
    params: list[AttackParams]
    target: str | int | None
    gradients: bool
    batch_size: int
    device: str
    pool: PartnerPool | None = None


@dataclass
class BatchPredictions:
    """What the task's figures are counted from: predictions of M models for one batch of B images.

    Attributes:
        clean: (M, B, ...).
        adversarial: (M, B, ...) for each attempt.
        noise: (M, B, ...) for each method.
    """

    clean: Tensor
    adversarial: list[Tensor]
    noise: list[Tensor]


@dataclass
class BatchOutcomes:
    """What one batch of B images gave: small, and picklable.

    Attributes:
        correct, not_finite: (M, B) bool, as of :class:`~advkit.transfer.outcomes.Matrix`.
        verdicts: one for each attempt.
        costs: forwards, backwards, zero and dead of each attempt.
        cosines: (3, M, M), see :func:`advkit.attacks.gradient_similarity.input_gradient_cosines`; or None.
        seconds: spent in attacks.
        predictions: None where the task has no figures.
    """

    correct: np.ndarray
    not_finite: np.ndarray
    verdicts: list[Verdicts]
    costs: np.ndarray
    cosines: Tensor | None
    seconds: float
    predictions: BatchPredictions | None = field(default=None)


def measure(plan: Plan, data: ImageSet, show: Callable[[int], None]) -> Matrix:
    """Attack and look, batch by batch; memory holds one batch, a few bits of each image and the task's figures.

    Args:
        plan: what to measure.
        data: clean images.
        show: told the number of images that are done.
    """

    def parts() -> Iterator[BatchOutcomes]:
        for batch in batches(plan, data):
            yield measure_batch(plan, data, batch)
            show(batch.stop)

    return merged(plan, data, parts())


def batches(plan: Plan, data: ImageSet) -> list[slice]:
    """Positions of the images that are worked on together."""
    size = plan.batch_size
    return [slice(start, min(start + size, len(data))) for start in range(0, len(data), size)]


def measure_batch(plan: Plan, data: ImageSet, batch: slice) -> BatchOutcomes:
    """Attack and look on one of :func:`batches`. Batches know nothing of each other: randomness belongs to an image."""
    task, clean = task_of(plan.networks), clean_batch(data, batch)
    images, targets = clean.images.to(plan.device), clean.targets.to(plan.device)
    indices = clean.indices.to(plan.device)
    before = predict_all(plan.networks, images)
    noise = [  # a draw for each method: the union of several is held against the best of as many draws
        predict_all(plan.networks, budget.noise(images, indices, params.eps, params.norm, params.seed + draw))
        for draw, params in enumerate(plan.params)
    ]
    verdicts, costs, adversarial, seconds = [], [], [], 0.0
    for number, (surrogate, params) in enumerate(_attempts(plan)):
        one, fused = [plan.networks[surrogate]], [plan.gradient_models[surrogate]]
        done = attack_images(one, fused, clean, params, plan.target, plan.device, pool=plan.pool)
        seen = predicted(plan.networks, done.adversarial.to(plan.device), images, noise[number % len(plan.params)])
        verdicts.append(seen.verdicts(task, seen.adversarial[surrogate], done.aims, params.targeted))
        cost = done.batch
        costs.append((cost.forwards, cost.backwards, int(cost.zero_gradients.sum()), int(cost.dead.sum())))
        adversarial += [seen.adversarial] if task.figures else []
        seconds += done.seconds
    return BatchOutcomes(
        correct=np.stack([task.correct(one, clean.targets).numpy() for one in before]),
        not_finite=np.stack([not_finite(one).numpy() for one in before]),
        verdicts=verdicts,
        costs=np.array(costs, dtype=np.int64).reshape(-1, 4),
        cosines=input_gradient_cosines(plan.gradient_models, images, targets) if plan.gradients else None,
        seconds=seconds,
        predictions=BatchPredictions(before, adversarial, noise) if task.figures else None,
    )


def merged(plan: Plan, data: ImageSet, parts: Iterable[BatchOutcomes]) -> Matrix:
    """The parts of all :func:`batches`, in their order, as one matrix.

    They are copied into arrays made beforehand: small ones kept from every batch would lie between the large ones that
    come and go, and the heap would grow with the number of images.
    """
    models, images, attempts = len(plan.networks), len(data), len(_attempts(plan))
    correct, broken = np.empty((2, models, images), dtype=bool)
    verdicts = [Verdicts.room(models, images) for _ in range(attempts)]
    costs, cosines, seconds = np.zeros((attempts, 4), dtype=np.int64), None, 0.0
    clean, adversarial, noise = (_counts(plan, number) for number in (1, attempts, len(plan.params)))
    for batch, part in zip(batches(plan, data), parts, strict=True):
        correct[:, batch], broken[:, batch] = part.correct, part.not_finite
        for whole, found in zip(verdicts, part.verdicts, strict=True):
            whole.put(batch, found)
        costs += part.costs
        if part.cosines is not None:
            cosines = torch.zeros_like(part.cosines) if cosines is None else cosines
            cosines += part.cosines
        seconds += part.seconds
        if part.predictions is not None:
            seen = part.predictions
            for counts, predictions in ((clean, [seen.clean]), (adversarial, seen.adversarial), (noise, seen.noise)):
                for one, own in zip(counts, predictions, strict=True):
                    one.update(own, data.targets[batch])
    noise_figures = [one.compute() for one in noise]
    runs = [_attempt(plan, number, correct, verdicts[number], costs[number]) for number in range(attempts)]
    for number, one in enumerate(adversarial):
        runs[number].figures, runs[number].noise_figures = one.compute(), noise_figures[number % len(plan.params)]
    return Matrix(correct, broken, runs, cosines, seconds, clean[0].compute() if clean else None)


def _attempts(plan: Plan) -> list[tuple[int, AttackParams]]:
    return [(surrogate, params) for surrogate in plan.surrogates for params in plan.params]


def _counts(plan: Plan, number: int) -> list[FigureCounts]:
    """``number`` of counts of all victims; none where the task has no figures."""
    return [FigureCounts(plan.networks) for _ in range(number if task_of(plan.networks).figures else 0)]


def _attempt(plan: Plan, number: int, correct: np.ndarray, verdicts: Verdicts, costs: np.ndarray) -> SurrogateRun:
    surrogate, params = _attempts(plan)[number]
    return SurrogateRun(
        plan.names[surrogate],
        params.method.name,
        np.arange(correct.shape[1]),
        params.norm,
        params.eps,
        params.goal,
        (surrogate,),
        correct[surrogate],
        verdicts.fooled[surrogate],
        verdicts,
        *costs.tolist(),
    )
