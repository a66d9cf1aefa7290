"""A folder of PNG files, one directory per class: what any image tool reads, with a sidecar that says the rest."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from advkit.files.atomic import unwritable
from advkit.files.errors import InputError

SIDECAR = "advkit.json"  # says what the numbered class folders are called
SPEC = "advkit/image-folder/1"


@dataclass(frozen=True)
class FolderIndex:
    """What a folder says of itself: ``folders[k]`` holds the pictures of class ``class_names[k]``.

    ``meta`` is all that the sidecar says.
    """

    folders: tuple[str, ...]
    class_names: tuple[str, ...]
    meta: dict[str, Any] = field(default_factory=dict)


def read_sidecar(file: Path, folders: Sequence[str]) -> FolderIndex:
    """The sidecar ``file`` of a folder that now holds ``folders``.

    Raises:
        InputError: unreadable, damaged, or of other folders than are there.
    """
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file}: damaged ({str(error)[:120]}); write the folder again") from error
    names = found.get("class_names") if isinstance(found, dict) and found.get("spec") == SPEC else None
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise InputError(f"{file}: not what attack writes into its folders; remove it, or write the folder again")
    expected = _folder_names(len(names))
    if strange := sorted(set(folders) ^ set(expected)):
        raise InputError(f"{file}: {strange[0]} does not belong to its {len(names)} folders; write the folder again")
    return FolderIndex(expected, tuple(names), found)


def _folder_names(count: int) -> tuple[str, ...]:
    """Numbers of one width, which sort as the classes do and are good names for folders whatever classes are called."""
    return tuple(f"{k:0{len(str(count - 1))}}" for k in range(count))


def picture_path(folder: str, index: int) -> str:
    """Where the picture ``index`` of a class lies below the set."""
    return f"{folder}/{index:06}.png"


class FolderWriter:
    """Writes pictures, and remembers the numbers that go with each; made by :func:`image_folder`."""

    def __init__(self, folder: Path, meta: Mapping[str, Any]) -> None:
        self._folder, self._meta = folder, dict(meta)
        self._folders = _folder_names(len(self._meta["class_names"]))
        self._columns: dict[str, list[int]] = {}
        for name in self._folders:
            (folder / name).mkdir(parents=True)

    def append(self, images: Tensor, *, labels: Tensor, index: Tensor, **numbers: Tensor) -> None:
        """A batch: images (N, C, H, W) uint8; ``labels`` choose the class, ``index`` the name; all numbers are (N,)."""
        from PIL import Image

        for image, label, place in zip(images, labels.tolist(), index.tolist(), strict=True):
            pixels = image.squeeze(0).numpy() if image.shape[0] == 1 else image.permute(1, 2, 0).numpy()
            Image.fromarray(pixels).save(self._folder / picture_path(self._folders[label], place))
        for name, values in {"labels": labels, "index": index, **numbers}.items():
            self._columns.setdefault(name, []).extend(values.tolist())

    def finish(self) -> None:
        """Write the sidecar."""
        said = {**self._meta, **self._columns, "spec": SPEC}
        text = json.dumps(said, sort_keys=True, separators=(",", ":"), allow_nan=False)
        (self._folder / SIDECAR).write_text(text + "\n", encoding="utf-8")


@contextlib.contextmanager
def image_folder(path: Path, meta: Mapping[str, Any], *, force: bool) -> Iterator[FolderWriter]:
    """A writer of pictures; the folder appears at ``path`` when the block ends well.

    Every class gets its directory, with images or without, called by its number, so that class numbers survive whatever
    program reads them; ``advkit.json`` beside them holds the names, and the numbers of each picture.

    Args:
        path: of the folder.
        meta: JSON values for the sidecar; ``class_names`` among them.
        force: replace a folder that ``attack`` wrote.

    Raises:
        InputError: something stands at ``path`` and ``force`` is off; a folder with anything else in it than such
            pictures, whatever ``force`` says; the disk is full or can't be written.
    """
    if path.exists() and not force and not (path.is_dir() and not any(path.iterdir())):
        raise InputError(f"{path}: exists; choose another name or --force")
    foreign = _foreign(path)
    if foreign is not None:
        raise InputError(f"{path}: holds {foreign.name}, which attack did not write; choose another name")
    try:
        with _temporary_folder(path) as temporary:
            writer = FolderWriter(folder := temporary / "pictures", meta)
            yield writer
            writer.finish()
            _replace(path, folder, temporary / "old")
    except OSError as error:
        raise unwritable(path, error) from error


@contextlib.contextmanager
def _temporary_folder(path: Path) -> Iterator[Path]:
    """A directory beside ``path``, locked while it is in use; those that killed runs left there are deleted first."""
    pattern = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{8}}\.tmp")
    for orphan in [found for found in path.parent.iterdir() if pattern.fullmatch(found.name) and found.is_dir()]:
        with contextlib.suppress(OSError), _locked(orphan, fcntl.LOCK_EX | fcntl.LOCK_NB):
            old = orphan / "old"
            if old.is_dir() and not path.exists():  # killed between the two renames
                old.rename(path)
            shutil.rmtree(orphan)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.mkdir()
        with _locked(temporary, fcntl.LOCK_SH):
            yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def _locked(folder: Path, kind: int) -> Iterator[None]:
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(held, kind)
        yield
    finally:
        os.close(held)


def _replace(path: Path, new: Path, old: Path) -> None:
    """Let ``new`` take the place of ``path``, which goes to ``old``; it comes back if that fails."""
    if not path.exists():
        new.rename(path)
        return
    path.rename(old)
    try:
        new.rename(path)
    except OSError:
        old.rename(path)
        raise


def _foreign(path: Path) -> Path | None:
    """Something under ``path`` that is no class directory of numbered pictures; None when there is nothing else."""
    if not path.is_dir():
        return path if path.exists() else None
    for folder in path.iterdir():
        if folder.name == SIDECAR and folder.is_file():
            continue
        if not folder.is_dir() or folder.is_symlink():
            return folder
        for file in folder.iterdir():
            if file.suffix != ".png" or not file.stem.isdecimal() or not file.is_file():
                return file
    return None


def read_pictures(files: Sequence[Path]) -> Tensor:
    """(N, C, H, W) uint8 of pictures as :class:`FolderWriter` writes them: 8 bits, grey or RGB, of one size.

    Raises:
        InputError: missing, damaged, of another kind or size.
    """
    from PIL import Image

    found: list[np.ndarray] = []
    for file in files:
        try:
            with Image.open(file, formats=("PNG",)) as image:
                if image.mode not in ("L", "RGB") or (found and image.size != found[0].shape[1::-1]):
                    raise InputError(f"{file}: of another kind or size than its set; write the folder again")
                found.append(np.array(image))
        except InputError:
            raise
        except Exception as error:  # pillow raises nearly anything on damaged files
            why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)[:120]
            raise InputError(f"{file}: cannot be read ({why}); write the folder again") from error
        if found[-1].shape != found[0].shape:
            raise InputError(f"{file}: of another kind or size than its set; write the folder again")
    pixels = torch.from_numpy(np.stack(found))
    return pixels.unsqueeze(1) if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2)
