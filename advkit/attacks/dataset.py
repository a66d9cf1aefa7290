"""An attack over a whole data set, batch by batch: memory stays flat in the number of images."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from advkit.attacks.params import AttackParams
from advkit.attacks.run import AttackBatch, attack
from advkit.data.images import ImageSet
from advkit.tasks.prediction import outputs_of
from advkit.tasks.task import FROM_DATA, task_of

CLEAN_WRONG, FOOLED, ROBUST = 0, 1, 2


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
    """Attack every image of ``data``.

    Args:
        surrogates: as loaded; they choose the targets of ``least-likely``.
        gradient_models: the same networks, folded; they give the gradients.
        data: images and what is true of them.
        params: the attack.
        target: a rule of the task's ``aim``, or ``from-data``; None when untargeted.
        batch_size: images at a time.
        device: where to work.
    """
    for start in range(0, len(data), batch_size):
        clean = clean_batch(data, slice(start, start + batch_size))
        yield attack_images(surrogates, gradient_models, clean, params, target, device)


def attack_images(
    surrogates: Sequence[nn.Module],
    gradient_models: Sequence[nn.Module],
    clean: CleanBatch,
    params: AttackParams,
    target: str | int | None,
    device: str,
) -> AttackedBatch:
    """Attack one batch; arguments as :func:`attack_set`."""
    images, truth, indices = (value.to(device) for value in (clean.images, clean.targets, clean.indices))
    aims = truth
    if target == FROM_DATA:
        assert clean.aims is not None
        aims = clean.aims.to(device)
    elif target is not None:
        task, count = task_of(surrogates), clean.num_classes
        aims = task.aim(target, truth, indices, lambda: outputs_of(surrogates, images), count, params.seed)
    began = time.perf_counter()
    found = attack(gradient_models, images, aims, indices, params)
    adversarial = found.images.cpu()
    seconds = time.perf_counter() - began
    return AttackedBatch(clean.images, adversarial, clean.targets, clean.indices, aims.cpu(), found, seconds)


def outcomes(correct: Tensor, fooled: Tensor) -> Tensor:
    """(N,) uint8 of ``CLEAN_WRONG``, ``FOOLED`` and ``ROBUST``, as adversarial sets tell them.

    Args:
        correct: (N,) bool, the surrogates are right on the clean image.
        fooled: (N,) bool, the attack's aim is reached.
    """
    return torch.where(correct, torch.where(fooled, FOOLED, ROBUST), CLEAN_WRONG).to(torch.uint8)
