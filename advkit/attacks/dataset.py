"""An attack over a whole data set, batch by batch: memory stays flat in the number of images."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from advkit.attacks.params import AttackParams
from advkit.attacks.run import AttackBatch, attack
from advkit.attacks.targets import targets
from advkit.data.images import ImageSet
from advkit.tasks.prediction import outputs_of

CLEAN_WRONG, FOOLED, ROBUST = 0, 1, 2


@dataclass(frozen=True)
class CleanBatch:
    """One batch of clean images, on the CPU.

    Attributes:
        images: (N, C, H, W) float32 in [0, 1].
        targets, indices: (N,) int64.
        num_classes: of the data.
    """

    images: Tensor
    targets: Tensor
    indices: Tensor
    num_classes: int


def clean_batch(data: ImageSet, part: slice) -> CleanBatch:
    """The images of ``data`` at ``part``."""
    images, labels = data.batch(part)
    return CleanBatch(images, labels, data.indices[part], data.num_classes)


@dataclass
class AttackedBatch:
    """One batch of results; all tensors on the CPU.

    Attributes:
        clean, adversarial: (N, C, H, W) float32 in [0, 1].
        targets, indices, classes: (N,) int64; ``classes`` are what is aimed at, or the targets.
        batch: what the attack reports of itself.
        seconds: spent in the attack.
    """

    clean: Tensor
    adversarial: Tensor
    targets: Tensor
    indices: Tensor
    classes: Tensor
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
        optimised: the same networks, folded; they give the gradients.
        data: images and labels.
        params: the attack.
        target: see :func:`advkit.attacks.targets.targets`; None when untargeted.
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
    classes = truth
    if target is not None:
        logits = outputs_of(surrogates, images) if target == "least-likely" else images.new_empty(1, clean.num_classes)
        classes = targets(target, truth, indices, logits, params.seed)
    began = time.perf_counter()
    found = attack(gradient_models, images, classes, indices, params)
    adversarial = found.images.cpu()
    seconds = time.perf_counter() - began
    return AttackedBatch(clean.images, adversarial, clean.targets, clean.indices, classes.cpu(), found, seconds)


def without_target(data: ImageSet, target: str | int | None) -> ImageSet:
    """``data`` without the images that are of the target class already."""
    if not isinstance(target, int):
        return data
    return data.subset((data.targets != target).nonzero().squeeze(1))


def is_success(predictions: Tensor, classes: Tensor, targeted: bool) -> Tensor:
    """(N,) bool: the attack's aim is reached: the target predicted, or the true class lost (-1 counts as lost)."""
    return predictions == classes if targeted else predictions != classes
