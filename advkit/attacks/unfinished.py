"""What an interrupted attack leaves: the images that are done, and the last stage of those that were under way."""

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
_OWN = re.compile(rf"\d{{7,}}-\d{{7,}}({re.escape(_STAGE)})?\.safetensors|\..*\.tmp")


def unfinished_path(out: Path) -> Path:
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


def kept_precision(folder: Path) -> str | None:
    """The precision of the attack that left ``folder``, as far as a file there tells it."""
    for path in sorted(folder.glob("*.safetensors")):
        meta = parse_metadata(path, read_header(path)[1], SPEC, _WHAT)
        with contextlib.suppress(KeyError, TypeError):
            return str(meta["settings"]["params"]["precision"])
    return None


@dataclass
class Kept:
    """Tensors on the CPU, and JSON values."""

    tensors: dict[str, Tensor]
    values: dict[str, Any]


class UnfinishedAttack:
    """A folder of files, of which each is written once the work behind it has taken long enough.

    Args:
        folder: made with the first file.
        settings: all that decides the attack; files of another one are refused.
        resume: whether what lies there already is gone on with.

    Attributes:
        tell: what happens is said there.

    Raises:
        InputError: nothing to resume, or of another attack; something that is not to be forgotten.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], *, resume: bool) -> None:
        refuse_other_files(folder)
        if resume and not (folder.is_dir() and any(folder.iterdir())):
            raise InputError(f"{folder}: nothing to resume; start without --resume")
        if not resume and folder.is_dir() and any(folder.iterdir()):
            raise InputError(f"{folder}: an unfinished attack; go on with --resume, or start anew with --force")
        self.folder, self._settings, self._resume = folder, dict(settings), resume
        self.tell: Callable[[str], None] = lambda text: None
        self._waiting: dict[str, Kept] = {}
        self._keeps = True
        self._written = time.monotonic()
        for path in sorted(folder.glob("*.safetensors"))[:1]:  # of other windows none would be found by its name
            self.read(path.stem)

    def window(self, part: slice) -> UnfinishedWindow:
        """What is kept of the images at ``part``."""
        return UnfinishedWindow(self, part)

    def read(self, name: str) -> Kept | None:
        """What lies there under ``name``; None without it.

        Raises:
            InputError: a damaged file, or one of another attack.
        """
        path = self._path(name)
        if not self._resume or not path.exists():
            return None
        return Kept(*read_state_file(path, SPEC, self._settings, _WHAT))

    def keep(self, name: str, kept: Kept) -> None:
        """Write ``kept`` when it is time to; with it goes what waited for that.

        Where that fails, on a full disk, the attack goes on and stderr says that nothing more is kept.
        """
        if not self._keeps:
            return
        self._waiting[name] = kept
        if time.monotonic() - self._written < EVERY:
            return
        try:
            self.folder.mkdir(exist_ok=True)
            for one, waiting in self._waiting.items():
                write_state_file(self._path(one), SPEC, waiting.tensors, waiting.values, self._settings)
                self._path(f"{one}{_STAGE}").unlink(missing_ok=True)
        except (InputError, OSError) as error:
            self._keeps = False
            say(f"advkit: {error}; the attack goes on, but --resume won't find what it does from here on")
        self._waiting.clear()
        self._written = time.monotonic()

    def forget(self, name: str) -> None:
        """``name`` need no longer be written."""
        self._waiting.pop(name, None)

    def remove(self) -> None:
        """The attack is finished."""
        discard(self.folder)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"


class UnfinishedWindow:
    """The images of one window: their result, or the last stage that all of them have been through.

    Attributes:
        earlier: seconds that the stages which are gone on from had taken.
    """

    def __init__(self, attack: UnfinishedAttack, part: slice) -> None:
        self._attack, self._part = attack, part
        self.earlier = 0.0
        self._began = time.perf_counter()
        self._name = f"{part.start:07}-{part.stop:07}"
        self._stage = f"{self._name}{_STAGE}"

    def result(self) -> Kept | None:
        """What the attack found, if it was done with them."""
        return self._attack.read(self._name)

    def keep_result(self, kept: Kept) -> None:
        """The attack is done with them."""
        self._attack.forget(self._stage)
        self._attack.keep(self._name, kept)

    def stage(self) -> Kept | None:
        """Where they stood after the last stage that was kept."""
        kept = self._attack.read(self._stage)
        if kept is not None:
            self.earlier = kept.values["seconds"]
        return kept

    def keep_stage(self, name: str, left: int, tensors: Mapping[str, Tensor], **values: Any) -> None:
        """The stage called ``name`` is over, and ``left`` images are not fooled."""
        images = f"images {self._part.start + 1} to {self._part.stop}"
        self._attack.tell(f"{images}: {name} done, {left} not fooled")
        seconds = self.earlier + time.perf_counter() - self._began
        kept = {name: one.detach().cpu() for name, one in tensors.items()}
        self._attack.keep(self._stage, Kept(kept, {**values, "seconds": seconds}))
