"""One attacked batch as it is judged: in float32, by the networks as loaded, on the images as they are written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from advkit.attacks.budget import from_levels, noise
from advkit.attacks.budget import quantize as round_to_8_bits
from advkit.attacks.dataset import AttackedBatch, outcomes
from advkit.attacks.params import AttackParams
from advkit.data.canvas import where_pixels
from advkit.files.errors import InputError
from advkit.metrics.norms import Norm, flat_norm
from advkit.models.network import Network
from advkit.tasks.prediction import predict
from advkit.tasks.task import Metric, task_of

NORMS: tuple[Norm, ...] = ("linf", "l2", "l1")


@dataclass(frozen=True)
class SurrogateVerdict:
    """One surrogate on one batch.

    Attributes:
        right, still: images that it gets right before and after.
        fooled, fooled_8bit, noise: of those that it gets right before, how many the attack fools, as written and in 8
            bits, and noise of the same norm.
        clean, adversarial: what the task counts before and after, where it has figures.
    """

    right: int
    still: int
    fooled: int
    fooled_8bit: int
    noise: int
    clean: Metric | None
    adversarial: Metric | None


@dataclass(frozen=True)
class BatchVerdict:
    """One batch of N images; all tensors on the CPU.

    Attributes:
        pixels: (N, C, H, W) as they are written: float32 in [0, 1], or uint8.
        columns: what else is written of each image, N rows by name; ``index`` and ``outcome`` among them.
        surrogates: what each of them says.
        right: images that the surrogates together get right before.
        sizes: (N,) of the perturbations, by norm.
        fooled: (N,) bool, right before and fooled.
        not_finite: images written that hold values that are no numbers.
        levels: whether 8 bits can hold the budget.
        forwards, backwards, zero_gradients, dead_gradients: as in :class:`~advkit.attacks.run.AttackBatch`, summed.
        stages: of an attack that is made of others, how many images each of them fooled.
        seconds: spent in the attack.
    """

    pixels: Tensor
    columns: dict[str, Tensor]
    surrogates: list[SurrogateVerdict]
    right: int
    sizes: dict[Norm, Tensor]
    fooled: Tensor
    not_finite: int
    levels: bool
    forwards: int
    backwards: int
    zero_gradients: int
    dead_gradients: int
    stages: dict[str, int]
    seconds: float

    def __len__(self) -> int:
        return len(self.pixels)


def judge(
    done: AttackedBatch, networks: Sequence[Network], params: AttackParams, device: str, quantize: bool
) -> BatchVerdict:
    """Judge one batch.

    Args:
        done: what the attack made.
        networks: the surrogates as loaded.
        params: the attack.
        device: where the networks are.
        quantize: the images are written in 8 bits.

    Raises:
        InputError: 8 bits are asked for and can't hold the budget.
    """
    task, targeted = task_of(networks), params.targeted
    eight = _eight_bit(done, params, quantize)
    written = from_levels(eight, done.clean) if quantize and eight is not None else done.adversarial
    rounded = None if quantize or eight is None else from_levels(eight, done.clean).to(device)
    noisy = _noise(done, written, params).to(device)
    verdicts = []
    for network in networks:
        before, after = (predict([network], images.to(device)).cpu() for images in (done.clean, written))
        correct = task.correct(before, done.targets)
        moved = predict([network], noisy).cpu()
        after_rounding = after if rounded is None else predict([network], rounded).cpu()
        hit, by_noise, hit_8bit = (
            int((task.is_success(found, done.aims, targeted) & correct).sum())
            for found in (after, moved, after_rounding)
        )
        verdicts.append(
            SurrogateVerdict(
                right=int(correct.sum()),
                still=int(task.correct(after, done.targets).sum()),
                fooled=hit,
                fooled_8bit=0 if eight is None else hit_8bit,
                noise=by_noise,
                clean=_counted(network, before, done.targets),
                adversarial=_counted(network, after, done.targets),
            )
        )
    if len(networks) > 1:  # one alone has been looked at
        before, after = (predict(networks, images.to(device)).cpu() for images in (done.clean, written))
    correct = task.correct(before, done.targets)
    fooled = task.is_success(after, done.aims, targeted)
    moves = where_pixels(written - done.clean, done.clean)
    finite = where_pixels(written, done.clean).isfinite().flatten(1).all(1)
    return BatchVerdict(
        pixels=eight if quantize and eight is not None else written,
        columns=task.columns(done.clean, done.targets, done.aims, after)
        | {"index": done.indices, "outcome": outcomes(correct, fooled)},
        surrogates=verdicts,
        right=int(correct.sum()),
        sizes={norm: flat_norm(moves, norm) for norm in NORMS},
        fooled=fooled & correct,
        not_finite=int((~finite).sum()),
        levels=eight is not None,
        forwards=done.batch.forwards,
        backwards=done.batch.backwards,
        zero_gradients=int(done.batch.zero_gradients.sum()),
        dead_gradients=int(done.batch.dead.sum()),
        stages=done.batch.stages,
        seconds=done.seconds,
    )


def _counted(network: Network, predictions: Tensor, targets: Tensor) -> Metric | None:
    """What the task counts of ``predictions``; None where it has no figures."""
    task = task_of([network])
    if not task.figures:
        return None
    metric = task.metric(network.spec.num_classes)
    metric.update(predictions, targets)
    return metric


def _noise(done: AttackedBatch, written: Tensor, params: AttackParams) -> Tensor:
    """Noise of the same norm: that of the budget, or what each image was moved by where there is none."""
    radius: float | Tensor = params.eps
    if params.eps == float("inf"):
        radius = flat_norm(where_pixels(written - done.clean, done.clean), params.norm)
    return noise(done.clean, done.indices, radius, params.norm, params.seed)


def _eight_bit(done: AttackedBatch, params: AttackParams, quantize: bool) -> Tensor | None:
    """(N, C, H, W) uint8; None where 8 bits can't hold the budget and nobody asked for them."""
    try:
        return round_to_8_bits(done.adversarial, done.clean, params.eps, params.norm)
    except InputError:
        if quantize:
            raise
        return None
