"""After the search: finalists trained from scratch by the whole recipe, one of them chosen on validation data."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from advkit.evolution.run_directory import RunDirectory
from advkit.evolution.search import Individual, Record, accuracy, transfer
from advkit.files.atomic import atomic_write
from advkit.files.checkpoint import read_checkpoint, write_checkpoint

TOLERANCE = 0.02  # accuracy that E may lack against what it is compared with


def floors(reached: Sequence[float], given: float | None) -> list[float]:
    """The accuracy floor of each rung: as far from what R' reaches there as at full length.

    Args:
        reached: validation accuracy of R' as a candidate at each rung.
        given: the floor at full length; None for :data:`TOLERANCE` less than R' reaches.
    """
    gap = TOLERANCE if given is None else reached[-1] - given
    found = [max(0.0, one - gap) for one in reached]
    return found if given is None else [*found[:-1], given]


@dataclass(frozen=True)
class Choice:
    """Which finalist became E.

    Attributes:
        id: of the candidate.
        bound: validation accuracy that was asked for.
        kept: whether E reaches it; if nobody does, the most accurate finalist is taken.
    """

    id: str
    bound: float
    kept: bool


def choose(finals: Sequence[Record], rival: float | None) -> Choice | None:
    """The finalist with the lowest T_cond among those accurate enough; None when all trainings failed.

    Args:
        finals: records of the final trainings.
        rival: validation accuracy of the network that E is compared with; None takes the best finalist's.
    """
    sound = [record for record in finals if transfer(record) is not None]
    if not sound:
        return None
    bound = (rival if rival is not None else max(map(accuracy, sound))) - TOLERANCE
    fit = [record for record in sound if accuracy(record) >= bound]
    if fit:
        best = min(fit, key=lambda record: (transfer(record), -accuracy(record), record["id"]))
    else:
        best = max(sound, key=lambda record: (accuracy(record), record["id"]))
    return Choice(best["id"], bound, bool(fit))


def write_chosen(directory: RunDirectory, choice: Choice, folder: str, out: Path, run: str) -> None:
    """Write the checkpoint of E, from ``folder``, to ``out``, marked by ``run`` (a hash) as this run's."""
    checkpoint = read_checkpoint(directory.weights(choice.id, folder))
    checkpoint.meta["settings"] = {"evolve": run}
    write_checkpoint(out, checkpoint)


def write_front(directory: RunDirectory, members: Sequence[Individual]) -> list[Path]:
    """Copy the checkpoints of the front beside the run, and nothing else there; returns their files."""
    wanted = {member.child.id for member in members}
    for old in (directory.path / "front").glob("*.safetensors"):
        if old.stem not in wanted:
            old.unlink(missing_ok=True)
    paths = []
    for member in members:
        path = directory.weights(member.child.id, "front")
        with atomic_write(path) as temporary:
            shutil.copyfile(directory.weights(member.child.id), temporary)
        paths.append(path)
    return paths
