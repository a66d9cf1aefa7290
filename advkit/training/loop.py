"""The training loop: it reads from top to bottom, and every method is an objective of named per-image terms."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from advkit.files.errors import InputError, Interrupted
from advkit.files.malloc import tune_malloc
from advkit.files.signals import Stop
from advkit.files.tensors import first_not_finite
from advkit.models.live_fold import LiveFold
from advkit.models.network import Network
from advkit.parallel import process_group
from advkit.tasks.task import task_of
from advkit.training import distributed, state
from advkit.training.measurement import best_so_far, estimate_statistics, record_epoch
from advkit.training.moving_average import move_average, warmed_up
from advkit.training.objective import TrainingObjective, TrainingStep, objective_of
from advkit.training.optimizer import make_optimizer
from advkit.training.order import dropout_seed, epoch_order
from advkit.training.overfitting import best_epoch
from advkit.training.run import Diverged, Run, TrainProgress
from advkit.training.schedule import lr_factor


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
    if params.batch_size % process_group.world_size():
        world = process_group.world_size()
        raise InputError(
            f"a batch of {params.batch_size} is not shared evenly by {world} processes; change --batch-size"
        )
    steps = len(run.train) // params.batch_size
    if steps == 0:
        raise InputError(f"{len(run.train)} training images fill no batch of {params.batch_size}; lower --batch-size")
    objective = run.objective or objective_of(run.network, run.references, params, run.recorded)
    optimizer = make_optimizer(run.network, params, objective.trained)
    names, counted = ("images", *objective.measures), task_of([run.network]).counts_in_training
    # A penalty on gradients has a fold of its own (FusedView).
    folds = (params.freeze_bn or params.adversarial) and not run.references
    folded = LiveFold(run.network).applied if folds else contextlib.nullcontext
    epoch, step, running_sums = 0, 0, dict.fromkeys(names, 0.0)
    run.ema = {name: t.detach().clone() for name, t in run.network.net.state_dict().items()} if params.ema else {}
    if resume and run.state_path is not None:
        found = state.read_state(
            run.state_path,
            run.settings,
            epochs=params.epochs,
            steps=steps,
            batch_size=params.batch_size,
            sums=running_sums,
        )
        _restore(run, optimizer, objective, found)
        epoch, step, running_sums = found.epoch, found.step, found.running_sums
    began, taken, first = time.perf_counter(), 0, epoch * steps + step
    shuffled, order = -1, run.train
    while epoch < params.epochs:
        while step < steps:
            number = epoch * steps + step
            turn, place = divmod(number // objective.replays, steps)  # of the batch: it stays for all of its replays
            if turn != shuffled:
                shuffled, order = turn, run.train[epoch_order(len(run.train), params.seed, turn)]
            positions = order[place * params.batch_size : (place + 1) * params.batch_size]
            with folded():
                _step(run, optimizer, objective, positions, turn, number, steps, running_sums)
            step, taken = step + 1, taken + 1
            spent = time.perf_counter() - began
            left = spent / taken * (params.epochs * steps - first - taken)
            show(_progress(epoch, step, steps, running_sums, counted, spent, left))
            if _stopped(stop):
                _save(run, optimizer, objective, epoch, step, running_sums)
                raise Interrupted(stop.signum or 2, f"state written to {run.state_path}; go on with --resume")
        _require_finite(run, epoch)
        record_epoch(run, objective, epoch, running_sums)
        epoch, step, running_sums = epoch + 1, 0, dict.fromkeys(names, 0.0)
        if run.check is not None and run.check.ends(run.history):
            break
        if epoch < params.epochs:
            _save(run, optimizer, objective, epoch, step, running_sums)
    _keep(run, objective)
    return run.history


def _keep(run: Run, objective: TrainingObjective) -> None:
    """End with the weights that the last epoch was measured with; with those selected, or asked for by an alarm."""
    run.kept_epoch = len(run.history)
    if run.best and run.selection is not None:
        run.network.net.load_state_dict(run.best)
        run.kept_epoch = run.selection.best_epoch(run.history) or run.kept_epoch
    elif run.best and run.check is not None and run.check.ends(run.history):
        run.network.net.load_state_dict(run.best)
        run.kept_epoch = best_epoch(run.history) or run.kept_epoch
    else:
        if run.ema:
            run.network.net.load_state_dict(run.ema)
        if run.params.precise_bn and run.history:
            estimate_statistics(run, run.params.precise_bn, len(run.history) - 1)
        objective.prepare_inference()
    run.network.eval().requires_grad_(False)


def _restore(run: Run, optimizer: torch.optim.Optimizer, objective: TrainingObjective, found: state.State) -> None:
    assert run.state_path is not None
    run.history = found.history
    measured = best_so_far(run) is not None
    run.ema, run.best = state.unpack(
        run.state_path, found.tensors, run.network.net, optimizer, ema=bool(run.params.ema), best=measured
    )
    try:
        if found.epoch or found.step:
            objective.load_state(state.part(found.tensors, "objective."))
    except ValueError as error:
        raise InputError(f"{run.state_path}: does not fit the objective ({error}); start anew with --force") from error


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
    params, world = run.params, process_group.world_size()
    share = positions[process_group.rank() :: world]
    images, targets = run.data.batch(share)
    indices = run.data.indices[share]
    device = next(run.network.parameters()).device
    images, targets, indices = images.to(device), targets.to(device), indices.to(device)
    task = task_of([run.network])
    images, targets = task.augmented(images, targets, indices, params.augment, params.seed, epoch)
    images = images.contiguous(memory_format=torch.channels_last)
    torch.manual_seed(dropout_seed(params.seed, number, process_group.rank()))
    for group in optimizer.param_groups:
        group["lr"] = params.lr * lr_factor(params.schedule, number, params.epochs * steps)
    optimizer.zero_grad(set_to_none=True)
    training_mode(run.network, freeze_bn=params.freeze_bn).requires_grad_(True)
    terms = objective(TrainingStep(images, targets, indices, epoch, number, steps))
    loss = torch.stack(list(terms.losses.values())).sum(0).mean()
    sums = [torch.tensor(float(len(targets))), *(terms.measures[name].sum() for name in objective.measures)]
    torch.autograd.backward(loss)
    objective.after_backward()
    for module in (run.network.net, objective.trained):
        if module is not None:  # each is bounded by itself: a large gradient of one must not slow the other
            distributed.average_gradients(module.parameters())
            if params.clip:
                torch.nn.utils.clip_grad_norm_(module.parameters(), params.clip)
    optimizer.step()
    objective.after_step()
    _average(run, number)
    values = process_group.sum_over_ranks(torch.stack([value.double().cpu() for value in sums]))
    if not bool(torch.isfinite(values).all()):
        raise _diverged(run, number // steps, "the loss is")
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
    if not run.ema:
        return
    move_average(run.ema, run.network.net.state_dict(), warmed_up(run.params.ema, number))


def _progress(
    epoch: int, step: int, steps: int, running_sums: dict[str, float], counted: bool, spent: float, left: float
) -> TrainProgress:
    seen = max(running_sums["images"], 1.0)
    accuracy = running_sums["correct"] / seen if counted else None
    return TrainProgress(epoch, step, steps, running_sums["loss"] / seen, accuracy, spent, left)


def _stopped(stop: Stop) -> bool:
    """Whether any rank was told to stop: all must leave at the same step."""
    if process_group.world_size() == 1:
        return bool(stop)
    return bool(process_group.sum_over_ranks(torch.tensor(int(bool(stop)))) > 0)


def _require_finite(run: Run, epoch: int) -> None:
    """Weights that are not numbers are never written: the state of the epoch before stays.

    Raises:
        Diverged: names it.
    """
    if first_not_finite(run.network.net.state_dict()):
        raise _diverged(run, epoch, "weights are")


def _diverged(run: Run, epoch: int, what: str) -> Diverged:
    """What to say of a training that came apart in ``epoch``, counted from 0."""
    why, how = f"training diverged in epoch {epoch + 1}: {what} not finite; lower --lr or the weights", ""
    if epoch and run.state_path is not None:
        start = f"--init {run.network.spec.architecture}@{run.state_path}#model"
        how = f"; the state after epoch {epoch} is in {run.state_path}: go on from its weights with {start}, another -o"
    return Diverged(why, how)


def _save(
    run: Run,
    optimizer: torch.optim.Optimizer,
    objective: TrainingObjective,
    epoch: int,
    step: int,
    running_sums: dict[str, float],
) -> None:
    carried = objective.state()
    if process_group.rank() == 0 and run.state_path is not None:
        parts = {"ema": run.ema, "best": run.best, "objective": carried}
        tensors = state.pack(run.network.net.state_dict(), optimizer, parts)
        state.write_state(run.state_path, state.State(epoch, step, tensors, running_sums, run.history), run.settings)
