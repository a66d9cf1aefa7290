"""What an epoch is recorded with: means over its images, and counts on the held-out part."""

from __future__ import annotations

from typing import Any

from advkit.tasks.task import task_of
from advkit.training.batch_statistics import precise_batch_norm
from advkit.training.evaluation import accuracy, accuracy_and_figures
from advkit.training.objective import TrainingObjective
from advkit.training.order import epoch_order
from advkit.training.overfitting import best_epoch
from advkit.training.run import Run


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


def record_epoch(run: Run, objective: TrainingObjective, epoch: int, running_sums: dict[str, float]) -> None:
    """Append to the history: means over the epoch, and counts on the held-out part (of the averaged weights, if any).

    The weights in training stay as they are. Where an alarm may ask for the best ones under attack, they are kept.
    """
    seen = running_sums["images"]
    record: dict[str, Any] = {
        "epoch": epoch + 1,
        "images": int(seen),
        "right": int(running_sums["correct"]) if task_of([run.network]).counts_in_training else None,
        "cross_entropy": running_sums["loss"] / seen,
    }
    run.history.append(record | objective.record(running_sums))
    if not len(run.validation) and run.selection is None:
        return
    live = {name: tensor.clone() for name, tensor in run.network.net.state_dict().items()}
    if run.ema:
        run.network.net.load_state_dict(run.ema)
    if run.params.precise_bn:
        estimate_statistics(run, run.params.precise_bn, epoch)
    objective.prepare_inference()
    record = run.history[-1]
    if len(run.validation):
        right, images, found = accuracy_and_figures(run.network, run.data, run.validation)
        record |= {"validation_right": right, "validation_images": images}
        record |= {f"validation_{name}": value for name, value in found.items()}
        if run.check is not None:
            record |= run.check.measure(run.network, run.data)
    if run.selection is not None:
        record |= run.selection.measure(run.network)
    if best_so_far(run) == epoch + 1:
        run.best = {name: tensor.clone() for name, tensor in run.network.net.state_dict().items()}
    run.network.net.load_state_dict(live)


def best_so_far(run: Run) -> int | None:
    """The epoch, from 1, whose weights the end may go back to; None where it never goes back."""
    if run.selection is not None:
        return run.selection.best_epoch(run.history)
    if run.check is not None and run.check.on_overfit == "rollback":
        return best_epoch(run.history)
    return None
