"""The run directory: what a search was asked, every training it has paid for, and where it stands.

    run.json          settings and inputs; a directory of another run is refused
    lock              held while evolve is at work
    candidates.jsonl  one line for each finished training, in the order of completion
    population.json   the population and the front after the last finished generation
    adversarial-*.safetensors, weights/, front/, final/

A search is a function of its settings and of the results of its trainings. A killed one is therefore gone through
again from the start, with the recorded results in place of the trainings: it proposes the same candidates and ends in
the same bytes.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import weakref
from pathlib import Path
from typing import Any

from advkit.evolution.settings_diff import settings_diff
from advkit.files.atomic import unwritable, write_text
from advkit.files.checkpoint import canonical_json
from advkit.files.errors import InputError

SPEC = "advkit/evolution/1"
_FOLDERS = ("weights", "front", "final")


class RunDirectory:
    """One run directory, opened for writing.

    Attributes:
        path: the directory.
        known: records by (id, stage) of the trainings that are paid for.
        close: lets go of the directory.
    """

    def __init__(self, path: Path, settings: dict[str, Any], *, force: bool = False) -> None:
        """Make the directory, or go on with a run of the same ``settings``.

        Args:
            path: the directory.
            settings: of the run.
            force: drop another run.

        Raises:
            InputError: it holds another run (what differs is said), something else, or can't be written.
        """
        self.path, self.known = path, dict[tuple[str, str], dict[str, Any]]()
        wanted = json.loads(canonical_json(settings))
        found = self._read_settings() if path.is_dir() else None
        if path.exists() and not path.is_dir():
            raise InputError(f"{path}: is a file; name a directory with --run-dir")
        if found is None and path.is_dir() and not self._begun():
            raise InputError(f"{path}: is not empty and no run directory of evolve; choose another --run-dir")
        if found is not None and found != wanted and not force:
            names = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
            with contextlib.suppress(LookupError, TypeError, AttributeError):  # what is read may be anything
                names = settings_diff(found, wanted)
            why = ", ".join(names)
            raise InputError(f"{path}: holds another run ({why}); choose another --run-dir, or --force to drop it")
        try:
            path.mkdir(exist_ok=True)
            self._lock()
            if found is None:
                self._write_settings(wanted)
            for name in _FOLDERS:
                (path / name).mkdir(exist_ok=True)
            if found is not None and found != wanted:
                self._drop()
            for orphan in (*path.glob(".*.tmp"), *path.glob("*/.*.tmp")):  # of workers that were killed
                orphan.unlink(missing_ok=True)
        except OSError as error:
            raise unwritable(path, error) from error
        if found is not None and found != wanted:
            self._write_settings(wanted)
        self._read_candidates()

    def _begun(self) -> bool:
        """Whether the directory holds nothing but what a run makes before its settings are written."""
        return all(path.name == "lock" or path.name.startswith(".run.json.") for path in self.path.iterdir())

    def _write_settings(self, settings: dict[str, Any]) -> None:
        write_text(self._file("run.json"), json.dumps(settings, indent=2, sort_keys=True) + "\n")

    def _lock(self) -> None:
        """Held until this object, or the process, ends, however it ends."""
        held = os.open(self._file("lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        self.close = weakref.finalize(self, os.close, held)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self.close()
            raise InputError(
                f"{self.path}: another evolve is at work there; wait, or choose another --run-dir"
            ) from error

    def _drop(self) -> None:
        """Delete what another run wrote here, and nothing else."""
        own = [self._file(name) for name in ("candidates.jsonl", "population.json", "gradients.safetensors")]
        own += self.path.glob("adversarial-*.safetensors")
        for folder in _FOLDERS:
            own += (self.path / folder).glob("*.safetensors")
        for old in own:
            old.unlink(missing_ok=True)

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
        if not isinstance(found, dict) or found.get("spec") != SPEC:
            raise InputError(f"{path}: was not written by this version of evolve; choose another --run-dir")
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
        line = (canonical_json(record) + "\n").encode()
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

    def newest(self) -> int:
        """The last generation that a record is of; -1 without any."""
        return max((record["generation"] for record in self.known.values() if "generation" in record), default=-1)

    def weights(self, name: str, folder: str = "weights") -> Path:
        """Where the checkpoint of the candidate ``name`` lies."""
        return self.path / folder / f"{name}.safetensors"

    def keep_weights(self, names: set[str]) -> None:
        """Delete the weights of all candidates but ``names``."""
        for path in (self.path / "weights").glob("*.safetensors"):
            if path.stem not in names:
                path.unlink(missing_ok=True)
