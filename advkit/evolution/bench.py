"""The test bench of a search: what every worker opens once, and how it measures one candidate.

The reference is fixed, so its adversarial validation sets are made once; a candidate then costs a short training and
a few forward passes.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from advkit.attacks import budget, judge
from advkit.attacks.alignment import directions, sums_of_cosines
from advkit.data import reference as data_reference
from advkit.data.images import ImageSet
from advkit.data.sampling import hold_out, stratified
from advkit.evolution.gradients import Gradients
from advkit.files.adversarial import read_adversarial
from advkit.files.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from advkit.files.signals import Stop
from advkit.files.tensors import fingerprint, first_not_finite
from advkit.models import build
from advkit.models import reference as model_reference
from advkit.models.fold import folded
from advkit.models.network import Network
from advkit.training.loop import Diverged, Run, train
from advkit.training.params import TrainParams
from advkit.transfer.rates import Surrogate, Victim, count

_BATCH = 250


@dataclass(frozen=True)
class BenchSpec:
    """How to open the bench, in any process.

    Attributes:
        reference: MODEL reference of R.
        data: DATA reference; its training split is used, nothing else.
        limit, download: as for :func:`advkit.data.reference.load`.
        size: (C, H, W) of the images; pictures in folders are brought to it.
        validation: part of the training images that is held out, with ``data_seed``.
        data_seed: of sample and hold-out.
        validation_images: how many of the held-out images (a stratified sample) candidates are measured on.
        adversarial: files of R's adversarial examples of just those images, one for each method.
        gradients: file of R's gradients along a candidate's training (:mod:`advkit.evolution.gradients`), or None.
        images, epochs: of a full-length candidate training.
        recipe: training settings (:meth:`TrainParams.to_json`).
        mean, std: normalisation of the candidates.
        device: where to work.
    """

    reference: str
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


@dataclass(frozen=True)
class Job:
    """One training and its measurement.

    Attributes:
        id: names the candidate; with ``seed`` and ``images`` it decides the result.
        architecture, model_args: what to build.
        images: training images, a stratified sample of the training part; None for all.
        epochs: passes over them.
        seed: of the weights.
        recorded: whether this training may take R's gradients from the bench's file.
        controls: whether to measure what selection does not need.
        state: where a long training keeps its state, to go on after an interruption; None for nowhere.
        weights: where the checkpoint goes; None for nowhere.
        start: checkpoint of the parent, to start from; None for fresh weights.
        carry: prefixes of tensor names in the parent and in the child that are carried over where shapes agree.
    """

    id: str
    architecture: str
    model_args: Mapping[str, Any]
    images: int | None
    epochs: int
    seed: int
    recorded: bool = True
    controls: bool = True
    state: str | None = None
    weights: str | None = None
    start: str | None = None
    carry: tuple[tuple[str, str], ...] = ()


@dataclass
class Bench:
    """An open bench."""

    spec: BenchSpec
    reference: Network
    folded: Network
    data: ImageSet
    train: Tensor
    validation: ImageSet
    adversarial: list[Tensor]
    right: np.ndarray
    predictions: list[np.ndarray]
    gradients: Gradients | None

    @functools.cached_property
    def directions(self) -> Tensor:
        """R's input gradients (N, C, H, W) on the validation images."""
        return _directions(self.folded, self)

    @property
    def recipe(self) -> TrainParams:
        """The settings of a full training."""
        return TrainParams.from_json(self.spec.recipe)


def open_parts(spec: BenchSpec) -> tuple[ImageSet, Tensor, ImageSet]:
    """All training data, the positions to train on, and the images to measure on: never a test image."""
    data = data_reference.load(
        spec.data,
        role="train",
        limit=spec.limit,
        seed=spec.data_seed,
        size=spec.size[1:],
        channels=spec.size[0],
        download=spec.download,
    )
    training, held = hold_out(data.labels, spec.validation, spec.data_seed)
    chosen = stratified(data.labels[held], spec.validation_images, spec.data_seed)
    return data, training, data.subset(held[chosen])


