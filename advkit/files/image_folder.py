"""A folder of PNG files, one directory per class: what any image tool reads."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from advkit.files.atomic import unwritable
from advkit.files.errors import InputError

SIDECAR = "advkit.json"  # says what the numbered class folders are called
SPEC = "advkit/image-folder/1"


@dataclass(frozen=True)
class FolderIndex:
    """What a folder says of itself: ``folders[k]`` holds the pictures of class ``class_names[k]``."""

    folders: tuple[str, ...]
    class_names: tuple[str, ...]


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
    return FolderIndex(expected, tuple(names))


def _folder_names(count: int) -> tuple[str, ...]:
    """Numbers of one width, which sort as the classes do and are good names for folders whatever classes are called."""
    return tuple(f"{k:0{len(str(count - 1))}}" for k in range(count))


@contextlib.contextmanager
def image_folder(
    path: Path, class_names: Sequence[str], *, force: bool
) -> Iterator[Callable[[Tensor, Tensor, Tensor], None]]:
    """Yield ``save(images, labels, indices)``; the folder appears at ``path`` when the block ends well.

    ``images`` are (N, C, H, W) uint8, ``indices`` (N,) become file names. Every class gets its directory, with images
    or without, called by its number, so that class numbers survive whatever program reads them; ``advkit.json``
    beside them holds the names.

    Raises:
        InputError: something stands at ``path`` and ``force`` is off; a folder with anything else in it than such
            pictures, whatever ``force`` says; the disk is full or can't be written.
    """
    from PIL import Image

    if path.exists() and not force and not (path.is_dir() and not any(path.iterdir())):
        raise InputError(f"{path}: exists; choose another name or --force")
    foreign = _foreign(path)
    if foreign is not None:
        raise InputError(f"{path}: holds {foreign.name}, which attack did not write; choose another name")
    try:
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as temporary:
            folder = Path(temporary) / "pictures"
            folders = _folder_names(len(class_names))
            for name in folders:
                (folder / name).mkdir(parents=True)
            sidecar = {"spec": SPEC, "class_names": list(class_names)}
            (folder / SIDECAR).write_text(json.dumps(sidecar, indent=1) + "\n", encoding="utf-8")

            def save(images: Tensor, labels: Tensor, indices: Tensor) -> None:
                for image, label, index in zip(images, labels.tolist(), indices.tolist(), strict=True):
                    pixels = image.squeeze(0).numpy() if image.shape[0] == 1 else image.permute(1, 2, 0).numpy()
                    Image.fromarray(pixels).save(folder / folders[label] / f"{index:06}.png")

            yield save
            if path.exists():
                path.rename(Path(temporary) / "old")  # deleted with the rest, once the new one stands
            folder.rename(path)
    except OSError as error:
        raise unwritable(path, error) from error


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
