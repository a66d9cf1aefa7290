"""One candidate: built, trained by the recipe, measured, written."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from advkit.evolution.evaluation_context import EvaluationContext
from advkit.evolution.measure import measure
from advkit.files.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from advkit.files.signals import Stop
from advkit.files.tensors import fingerprint, first_not_finite
from advkit.models import build
from advkit.models.network import Network
from advkit.tasks.sampling import sample
from advkit.training.loop import train
from advkit.training.run import Diverged, Run


@dataclass(frozen=True)
class TrainingJob:
    """One training and its measurement.

    Attributes:
        id: names the candidate; with ``seed`` and ``images`` it decides the result.
        architecture, model_args: what to build.
        images: training images, a stratified sample of the training part; None for all.
        epochs: passes over them.
        seed: of the weights.
        recorded: whether this training may take R's gradients from the context's file.
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


def evaluate(context: EvaluationContext, job: TrainingJob) -> dict[str, Any]:
    """Train and measure one candidate; counts and means as JSON values.

    ``error`` is a line when training diverged, and null otherwise.
    """
    began = time.perf_counter()
    network = _network(context, job)
    parameters = sum(parameter.numel() for parameter in network.net.parameters())
    try:
        _train(context, job, network)
    except Diverged as error:
        return {"error": error.why, "parameters": parameters, "seconds": round(time.perf_counter() - began, 3)}
    trained = time.perf_counter() - began
    found = measure(context, network, controls=job.controls)
    if first_not_finite(network.net.state_dict()):
        why = "training diverged: weights are not finite"
        return {"error": why, "parameters": parameters, "seconds": round(time.perf_counter() - began, 3)}
    if job.weights is not None:
        write_checkpoint(Path(job.weights), _checkpoint(context, job, network, found))
    spent = round(time.perf_counter() - began, 3)
    return {"error": None, "parameters": parameters, "seconds": spent, "training_seconds": round(trained, 3), **found}


def _network(context: EvaluationContext, job: TrainingJob) -> Network:
    network = build.create(
        job.architecture,
        num_classes=context.data.num_classes,
        input_size=context.data.size,
        mean=context.spec.mean,
        std=context.spec.std,
        labels=context.data.class_names,
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
    return network.to(context.spec.device)


def _train(context: EvaluationContext, job: TrainingJob, network: Network) -> None:
    positions, seed = context.train, context.spec.data_seed
    if job.images is not None:  # shorter rungs train on a part of what longer ones do
        task, data = context.task, context.data
        positions = sample(task, data, sample(task, data, positions, context.spec.images, seed), job.images, seed)
    # Order and augmentation are the same for all candidates, weights are not: R's gradients can be shared.
    params = replace(context.recipe, epochs=job.epochs)
    recorded = context.gradients.at if context.gradients is not None and job.recorded else None
    nobody = torch.empty(0, dtype=torch.int64)  # measured once, at the end
    state = Path(job.state) if job.state is not None else None
    settings = {"id": job.id, "seed": job.seed, "params": params.to_json()}
    run = Run(network, context.data, positions, nobody, [context.fused_reference], params, state, settings, recorded)
    train(run, resume=state is not None and state.exists(), stop=Stop(), show=lambda progress: None)
    if state is not None:
        state.unlink(missing_ok=True)


def _checkpoint(context: EvaluationContext, job: TrainingJob, network: Network, found: Mapping[str, Any]) -> Checkpoint:
    spec, images = network.spec, context.data
    tensors = {name: tensor.contiguous() for name, tensor in network.net.state_dict().items()}
    meta = {
        "task": spec.task,
        "architecture": spec.architecture,
        "model_args": spec.model_args,
        "num_classes": spec.num_classes,
        "labels": list(spec.labels),
        "input_size": list(spec.input_size),
        "mean": list(spec.mean),
        "std": list(spec.std),
        "parents": [{"sha256": context.reference.spec.sha256}],
        "data": {"ref": images.ref, "split": images.split, "fingerprint": images.fingerprint},
        "command": "evolve",
        "seed": job.seed,
        "metrics": {name: found[name] for name in ("validation", "cond", "absolute_cosine")},
    }
    return Checkpoint(tensors, {**meta, "weights": fingerprint(tensors)})
