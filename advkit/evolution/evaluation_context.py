"""What every worker of a search opens once and all candidates share: R, data, R's adversarial examples."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from advkit.attacks.gradient_similarity import margin_gradients
from advkit.data import reference as data_reference
from advkit.data.images import ImageSet
from advkit.evolution.gradient_cache import GradientCache
from advkit.files.adversarial import read_adversarial
from advkit.models import reference as model_reference
from advkit.models.fuse import fuse_conv_bn
from advkit.models.network import Network
from advkit.tasks.prediction import predict_in_batches
from advkit.tasks.sampling import hold_out, limited, sample
from advkit.tasks.task import Task, task_named
from advkit.training.params import TrainParams

_BATCH = 250


@dataclass(frozen=True)
class ContextSpec:
    """How to open an :class:`EvaluationContext`, in any process.

    Attributes:
        reference: MODEL reference of R.
        task: of R, by name.
        data: DATA reference; its training split is used, nothing else.
        limit, download, fix_boxes: as for :func:`advkit.data.reference.load`.
        size: (C, H, W) of the images; pictures in folders are brought to it.
        validation: part of the training images that is held out, with ``data_seed``.
        data_seed: of sample and hold-out.
        validation_images: how many of the held-out images (a stratified sample) candidates are measured on.
        adversarial: files of R's adversarial examples of just those images, one for each method.
        gradients: file of R's gradients along a candidate's training (:mod:`advkit.evolution.gradient_cache`), or None.
        images, epochs: of a full-length candidate training.
        recipe: training settings (:meth:`TrainParams.to_json`).
        mean, std: normalisation of the candidates.
        device: where to work.
    """

    reference: str
    task: str
    data: str
    limit: int | None
    size: tuple[int, int, int]
    download: bool
    validation: float
    data_seed: int
    validation_images: int
    adversarial: tuple[str, ...]
    gradients: str | None
    images: int
    epochs: int
    recipe: dict[str, Any]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    device: str
    fix_boxes: bool = False


@dataclass
class EvaluationContext:
    """What candidates are trained and measured on, open."""

    spec: ContextSpec
    reference: Network
    fused_reference: Network
    data: ImageSet
    train: Tensor
    validation: ImageSet
    adversarial: list[Tensor]
    correct: Tensor
    predictions: list[Tensor]
    gradients: GradientCache | None

    @property
    def task(self) -> Task:
        """What R and the candidates are for."""
        return task_named(self.spec.task)

    @functools.cached_property
    def clean(self) -> Tensor:
        """The N validation images (N, C, H, W)."""
        return _clean(self.validation, self.spec.device)

    @functools.cached_property
    def margin_gradients(self) -> Tensor:
        """R's input gradients (N, C, H, W) on the validation images."""
        return self.directions_of(self.fused_reference)

    def directions_of(self, network: Network) -> Tensor:
        """Input gradients (N, C, H, W) of ``network``, which is in eval mode, on the validation images."""
        targets = self.validation.targets.to(self.spec.device)
        parts = [slice(start, start + _BATCH) for start in range(0, len(targets), _BATCH)]
        return torch.cat([margin_gradients(network, self.clean[part], targets[part])[0] for part in parts])

    @property
    def recipe(self) -> TrainParams:
        """The settings of a full training."""
        return TrainParams.from_json(self.spec.recipe)


class DataParts(NamedTuple):
    """The training data of a run; never a test image.

    Attributes:
        data: all of it.
        train: positions to train on.
        validation: the held-out images to measure on.
    """

    data: ImageSet
    train: Tensor
    validation: ImageSet


def load_training_images(
    ref: str,
    task: Task,
    size: tuple[int, int, int],
    *,
    limit: int | None,
    seed: int,
    download: bool,
    fix_boxes: bool,
) -> ImageSet:
    """A sample of ``limit`` training images of ``ref``; pictures in folders are brought to ``size`` (C, H, W)."""
    images = data_reference.load(
        ref, role="train", size=size[1:], channels=size[0], download=download, fix_boxes=fix_boxes
    )
    return limited(task, images, limit, seed)


def split_parts(task: Task, data: ImageSet, validation: float, validation_images: int, seed: int) -> DataParts:
    """Hold a part of ``data`` out and sample the images to measure on; arguments as in :class:`ContextSpec`."""
    training, held = hold_out(task, data, validation, seed)
    return DataParts(data, training, data.subset(sample(task, data, held, validation_images, seed)))


def open_parts(spec: ContextSpec) -> DataParts:
    """The data of a run, in any process."""
    task, seed = task_named(spec.task), spec.data_seed
    data = load_training_images(
        spec.data,
        task,
        spec.size,
        limit=spec.limit,
        seed=seed,
        download=spec.download,
        fix_boxes=spec.fix_boxes,
    )
    return split_parts(task, data, spec.validation, spec.validation_images, seed)


def open_context(
    spec: ContextSpec, parts: DataParts | None = None, reference: Network | None = None
) -> EvaluationContext:
    """Everything that measuring a candidate needs; called once in every worker.

    Args:
        spec: how to open it.
        parts, reference: what is open already.
    """
    data, training, validation = parts if parts is not None else open_parts(spec)
    if reference is None:
        reference = model_reference.load(spec.reference, input_size=data.size, device=spec.device)
    adversarial = []
    for path in spec.adversarial:
        found = read_adversarial(Path(path))
        adversarial.append(found.images(torch.arange(len(found.labels))).to(spec.device))
    clean = predict_in_batches(reference, _clean(validation, spec.device), _BATCH)
    correct = task_named(spec.task).correct(clean, validation.targets)
    predictions = [predict_in_batches(reference, images, _BATCH) for images in adversarial]
    gradients = GradientCache(Path(spec.gradients), data.size, spec.device) if spec.gradients is not None else None
    fused = fuse_conv_bn(reference)
    return EvaluationContext(
        spec, reference, fused, data, training, validation, adversarial, correct, predictions, gradients
    )


def _clean(images: ImageSet, device: str) -> Tensor:
    return images.batch(slice(0, len(images)))[0].to(device)
