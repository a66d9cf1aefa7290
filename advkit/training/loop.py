"""The training loop: it reads from top to bottom, and every method is an objective of named per-image terms."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from advkit.data import counter_rng
from advkit.data.images import ImageSet
from advkit.files.errors import InputError, Interrupted
from advkit.files.malloc import tune_malloc
from advkit.files.signals import Stop
from advkit.models.network import Network
from advkit.tasks.task import task_of
from advkit.training import distributed, state
from advkit.training.batch_statistics import precise_batch_norm
from advkit.training.evaluation import accuracy, figures
from advkit.training.misalign import CachedGradients
from advkit.training.objective import TrainingObjective, TrainingStep, objective_of
from advkit.training.params import TrainParams
from advkit.training.schedule import lr_factor


class Diverged(InputError):  # noqa: N818  (like Interrupted, it says what happened)
    """The loss is no longer finite."""


@dataclass
class TrainProgress:
    """What a display needs after a step: position, the epoch's running means, seconds of this process."""

    epoch: int
    step: int
    steps: int
    loss: float
    accuracy: float | None
    seconds: float
    left: float


@dataclass
class Run:
    """One training run.

    Attributes:
        network: trained in place; ends in eval mode, with the averaged weights when there are any.
        data: training data set.
        train, validation: positions in ``data``; validation images are never trained on.
        references: frozen networks of the misalignment penalty.
        params: settings.
        state_path: where the state of an interrupted run goes; None keeps none.
        settings: all that decides the run, as JSON values: a state of other settings is refused.
        recorded: the reference's gradients, where they are known beforehand.
        history: one dict for each finished epoch.
    """

    network: Network
    data: ImageSet
    train: Tensor
    validation: Tensor
    references: Sequence[Network]
    params: TrainParams
    state_path: Path | None
    settings: dict[str, Any]
    recorded: CachedGradients | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    _ema: dict[str, Tensor] = field(default_factory=dict)


def train(run: Run, *, resume: bool, stop: Stop, show: Callable[[TrainProgress], None]) -> list[dict[str, Any]]:
    """Train ``run.network``; returns the history.

    The state is written after every epoch and when ``stop`` is set, so a killed run loses an epoch at most and a
    stopped one nothing.

    Raises:
        Interrupted: ``stop`` was set; the state is written.
        InputError: fewer images than a batch, a loss that is not finite, a state that does not fit.
    """
    params = run.params
    tune_malloc()
    distributed.synchronise_batch_norm(run.network)
    run.network.net.to(memory_format=torch.channels_last)  # 1.2 to 1.8 times as fast
    optimizer = make_optimizer(run.network, params)
    if params.batch_size % distributed.world_size():
        world = distributed.world_size()
        raise InputError(
            f"a batch of {params.batch_size} is not shared evenly by {world} processes; change --batch-size"
        )
    steps = len(run.train) // params.batch_size
    if steps == 0:
        raise InputError(f"{len(run.train)} training images fill no batch of {params.batch_size}; lower --batch-size")
    objective = objective_of(run.network, run.references, params, run.recorded)
    names, counted = ("images", *objective.measures), task_of([run.network]).counts_in_training
    epoch, step, running_sums = 0, 0, dict.fromkeys(names, 0.0)
    run._ema = {name: t.detach().clone() for name, t in run.network.net.state_dict().items()} if params.ema else {}
    if resume and run.state_path is not None:
        found = state.read_state(
            run.state_path,
            run.settings,
            epochs=params.epochs,
            steps=steps,
            batch_size=params.batch_size,
            sums=running_sums,
        )
        run._ema = state.unpack(run.state_path, found.tensors, run.network.net, optimizer, ema=bool(params.ema))
        epoch, step, running_sums, run.history = found.epoch, found.step, found.running_sums, found.history
    began, taken, first = time.perf_counter(), 0, epoch * steps + step
    while epoch < params.epochs:
        order = run.train[epoch_order(len(run.train), params.seed, epoch)]
        while step < steps:
            positions = order[step * params.batch_size : (step + 1) * params.batch_size]
            _step(run, optimizer, objective, positions, epoch, epoch * steps + step, steps, running_sums)
            step, taken = step + 1, taken + 1
            spent = time.perf_counter() - began
            left = spent / taken * (params.epochs * steps - first - taken)
            show(_progress(epoch, step, steps, running_sums, counted, spent, left))
            if _stopped(stop):
                _save(run, optimizer, epoch, step, running_sums)
                raise Interrupted(stop.signum or 2, f"state written to {run.state_path}; go on with --resume")
        run.history.append(_epoch_record(run, epoch, running_sums))
        epoch, step, running_sums = epoch + 1, 0, dict.fromkeys(names, 0.0)
        if epoch < params.epochs:
            _save(run, optimizer, epoch, step, running_sums)
    if run._ema:
        run.network.net.load_state_dict(run._ema)
    if params.precise_bn and params.epochs:
        estimate_statistics(run, params.precise_bn, params.epochs - 1)
    run.network.eval().requires_grad_(False)
    return run.history


