"""An attack over a whole data set, batch by batch: memory stays flat in the number of images."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from advkit.attacks.admix import PartnerPool, partner_pool
from advkit.attacks.params import AttackParams
from advkit.attacks.resume_folder import WindowState
from advkit.attacks.run import AttackBatch, attack, check_method
from advkit.data.images import ImageSet
from advkit.tasks.prediction import outputs_of
from advkit.tasks.task import FROM_DATA, Task, task_of

CLEAN_WRONG, FOOLED, ROBUST = 0, 1, 2
_WINDOW = 32 * 2**20  # bytes of images that are on their way together


@dataclass(frozen=True)
class CleanBatch:
    """One batch of clean images, on the CPU.

    Attributes:
        images: (N, C, H, W) float32 in [0, 1].
        targets: (N, ...) what is true of them.
        indices: (N,) int64.
        num_classes: of the data.
        aims: (N, ...) what to aim at, where the data say so.
    """

    images: Tensor
    targets: Tensor
    indices: Tensor
    num_classes: int
    aims: Tensor | None = None


def clean_batch(data: ImageSet, part: slice) -> CleanBatch:
    """The images of ``data`` at ``part``."""
    images, targets = data.batch(part)
    aims = data.target_classes[part] if data.target_classes is not None else None
    return CleanBatch(images, targets, data.indices[part], data.num_classes, aims)


@dataclass
class AttackedBatch:
    """One batch of results; all tensors on the CPU.

    Attributes:
        clean, adversarial: (N, C, H, W) float32 in [0, 1].
        targets, aims: (N, ...) what is true of them; ``aims`` are what is aimed at, or the targets.
        indices: (N,) int64.
        batch: what the attack reports of itself.
        seconds: spent in the attack.
    """

    clean: Tensor
    adversarial: Tensor
    targets: Tensor
    indices: Tensor
    aims: Tensor
    batch: AttackBatch
    seconds: float

    def split(self, size: int) -> Iterator[AttackedBatch]:
        """The same in parts of ``size`` images; what the attack did as a whole is told with the first."""
        if len(self.indices) <= size:
            yield self
            return
        for start in range(0, len(self.indices), size):
            part, first = slice(start, start + size), start == 0
            batch = AttackBatch(
                self.batch.images[part],
                self.batch.forwards if first else 0,
                self.batch.backwards if first else 0,
                self.batch.zero_gradients[part],
                self.batch.dead[part],
                self.batch.stages if first else {},
            )
            yield AttackedBatch(
                self.clean[part],
                self.adversarial[part],
                self.targets[part],
                self.indices[part],
                self.aims[part],
                batch,
                self.seconds if first else 0.0,
            )


def pool_for(surrogates: Sequence[nn.Module], data: ImageSet, methods: Sequence[AttackParams]) -> PartnerPool | None:
    """What ``methods`` (of one seed) mix into images of ``data``; None where none of them does.

    Raises:
        InputError: a method that the surrogates' task is not for; nothing in ``data`` to mix in.
    """
    mixing = [params for params in methods if params.method.hooked("mix")]
    task = task_of(surrogates)
    for params in mixing:
        check_method(task, params.method)
    return partner_pool(data, task, mixing[0].seed) if mixing else None


def attack_set(
    surrogates: Sequence[nn.Module],
    gradient_models: Sequence[nn.Module],
    data: ImageSet,
    params: AttackParams,
    target: str | int | None,
    *,
    batch_size: int,
    device: str,
) -> Iterator[AttackedBatch]:
    """Attack every image of ``data``, those of one of its :func:`windows` together.

    Args:
        surrogates: as loaded; they choose the targets of ``least-likely``.
        gradient_models: the same networks, folded; they give the gradients.
        data: images and what is true of them.
        params: the attack.
        target: a rule of the task's ``aim``, or ``from-data``; None when untargeted.
        batch_size: images that go through the networks, and that are yielded, together.
        device: where to work.
    """
    pool = pool_for(surrogates, data, [params])
    for window in windows(data, params, task_of(surrogates), batch_size):
        clean = clean_batch(data, window)
        done = attack_images(surrogates, gradient_models, clean, params, target, device, batch_size, pool)
        yield from done.split(batch_size)


def windows(data: ImageSet, params: AttackParams, task: Task, batch_size: int, shares: int = 1) -> list[slice]:
    """The images of ``data`` in parts, in order, that are on their way together.

    A part is a batch of ``batch_size``. Where images leave as they are fooled, it is several, so that passes stay full;
    but no more than lets the parts be shared out evenly in ``shares``.
    """
    batches = max(1, math.ceil(len(data) / batch_size))
    together = 1
    if params.goal == "robustness" and task.stops_early:
        together = max(1, _WINDOW // (4 * math.prod(data.size)) // batch_size)
    if shares > 1:
        rounds = math.ceil(batches / (together * shares))
        together = math.ceil(batches / (rounds * shares))
    size = together * batch_size
    return [slice(start, min(start + size, len(data))) for start in range(0, len(data), size)]


def attack_images(
    surrogates: Sequence[nn.Module],
    gradient_models: Sequence[nn.Module],
    clean: CleanBatch,
    params: AttackParams,
    target: str | int | None,
    device: str,
    at_once: int | None = None,
    pool: PartnerPool | None = None,
    window: WindowState | None = None,
) -> AttackedBatch:
    """Attack one batch, or take from ``window`` what was found before it was interrupted.

    Args:
        clean: the batch.
        at_once: images in a pass; by default all.
        pool: of :func:`pool_for`.
        window: where what is found is saved.
        surrogates, gradient_models, params, target, device: as of :func:`attack_set`.
    """
    images, truth, indices = (value.to(device) for value in (clean.images, clean.targets, clean.indices))
    aims = truth
    if target == FROM_DATA:
        assert clean.aims is not None
        aims = clean.aims.to(device)
    elif target is not None:
        task, count = task_of(surrogates), clean.num_classes
        logits = partial(outputs_of, surrogates, images, at_once)
        aims = task.aim(target, truth, indices, logits, count, params.seed)
    partners = None if pool is None else pool.partners(task_of(surrogates).strata(truth))
    if window is not None and (state := window.result()) is not None:
        found, seconds = AttackBatch.from_state(state), state.values["seconds"]
    else:
        began = time.perf_counter()
        found = attack(
            gradient_models, images, aims, indices, params, at_once=at_once, partners=partners, window=window
        )
        found.images = found.images.cpu()
        seconds = time.perf_counter() - began
        if window is not None:
            seconds += window.earlier
            window.save_result(found.to_state(seconds))
    return AttackedBatch(clean.images, found.images, clean.targets, clean.indices, aims.cpu(), found, seconds)


def outcomes(correct: Tensor, fooled: Tensor) -> Tensor:
    """(N,) uint8 of ``CLEAN_WRONG``, ``FOOLED`` and ``ROBUST``, as adversarial sets tell them.

    Args:
        correct: (N,) bool, the surrogates are right on the clean image.
        fooled: (N,) bool, the attack's aim is reached.
    """
    return torch.where(correct, torch.where(fooled, FOOLED, ROBUST), CLEAN_WRONG).to(torch.uint8)
