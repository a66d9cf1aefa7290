"""Other runs of ``evolve``, shown beside this one where their numbers compare."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from advkit.evolution.search import Record
from advkit.files.errors import InputError

# What must be alike: the images, the attacks, and how a candidate is trained. The budget may differ; it is shown.
_SAME = (
    "reference",
    "data",
    "data_seed",
    "validation",
    "validation_images",
    "attacks",
    "recipe",
    "candidate_images",
    "candidate_epochs",
)


@dataclass(frozen=True)
class OtherRun:
    """A finished run.

    Attributes:
        path: its directory.
        search: evolution or random.
        front: records.
        members: candidates trained to full length without failing.
        cost: full-length trainings.
    """

    path: Path
    search: str
    front: list[Record]
    members: int
    cost: float


def read(path: Path, settings: dict[str, Any]) -> OtherRun:
    """The run in ``path``, which must compare with one of ``settings``.

    Raises:
        InputError: no run directory, damaged, unfinished, or measured in another way (what differs is named).
    """
    try:
        theirs = json.loads((path / "run.json").read_text(encoding="utf-8"))
        state = json.loads((path / "population.json").read_text(encoding="utf-8"))
        last = f"rung{theirs['search']['rungs'] - 1}"
        lines = (path / "candidates.jsonl").read_text(encoding="utf-8").splitlines()
        members = {
            line["id"]
            for line in map(json.loads, lines)
            if line["stage"] == last and "genome" in line and line["error"] is None
        }
        found = OtherRun(
            path, str(theirs["search"]["search"]), list(state["front"]), len(members), float(state["cost"])
        )
        finished = state["generation"] == state["generations"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"--beside-run {path}: is no run directory of evolve; give one that is finished") from error
    if not finished:
        raise InputError(f"--beside-run {path}: is not finished; let it end first")
    own = json.loads(json.dumps(settings))
    differing = [name for name in _SAME if theirs.get(name) != own[name]]
    if differing:
        raise InputError(f"--beside-run {path}: was made with another {', '.join(differing)}; it does not compare")
    return found
