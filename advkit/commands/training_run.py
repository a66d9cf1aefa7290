"""What tools that train one network do alike: start, refuse to overwrite, show, write."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advkit.commands.loading import device_of_rank, is_fresh
from advkit.commands.output import Progress
from advkit.commands.train_config import FitOptions, TrainingConfig
from advkit.files.errors import InputError
from advkit.files.streams import duration, say

if TYPE_CHECKING:
    from advkit.training.run import Run, TrainProgress


def in_process_group(config: FitOptions, body: Callable[[str, int, int], int]) -> int:
    """Run ``body`` (device, rank, processes) in each process that torchrun starts, the first holding the lock.

    Returns:
        the exit status, that of a process which writes nothing being 0.

    Raises:
        InputError: another process writes the same checkpoint.
    """
    from advkit.files.lock import sole_writer
    from advkit.parallel import process_group
    from advkit.training.state import resume_path

    with (
        process_group.joined() as (rank, world),
        sole_writer(config.out, resume_path(config.out)) if rank == 0 else contextlib.nullcontext(),
    ):
        return body(device_of_rank(config.device, world), rank, world)


def refuse_foreign(config: FitOptions, settings: dict[str, Any], state_path: Path) -> None:
    """A checkpoint of another run (or another file) is not replaced unasked, an unfinished run not forgotten.

    Raises:
        InputError: says what stands in the way.
    """
    if not config.force:
        refuse_replacement(config.out, lambda found: bool(found == settings))
    if config.resume and not state_path.exists() and config.out.exists():
        raise InputError(f"{config.out}: this run is finished; nothing to resume")
    if not config.resume and not config.force:
        refuse_unfinished(state_path)


def refuse_replacement(out: Path, same: Callable[[Any], bool]) -> None:
    """Refuse to replace ``out`` unless it is a checkpoint with settings that ``same`` takes for this run's."""
    from advkit.files.checkpoint import read_checkpoint

    if not out.exists():
        return
    try:
        settings = read_checkpoint(out).meta.get("settings")
    except InputError as error:
        raise InputError(f"{out}: exists and is no checkpoint of this run; --force replaces it") from error
    if not same(settings):
        raise InputError(f"{out}: holds the checkpoint of another run; choose another name or --force")


def refuse_unfinished(state_path: Path) -> None:
    """Refuse to forget an unfinished run."""
    if state_path.exists():
        raise InputError(f"{state_path}: an unfinished run; go on with --resume, or start anew with --force")


def fit(job: Run, config: FitOptions, rank: int) -> None:
    """Train, telling about it: a bar on a terminal, elsewhere (in a log) a line for each epoch."""
    from advkit.files.signals import catch_stop_signals
    from advkit.reports.train import epoch_line
    from advkit.training.loop import train

    quiet, epochs = config.quiet or rank > 0, job.params.epochs
    lines = not quiet and not sys.stderr.isatty()
    told: set[int] = set()
    resumed = config.resume

    def tell(left: float) -> None:
        for record in job.history:
            if lines and record["epoch"] not in told:
                say(f"advkit: {epoch_line(record, epochs)}, {duration(left)} left")
            told.add(record["epoch"])

    def show(state: TrainProgress) -> None:
        nonlocal resumed
        if resumed:  # these epochs were told by the run that was interrupted
            told.update(record["epoch"] for record in job.history)
            resumed = False
        tell(state.left)
        text = f"epoch {state.epoch + 1}/{epochs}  step {state.step}/{state.steps}  loss {state.loss:.3f}"
        if state.accuracy is not None:
            text += f"  accuracy {100 * state.accuracy:.1f} %"
        progress.show(text, state.epoch * state.steps + state.step, epochs * state.steps, state.left)

    with catch_stop_signals() as stop, Progress(quiet) as progress:
        train(job, resume=config.resume, stop=stop, show=show)
    tell(0.0)


def write(job: Run, config: FitOptions, tool: str, metrics: Mapping[str, Any]) -> None:
    """The checkpoint; then the state of the unfinished run is no longer needed."""
    from advkit.files.checkpoint import Checkpoint, write_checkpoint

    spec, images = job.network.spec, job.data
    meta = {
        "task": spec.task,
        "architecture": spec.architecture,
        "model_args": spec.model_args,
        "num_classes": spec.num_classes,
        "labels": list(spec.labels or (images.class_names if images else ())),
        "input_size": list(spec.input_size),
        "mean": list(spec.mean),
        "std": list(spec.std),
        "parents": [{"sha256": reference.spec.sha256} for reference in job.references],
        "data": images.origin() if images else None,
        "command": tool,
        "seed": config.seed,
        "settings": job.settings,
        "metrics": metrics,
    }
    if spec.sha256 and not job.params.epochs:
        meta["parents"] = [{"sha256": spec.sha256}]
        if spec.crop is not None:  # trained weights are for pictures as this training saw them
            meta |= {"crop_pct": spec.crop.crop_pct, "interpolation": spec.crop.interpolation}
    write_checkpoint(config.out, Checkpoint(job.network.net.state_dict(), meta))
    if job.state_path is not None:
        job.state_path.unlink(missing_ok=True)


def untrained(config: TrainingConfig) -> bool:
    """Whether what is written was made anew and never trained."""
    return not config.epochs and not config.init and is_fresh(config.arch)
