"""Searches of a few small candidates, and what their runs have in common."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import handmade
import scripted

SMALL = [
    *("--data", "digits", "--limit", "432", "--candidate-images", "384", "--candidate-epochs", "1"),
    *("--validation-images", "40", "--budget", "4", "--offspring", "3", "--population", "2", "--epochs", "1"),
    *("--eps", "0.2", "--steps", "2", "--max-multiply-adds", "400000", "--max-parameters", "60000", "--quiet"),
    *("--finalists", "1", "--accuracy-floor", "0.1"),
]


GENOME = handmade.GENOME  # small enough for the limits above
MORE = ("--baseline", "advkit/genome:patch", "--begin-with", f"advkit/genome:{GENOME}")


def tree(run: Path) -> dict[str, bytes]:
    """What two equal runs have in common: all but the lock and the log of trainings, which says how long they took."""
    return {
        str(path.relative_to(run)): path.read_bytes()
        for path in sorted(run.rglob("*"))
        if path.is_file() and path.name not in ("candidates.jsonl", "lock")
    }


def trainings(run: Path) -> dict[tuple[str, str], dict[str, Any]]:
    lines = map(json.loads, (run / "candidates.jsonl").read_text().splitlines())
    return {
        (line["id"], line["stage"]): {name: v for name, v in line.items() if not name.endswith("seconds")}
        for line in lines
    }


PROGRAM = (sys.executable, str(Path(scripted.__file__)))  # candidates turn out as they are told


def search(two: Path, *options: str | Path) -> list[str | Path]:
    """Arguments of a search against the R made by hand; ``options`` win over those of every search."""
    return ["evolve", two / "r.safetensors", *SMALL, "--data", two / "two.npz", "--eps", handmade.EPS, *options]


def result_of(finished: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """What the report on stdout says under ``result``."""
    assert finished.returncode == 0, finished.stderr
    found: dict[str, Any] = json.loads(finished.stdout)["result"]
    return found


def without(options: list[str], *names: str) -> list[str]:
    """``options``, all of which have a value but the last switches, without ``names``."""
    found = list(options)
    for name in names:
        place = found.index(name)
        del found[place : place + 2]
    return found