def open_bench(spec: BenchSpec) -> Bench:
    """Everything that measuring a candidate needs; called once in every worker."""
    data, training, validation = open_parts(spec)
    reference = model_reference.load(spec.reference, input_size=data.size, device=spec.device)
    adversarial = []
    for path in spec.adversarial:
        found = read_adversarial(Path(path))
        adversarial.append(found.images(torch.arange(len(found.labels))).to(spec.device))
    right = _looked(reference, _clean(validation, spec.device)) == validation.labels.numpy()
    predictions = [_looked(reference, images) for images in adversarial]
    gradients = Gradients(Path(spec.gradients), data.size, spec.device) if spec.gradients is not None else None
    quick = folded(reference)
    return Bench(spec, reference, quick, data, training, validation, adversarial, right, predictions, gradients)


def sample(data: ImageSet, positions: Tensor, count: int, seed: int) -> Tensor:
    """A stratified sample of ``positions``; all of them where there are no more than ``count``."""
    if count >= len(positions):
        return positions
    return positions[stratified(data.labels[positions], count, seed)]


def evaluate(bench: Bench, job: Job) -> dict[str, Any]:
    """Train and measure one candidate; counts and means as JSON values.

    ``error`` is a line when training diverged, and null otherwise.
    """
    began = time.perf_counter()
    network = _network(bench, job)
    parameters = sum(parameter.numel() for parameter in network.net.parameters())
    try:
        _train(bench, job, network)
    except Diverged as error:
        return {"error": str(error), "parameters": parameters, "seconds": round(time.perf_counter() - began, 3)}
    trained = time.perf_counter() - began
    found = measure(bench, network, controls=job.controls)
    if first_not_finite(network.net.state_dict()):
        why = "training diverged: weights are not finite"
        return {"error": why, "parameters": parameters, "seconds": round(time.perf_counter() - began, 3)}
    if job.weights is not None:
        write_checkpoint(Path(job.weights), _checkpoint(bench, job, network, found))
    spent = round(time.perf_counter() - began, 3)
    return {"error": None, "parameters": parameters, "seconds": spent, "training_seconds": round(trained, 3), **found}


def _network(bench: Bench, job: Job) -> Network:
    network = build.create(
        job.architecture,
        num_classes=bench.data.num_classes,
        input_size=bench.data.size,
        mean=bench.spec.mean,
        std=bench.spec.std,
        labels=bench.data.class_names,
        seed=job.seed,
        model_args=job.model_args,
    )
    if job.start is not None:
        before, own = read_checkpoint(Path(job.start)).tensors, network.net.state_dict()
        for theirs, ours in job.carry:
            for name, tensor in before.items():
                place = ours + name[len(theirs) :]
                if name.startswith(theirs) and place in own and own[place].shape == tensor.shape:
                    own[place] = tensor
        network.net.load_state_dict(own)
    return network.to(bench.spec.device)


def _train(bench: Bench, job: Job, network: Network) -> None:
    positions, seed = bench.train, bench.spec.data_seed
    if job.images is not None:  # shorter rungs train on a part of what longer ones do
        positions = sample(bench.data, sample(bench.data, positions, bench.spec.images, seed), job.images, seed)
    # Order and augmentation are the same for all candidates, weights are not: R's gradients can be shared.
    params = replace(bench.recipe, epochs=job.epochs)
    recorded = bench.gradients.at if bench.gradients is not None and job.recorded else None
    nobody = torch.empty(0, dtype=torch.int64)  # measured once, at the end
    state = Path(job.state) if job.state is not None else None
    settings = {"id": job.id, "seed": job.seed, "params": params.to_json()}
    run = Run(network, bench.data, positions, nobody, [bench.folded], params, state, settings, recorded)
    train(run, resume=state is not None and state.exists(), stop=Stop(), show=lambda progress: None)
    if state is not None:
        state.unlink(missing_ok=True)


