"""ImageFolder: one directory per class, any image that pillow reads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from advkit.data.decoding import decode, upright_size
from advkit.data.raw_dataset import LoadOptions, RawDataset, Splits
from advkit.files.errors import InputError

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"})
_SPLITS = ("train", "test", "val", "valid", "validation")


def splits(path: Path) -> Splits | None:
    """Splits of a directory of class directories, or of directories of them; None if it is none.

    Over class directories may stand ``train``, ``test``, ``val``, or domains (PACS: ``photo``, ``sketch``…), which
    are recognised by having the same classes. Class numbers are those of all splits together, so a split that lacks a
    class keeps the numbers of the others.
    """
    if not path.is_dir():
        return None
    inside = _folders(path)
    parts = {child.name: child for child in inside if child.name in _SPLITS and _is_set(child)}
    if not parts and _are_domains(inside):
        parts = {child.name: child for child in inside}
    if not parts:
        return {"": lambda wanted: _source(path, _class_names([path]), wanted)} if _is_set(path) else None
    names = _class_names(list(parts.values()))
    return {name: lambda wanted, child=child: _source(child, names, wanted) for name, child in parts.items()}  # type: ignore[misc]


def _folders(path: Path) -> list[Path]:
    return [child for child in sorted(path.iterdir()) if child.is_dir() and not child.name.startswith((".", "__"))]


def _pictures(folder: Path, pattern: str = "**/*") -> Iterator[Path]:
    """Pictures in ``folder``; names with a dot in front are other programs' (macOS leaves ``._1.png``)."""
    found = (file for file in folder.glob(pattern) if file.suffix.lower() in EXTENSIONS)
    return (file for file in found if not file.name.startswith(".") and file.is_file())


def _is_set(path: Path) -> bool:
    """Whether ``path`` has class directories; empty ones are classes too as long as another has pictures."""
    return any(next(_pictures(child), None) for child in _folders(path))


def _are_domains(folders: list[Path]) -> bool:
    if len(folders) < 2 or not all(_is_set(folder) for folder in folders):
        return False
    alike = len({tuple(child.name for child in _folders(folder)) for folder in folders}) == 1
    return alike and not any(next(_pictures(folder, "*"), None) for folder in folders)


def _class_names(parts: list[Path]) -> tuple[str, ...]:
    return tuple(sorted({child.name for part in parts for child in _folders(part)}))


def _source(path: Path, names: tuple[str, ...], wanted: LoadOptions) -> RawDataset:
    files = [(file, label) for label, name in enumerate(names) for file in sorted(_pictures(path / name))]
    channels = wanted.channels or 3
    size = wanted.size or _common_size(path, [file for file, _ in files])

    def read(rows: Tensor) -> Tensor:
        images = [decode(files[row][0], channels, size) for row in rows.tolist()]
        return torch.stack(images) if images else torch.empty(0, channels, *size)

    labels = torch.tensor([label for _, label in files], dtype=torch.int64)
    return RawDataset(labels, names, (channels, *size), read)


def _common_size(path: Path, files: list[Path]) -> tuple[int, int]:
    if not files:
        raise InputError(f"{path}: no images; give a data set that has some")
    first = upright_size(files[0])
    for file in files[1:]:
        if (size := upright_size(file)) != first:
            found = f"{first[0]}x{first[1]}, {size[0]}x{size[1]}, …"
            raise InputError(f"{path}: images differ in size ({found}); say which to use with --size")
    return first
