"""The state of an unfinished attack: the images that are done, and the last stage of those that were under way."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from advkit.files.checkpoint import parse_metadata
from advkit.files.errors import InputError
from advkit.files.state_file import read_state_file, write_state_file
from advkit.files.streams import say
from advkit.files.tensors import read_header

SPEC = "advkit/unfinished-attack/1"
EVERY = 10.0  # seconds of work between two writings: shorter runs write nothing

_STAGE, _WHAT = ".stage", "unfinished attack"
_NAME = rf"\d{{7,}}-\d{{7,}}({re.escape(_STAGE)})?\.safetensors"
_OWN = re.compile(rf"{_NAME}|\.{_NAME}\.[0-9a-f]{{8}}\.tmp")  # a killed run leaves files half written


def resume_path(out: Path) -> Path:
    """``a.safetensors`` -> ``a.resume``, a folder."""
    return out.with_name(f"{out.stem}.resume")


def refuse_other_files(folder: Path) -> None:
    """Raise InputError where ``folder`` is there and holds anything that no attack left."""
    if folder.exists() and (not folder.is_dir() or any(not _OWN.fullmatch(one.name) for one in folder.iterdir())):
        raise InputError(f"{folder}: is wanted for what the attack has done, and holds other files; choose another -o")


def discard(folder: Path) -> None:
    """Delete what an attack left in ``folder``, and nothing else."""
    for path in folder.glob("*") if folder.is_dir() else ():
        if _OWN.fullmatch(path.name):
            path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # not there, or not empty
        folder.rmdir()


def saved_precision(folder: Path) -> str | None:
    """The precision of the attack that left ``folder``, as far as a file there tells it."""
    for path in sorted(folder.glob("*.safetensors")):
        meta = parse_metadata(path, read_header(path)[1], SPEC, _WHAT)
        with contextlib.suppress(KeyError, TypeError):
            return str(meta["settings"]["params"]["precision"])
    return None


@dataclass
class SavedState:
    """Tensors on the CPU, and JSON values."""

    tensors: dict[str, Tensor]
    values: dict[str, Any]


class ResumeFolder:
    """A folder of files, of which each is written once the work behind it has taken long enough.

    Args:
        path: made with the first file.
        settings: all that decides the attack; files of another one are refused.
        resume: whether what lies there already is gone on with.

    Attributes:
        on_stage: called with a line of text when a stage is over.

    Raises:
        InputError: nothing to resume, or of another attack; something that is not to be forgotten.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], *, resume: bool) -> None:
        refuse_other_files(path)
        if resume and not (path.is_dir() and any(path.iterdir())):
            raise InputError(f"{path}: nothing to resume; start without --resume")
        if not resume and path.is_dir() and any(path.iterdir()):
            raise InputError(f"{path}: an unfinished attack; go on with --resume, or start anew with --force")
        self.path, self._settings, self._resume = path, dict(settings), resume
        self.on_stage: Callable[[str], None] = lambda text: None
        self._waiting: dict[str, SavedState] = {}
        self._writable = True
        self._written = time.monotonic()
        for saved in sorted(path.glob("*.safetensors"))[:1]:  # of other windows none would be found by its name
            self.read(saved.stem)

    def window(self, part: slice) -> WindowState:
        """What is saved of the images at ``part``."""
        return WindowState(self, part)

    def read(self, name: str) -> SavedState | None:
        """What lies there under ``name``; None without it.

        Raises:
            InputError: a damaged file, or one of another attack.
        """
        path = self._path(name)
        if not self._resume or not path.exists():
            return None
        return SavedState(*read_state_file(path, SPEC, self._settings, _WHAT))

    def save(self, name: str, state: SavedState) -> None:
        """Write ``state`` when it is time to; with it goes what waited for that.

        Where that fails, on a full disk, the attack goes on and stderr says that nothing more is saved.
        """
        if not self._writable:
            return
        self._waiting[name] = state
        if time.monotonic() - self._written < EVERY:
            return
        try:
            self.path.mkdir(exist_ok=True)
            for one, waiting in self._waiting.items():
                write_state_file(self._path(one), SPEC, waiting.tensors, waiting.values, self._settings)
                self._path(f"{one}{_STAGE}").unlink(missing_ok=True)
        except (InputError, OSError) as error:
            self._writable = False
            say(f"advkit: {error}; the attack goes on, but --resume won't find what it does from here on")
        self._waiting.clear()
        self._written = time.monotonic()

    def drop(self, name: str) -> None:
        """``name`` need no longer be written."""
        self._waiting.pop(name, None)

    def remove(self) -> None:
        """The attack is finished."""
        discard(self.path)

    def _path(self, name: str) -> Path:
        return self.path / f"{name}.safetensors"


class WindowState:
    """The images of one window: their result, or the last stage that all of them have been through.

    Attributes:
        earlier: seconds that the stages which are gone on from had taken.
    """

    def __init__(self, folder: ResumeFolder, part: slice) -> None:
        self._folder, self._part = folder, part
        self.earlier = 0.0
        self._began = time.perf_counter()
        self._name = f"{part.start:07}-{part.stop:07}"
        self._stage = f"{self._name}{_STAGE}"

    def result(self) -> SavedState | None:
        """What the attack found, if it was done with them."""
        return self._folder.read(self._name)

    def save_result(self, state: SavedState) -> None:
        """The attack is done with them."""
        self._folder.drop(self._stage)
        self._folder.save(self._name, state)

    def stage(self) -> SavedState | None:
        """Where they stood after the last stage that was saved."""
        state = self._folder.read(self._stage)
        if state is not None:
            self.earlier = state.values["seconds"]
        return state

    def save_stage(self, name: str, left: int, tensors: Mapping[str, Tensor], **values: Any) -> None:
        """The stage called ``name`` is over, and ``left`` images are not fooled."""
        images = f"images {self._part.start + 1} to {self._part.stop}"
        self._folder.on_stage(f"{images}: {name} done, {left} not fooled")
        seconds = self.earlier + time.perf_counter() - self._began
        on_cpu = {name: one.detach().cpu() for name, one in tensors.items()}
        self._folder.save(self._stage, SavedState(on_cpu, {**values, "seconds": seconds}))