def estimate_statistics(run: Run, images: int, epoch: int) -> None:
    """Give batch-norms the statistics of ``images`` training images, as ``epoch`` orders and augments them."""
    size = run.params.batch_size
    count = max(1, min(images, len(run.train)) // size) * size
    order = run.train[epoch_order(len(run.train), run.params.seed, epoch)]
    precise_batch_norm(run.network, run.data, order[:count], run.params, epoch)


def accuracy_with_precise_bn(run: Run, images: int = 5000) -> int | None:
    """Right predictions on the held-out part if batch-norm's statistics were those of so many training images.

    None without a held-out part, and where the statistics were estimated already. The network stays as it is.
    """
    if run.params.precise_bn or not run.params.epochs or not len(run.validation):
        return None
    live = {name: tensor.clone() for name, tensor in run.network.net.state_dict().items()}
    estimate_statistics(run, images, run.params.epochs - 1)
    correct, _ = accuracy(run.network, run.data, run.validation)
    run.network.net.load_state_dict(live)
    return correct


def epoch_order(count: int, seed: int, epoch: int) -> Tensor:
    """The permutation of ``count`` images in ``epoch``: a function of seed and epoch alone."""
    generator = torch.Generator().manual_seed((seed * 1_000_003 + epoch) & (2**63 - 1))
    return torch.randperm(count, generator=generator)


def dropout_seed(seed: int, number: int, rank: int) -> int:
    """What dropout masks are drawn from: a function of the run's seed, the step and the rank alone.

    Ranks have masks of their own: one mask on all would drop the same units for every share of the batch.
    """
    if rank:
        return counter_rng.stream("dropout", seed, number, rank)
    return (seed * 7_368_787 + number) & (2**63 - 1)


def make_optimizer(network: Network, params: TrainParams) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum, or AdamW; biases and batch-norm parameters are not decayed."""
    weights = [p for p in network.net.parameters() if p.ndim > 1]
    others = [p for p in network.net.parameters() if p.ndim <= 1]
    groups = [{"params": weights, "weight_decay": params.weight_decay}, {"params": others, "weight_decay": 0.0}]
    if params.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=params.lr)
    return torch.optim.SGD(groups, lr=params.lr, momentum=params.momentum, nesterov=params.momentum > 0)


def _step(
    run: Run,
    optimizer: torch.optim.Optimizer,
    objective: TrainingObjective,
    positions: Tensor,
    epoch: int,
    number: int,
    steps: int,
    running_sums: dict[str, float],
) -> None:
    """One step on this rank's share of a global batch."""
    params, world = run.params, distributed.world_size()
    share = positions[distributed.rank() :: world]
    images, targets = run.data.batch(share)
    indices = run.data.indices[share]
    device = next(run.network.parameters()).device
    images, targets, indices = images.to(device), targets.to(device), indices.to(device)
    task = task_of([run.network])
    images, targets = task.augmented(images, targets, indices, params.augment, params.seed, epoch)
    images = images.contiguous(memory_format=torch.channels_last)
    torch.manual_seed(dropout_seed(params.seed, number, distributed.rank()))
    for group in optimizer.param_groups:
        group["lr"] = params.lr * lr_factor(params.schedule, number, params.epochs * steps)
    optimizer.zero_grad(set_to_none=True)
    training_mode(run.network, freeze_bn=params.freeze_bn).requires_grad_(True)
    terms = objective(TrainingStep(images, targets, indices, epoch, number, steps))
    loss = torch.stack(list(terms.losses.values())).sum(0).mean()
    sums = [torch.tensor(float(len(targets))), *(terms.measures[name].sum() for name in objective.measures)]
    torch.autograd.backward(loss)
    distributed.average_gradients(run.network.net.parameters())
    if params.clip:
        torch.nn.utils.clip_grad_norm_(run.network.net.parameters(), params.clip)
    optimizer.step()
    _average(run, number)
    values = distributed.sum_over_ranks(torch.stack([value.double().cpu() for value in sums]))
    if not bool(torch.isfinite(values).all()):
        raise Diverged(f"training diverged in epoch {epoch + 1}: the loss is not finite; lower --lr or the weights")
    for name, value in zip(("images", *objective.measures), values.tolist(), strict=True):
        running_sums[name] += value


def training_mode(network: Network, *, freeze_bn: bool) -> Network:
    """``network`` in training mode; with ``freeze_bn`` batch-norms normalise by the statistics that they have."""
    network.train()
    if freeze_bn:
        for module in network.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
    return network


def _average(run: Run, number: int) -> None:
    if not run._ema:
        return
    decay = min(run.params.ema, (1 + number) / (10 + number))  # short memory at first: the start is soon forgotten
    with torch.no_grad():
        for name, tensor in run.network.net.state_dict().items():
            if tensor.is_floating_point():
                run._ema[name].lerp_(tensor, 1.0 - decay)
            else:
                run._ema[name].copy_(tensor)


def _progress(
    epoch: int, step: int, steps: int, running_sums: dict[str, float], counted: bool, spent: float, left: float
) -> TrainProgress:
    seen = max(running_sums["images"], 1.0)
    accuracy = running_sums["correct"] / seen if counted else None
    return TrainProgress(epoch, step, steps, running_sums["loss"] / seen, accuracy, spent, left)


def _stopped(stop: Stop) -> bool:
    """Whether any rank was told to stop: all must leave at the same step."""
    if distributed.world_size() == 1:
        return bool(stop)
    return bool(distributed.sum_over_ranks(torch.tensor(int(bool(stop)))) > 0)


def _save(run: Run, optimizer: torch.optim.Optimizer, epoch: int, step: int, running_sums: dict[str, float]) -> None:
    if distributed.rank() == 0 and run.state_path is not None:
        tensors = state.pack(run.network.net.state_dict(), optimizer, run._ema or None)
        state.write_state(run.state_path, state.State(epoch, step, tensors, running_sums, run.history), run.settings)


def _epoch_record(run: Run, epoch: int, running_sums: dict[str, float]) -> dict[str, Any]:
    """Means over the epoch, and the accuracy on the held-out part (of the averaged weights, if any)."""
    seen = running_sums["images"]
    record: dict[str, Any] = {
        "epoch": epoch + 1,
        "images": int(seen),
        "right": int(running_sums["correct"]) if task_of([run.network]).counts_in_training else None,
        "cross_entropy": running_sums["loss"] / seen,
    }
    if run.params.misalign is not None:
        record |= {
            "cosine": running_sums["cosine"] / seen,
            "absolute_cosine": running_sums["absolute"] / seen,
            "gradient_norm": running_sums["norm"] / seen,
            "penalty": running_sums["penalty"] / seen,
        }
    if len(run.validation):
        live = {name: tensor.clone() for name, tensor in run.network.net.state_dict().items()}
        if run._ema:
            run.network.net.load_state_dict(run._ema)
        if run.params.precise_bn:
            estimate_statistics(run, run.params.precise_bn, epoch)
        record["validation_right"], record["validation_images"] = accuracy(run.network, run.data, run.validation)
        found = figures(run.network, run.data, run.validation)
        record |= {f"validation_{name}": value for name, value in found.items()}
        run.network.net.load_state_dict(live)
    return record