def measure(bench: Bench, network: Network, *, controls: bool = True) -> dict[str, Any]:
    """Accuracy and transfer from R on the validation images, and, with ``controls``, what else a report tells.

    These are the sign-flipped perturbation, noise of the same size, and the cosines with R's gradients.
    """
    labels = bench.validation.labels.numpy()
    clean = _clean(bench.validation, bench.spec.device)
    guessed = _looked(network, clean)
    right = guessed == labels
    surrogates = [Surrogate(bench.right, own, own != labels) for own in bench.predictions]
    seen = [_looked(network, images) for images in bench.adversarial]
    victims = [Victim(right, own, own != labels) for own in seen]
    counts = count(list(zip(surrogates, victims, strict=True)))
    found = {
        "validation": [int(right.sum()), len(labels)],
        "cond": list(counts.cond),
        "both": list(counts.both),
        "by_method": [list(count([pair]).cond) for pair in zip(surrogates, victims, strict=True)],
    }
    if not controls:
        return found
    noisy = []
    for draw, path in enumerate(bench.spec.adversarial):  # as many draws as there are methods in the union
        attack = read_adversarial(Path(path)).meta["attack"]
        eps, norm, seed = float(attack["eps"]), attack["norm"], int(attack["seed"]) + draw
        noise = budget.noise(clean, bench.validation.indices.to(clean.device), eps, norm, seed)
        noisy.append(_looked(network, noise) != labels)
    held = bench.right & right & np.any([one.fooled for one in surrogates], axis=0)
    flipped = np.any([_looked(network, budget.flipped(x, clean)) != labels for x in bench.adversarial], axis=0)
    signed, absolute, defined = sums_of_cosines([_directions(folded(network), bench), bench.directions])[
        :, 0, 1
    ].tolist()
    return {
        **found,
        "flipped": [int((flipped & held).sum()), int(held.sum())],
        "noise": [int((np.any(noisy, axis=0) & held).sum()), int(held.sum())],
        "cosine": signed / defined if defined else None,
        "absolute_cosine": absolute / defined if defined else None,
        "cosine_images": int(defined),
    }


def _directions(network: Network, bench: Bench) -> Tensor:
    """Input gradients (N, C, H, W) of ``network``, in eval mode, on the validation images."""
    clean, labels = _clean(bench.validation, bench.spec.device), bench.validation.labels.to(bench.spec.device)
    parts = range(0, len(labels), _BATCH)
    return torch.cat([directions(network, clean[k : k + _BATCH], labels[k : k + _BATCH])[0] for k in parts])


def _clean(images: ImageSet, device: str) -> Tensor:
    return images.batch(slice(0, len(images)))[0].to(device)


def _looked(network: Network, images: Tensor) -> np.ndarray:
    parts: Sequence[Tensor] = [
        judge.predictions([network], images[start : start + _BATCH]) for start in range(0, len(images), _BATCH)
    ]
    return torch.cat(list(parts)).cpu().numpy()


def _checkpoint(bench: Bench, job: Job, network: Network, found: Mapping[str, Any]) -> Checkpoint:
    spec, images = network.spec, bench.data
    tensors = {name: tensor.contiguous() for name, tensor in network.net.state_dict().items()}
    meta = {
        "task": "classification",
        "architecture": spec.architecture,
        "model_args": spec.model_args,
        "num_classes": spec.num_classes,
        "labels": list(spec.labels),
        "input_size": list(spec.input_size),
        "mean": list(spec.mean),
        "std": list(spec.std),
        "parents": [{"sha256": bench.reference.spec.sha256}],
        "data": {"ref": images.ref, "split": images.split, "fingerprint": images.fingerprint},
        "command": "evolve",
        "seed": job.seed,
        "metrics": {name: found[name] for name in ("validation", "cond", "absolute_cosine")},
    }
    return Checkpoint(tensors, {**meta, "weights": fingerprint(tensors)})
