"""Other runs of ``evolve``, reported with this one where their numbers compare."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from advkit.evolution.search import Record
from advkit.evolution.settings_diff import settings_diff
from advkit.files.errors import InputError

# What must be alike for numbers to compare: images, attacks, and how a candidate is trained.
_SAME = (
    "reference",
    "data",
    "data_seed",
    "validation",
    "validation_images",
    "attacks",
    "mean",
    "std",
    "recipe",
    "candidate_images",
    "candidate_epochs",
)
# What must be alike for searches to compare: what they may spend, on what, and what they select for. How they breed
# is what is compared; inherited weights are training that adds up.
_FAIR = ("begin_with", "threads", "device", "versions")
_FAIR_SEARCH = ("objective", "budget", "offspring", "rungs", "accuracy_floor", "limits", "inherit")


@dataclass(frozen=True)
class ComparedRun:
    """A finished run.

    Attributes:
        path: its directory.
        search: evolution or random.
        front: records.
        members: candidates trained to full length without failing.
        cost: full-length trainings.
        unlike: how it was searched otherwise than this run, besides breeding; phrases of
            :func:`advkit.evolution.settings_diff.settings_diff`.
    """

    path: Path
    search: str
    front: list[Record]
    members: int
    cost: float
    unlike: list[str]


def read(path: Path, settings: dict[str, Any]) -> ComparedRun:
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
        kind, front, cost = str(theirs["search"]["search"]), list(state["front"]), float(state["cost"])
        finished = state.get("finished", state["generation"] == state["generations"])
        own = json.loads(json.dumps(settings))
        differing = settings_diff(*({name: one.get(name) for name in _SAME} for one in (theirs, own)))
        unlike = settings_diff(*map(_fair, (theirs, own)))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"--compare-run {path}: is no run directory of evolve; give one that is finished") from error
    if not finished:
        raise InputError(f"--compare-run {path}: is not finished; let it end first")
    if differing:
        raise InputError(f"--compare-run {path}: was made otherwise ({', '.join(differing)}); it does not compare")
    return ComparedRun(path, kind, front, len(members), cost, unlike)


def _fair(settings: dict[str, Any]) -> dict[str, Any]:
    search = {name: settings["search"].get(name) for name in _FAIR_SEARCH}
    return {"search": search} | {name: settings.get(name) for name in _FAIR}
