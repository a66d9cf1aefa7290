"""The run directory: what a search was asked, every training it has paid for, and where it stands.

    run.json          settings and inputs; a directory of another run is refused
    candidates.jsonl  one line for each finished training, in the order of completion
    population.json   the population and the front after the last finished generation
    adversarial-*.safetensors, weights/, front/, final/

A search is a function of its settings and of the results of its trainings. A killed one is therefore gone through
again from the start, with the recorded results in place of the trainings: it proposes the same candidates and ends in
the same bytes.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from advkit.files.atomic import unwritable, write_text
from advkit.files.checkpoint import dump
from advkit.files.errors import InputError


class RunDirectory:
    """One run directory, opened for writing.

    Attributes:
        path: the directory.
        known: records by (id, rung) of the trainings that are paid for.
    """

    def __init__(self, path: Path, settings: dict[str, Any], *, force: bool = False) -> None:
        """Make the directory, or go on with a run of the same ``settings``.

        Raises:
            InputError: it holds another run (the settings that differ are named), something else, or can't be written.
        """
        self.path, self.known = path, dict[tuple[str, str], dict[str, Any]]()
        try:
            path.mkdir(exist_ok=True)
            for name in ("weights", "front", "final"):
                (path / name).mkdir(exist_ok=True)
        except OSError as error:
            raise unwritable(path, error) from error
        wanted = json.loads(dump(settings))
        found = self._read_settings()
        if found is None and (self._file("candidates.jsonl").exists()):
            raise InputError(f"{path}: has candidates but no run.json; choose another --run-dir, or --force")
        if found is not None and found != wanted and not force:
            changed = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
            why = f"holds a run with another {', '.join(changed)}"
            raise InputError(f"{path}: {why}; choose another --run-dir, or --force to drop it")
        if force and found != wanted:
            for old in (*path.glob("*.jsonl"), *path.glob("*.safetensors"), *path.glob("*/*.safetensors")):
                old.unlink()
        if found != wanted:
            write_text(self._file("run.json"), json.dumps(wanted, indent=2, sort_keys=True) + "\n")
        self._read_candidates()

    def _file(self, name: str) -> Path:
        return self.path / name

    def _read_settings(self) -> dict[str, Any] | None:
        path = self._file("run.json")
        if not path.exists():
            return None
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(f"{path}: is damaged; choose another --run-dir, or delete it") from error
        if not isinstance(found, dict):
            raise InputError(f"{path}: is not a JSON object; choose another --run-dir, or delete it")
        return found

    def _read_candidates(self) -> None:
        """Read the records; a last line that a kill cut short is dropped, for its training will be done again."""
        path = self._file("candidates.jsonl")
        if not path.exists():
            return
        data = path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if whole != data:
            with path.open("rb+") as file:
                file.truncate(len(whole))
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                record = json.loads(line)
                self.known[record["id"], record["stage"]] = record
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise InputError(f"{path}: line {number} is damaged; delete it to train that one again") from error

    def add(self, record: dict[str, Any]) -> None:
        """Append the record of a finished training; it is on the disk when this returns."""
        path = self._file("candidates.jsonl")
        line = (dump(record) + "\n").encode()
        try:
            before = path.stat().st_size if path.exists() else 0
            with path.open("ab", buffering=0) as file:
                try:
                    written = 0
                    while written < len(line):
                        written += file.write(line[written:])
                    os.fsync(file.fileno())
                except OSError:
                    os.truncate(path, before)  # never half a line
                    raise
        except OSError as error:
            raise unwritable(path, error) from error
        self.known[record["id"], record["stage"]] = record

    def save_population(self, state: dict[str, Any]) -> None:
        """Write ``population.json``: equal searches write equal bytes, so no time of day and no seconds in it."""
        write_text(self._file("population.json"), json.dumps(state, indent=2, sort_keys=True, allow_nan=False) + "\n")

    def weights(self, name: str, folder: str = "weights") -> Path:
        """Where the checkpoint of the candidate ``name`` lies."""
        return self.path / folder / f"{name}.safetensors"

    def keep_weights(self, names: set[str]) -> None:
        """Delete the weights of all candidates but ``names``."""
        for path in (self.path / "weights").glob("*.safetensors"):
            if path.stem not in names:
                path.unlink(missing_ok=True)
