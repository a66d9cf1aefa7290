"""ImageFolder: one directory per class, any image that pillow reads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from advkit.data import coco, voc, yolo
from advkit.data.file_list import from_files
from advkit.data.labels_csv import is_flat
from advkit.data.picture_files import class_folders, is_picture, left_out, visible_files
from advkit.data.raw_dataset import LoadOptions, RawDataset, Splits
from advkit.files.errors import InputError
from advkit.files.image_folder import SIDECAR, FolderIndex, read_sidecar

_OTHERS = (voc, coco, yolo)  # formats whose folders of pictures are no classes
_SPLITS = ("train", "test", "val", "valid", "validation")


def splits(path: Path) -> Splits | None:
    """Splits of a directory of class directories, or of directories of them; None if it is none.

    Over class directories may stand ``train``, ``test``, ``val``, or domains (PACS: ``photo``, ``sketch``…), which
    are recognised by having the same classes. Class numbers are those of all splits together, so a split that lacks a
    class keeps the numbers of the others. A folder that ``attack`` wrote says itself what its classes are called and
    which image is which.

    Raises:
        InputError: one class directory alone, which is a folder too high more often than not.
    """
    if not path.is_dir() or is_flat(path) or any(kind.is_layout(path) for kind in _OTHERS):
        return None
    inside = class_folders(path)
    if (path / SIDECAR).is_file():
        written = read_sidecar(path / SIDECAR, [child.name for child in inside])
        return {"": lambda wanted: _written(path, written, wanted)}
    parts = {child.name: child for child in inside if child.name in _SPLITS and _is_set(child)}
    if not parts and _are_domains(inside):
        parts = {child.name: child for child in inside}
    if not parts:
        if not _is_set(path):
            return None
        _check_height(path, inside)
        return {"": lambda wanted: _source(path, _class_names([path]), wanted)}
    names = _class_names(list(parts.values()))
    if len(names) < 2:
        raise InputError(f"{path}: its splits hold one class, {names[0]}; at least two class folders are needed")
    return {name: lambda wanted, child=child: _source(child, names, wanted) for name, child in parts.items()}  # type: ignore[misc]


def _is_set(path: Path) -> bool:
    """Whether ``path`` has class directories; empty ones are classes too as long as another has pictures."""
    return any(any(map(is_picture, visible_files(child))) for child in class_folders(path))


def _are_domains(folders: list[Path]) -> bool:
    if len(folders) < 2 or not all(_is_set(folder) for folder in folders):
        return False
    alike = len({tuple(child.name for child in class_folders(folder)) for folder in folders}) == 1
    return alike and not any(file.is_file() and is_picture(file) for folder in folders for file in folder.iterdir())


def _check_height(path: Path, inside: list[Path]) -> None:
    """Raise InputError for a single class directory, naming the folder below that looks like the one meant."""
    if len(inside) > 1:
        return
    below = inside[0]
    while not any(file.is_file() and is_picture(file) for file in below.iterdir()):
        found = class_folders(below)
        if len(found) != 1:
            raise InputError(f"{path}: one folder too high; its only folder holds class folders: give {below}")
        below = found[0]
    raise InputError(f"{path}: one class folder, {inside[0].name}, and no other; at least two classes are needed")


def _class_names(parts: list[Path]) -> tuple[str, ...]:
    return tuple(sorted({child.name for part in parts for child in class_folders(part)}))


def _source(path: Path, names: tuple[str, ...], wanted: LoadOptions) -> RawDataset:
    files: list[Path] = []
    labels: list[int] = []
    others: list[Path] = []
    deep = True
    for label, name in enumerate(names):
        every = sorted(visible_files(path / name))
        found = [file for file in every if is_picture(file)]
        if every and not found:
            raise InputError(
                f"{path / name}: none of its {len(every)} files is a picture that can be read, such as "
                f"{every[0].name}; convert them to PNG, or remove the folder"
            )
        others += set(every) - set(found)
        files += found
        labels += [label] * len(found)
        deep = deep and all(file.parent != path / name for file in found)
    warnings = [left_out(others, "no pictures")]
    if deep and files:
        first = files[0].parent.relative_to(path)
        warnings.append(f"no class folder holds pictures itself, only folders of them ({first}): one folder too high?")
    targets = torch.tensor(labels, dtype=torch.int64)
    source = from_files(path, files, targets, names, wanted)
    return replace(source, warnings=(*filter(None, warnings), *source.warnings))


def _written(path: Path, written: FolderIndex, wanted: LoadOptions) -> RawDataset:
    """What ``attack`` wrote, in the order of the images that it was made from."""
    found = []
    for label, name in enumerate(written.folders):
        pictures = [file for file in visible_files(path / name) if file.suffix == ".png"]
        strange = next((file for file in pictures if not file.stem.isdecimal()), None)
        if strange is not None:
            raise InputError(f"{strange}: not a number; attack names pictures by index, add no others to its folder")
        found += [(int(file.stem), label, file) for file in pictures]
    found.sort()
    indices = torch.tensor([index for index, _, _ in found], dtype=torch.int64)
    if len(set(indices.tolist())) != len(indices):
        raise InputError(f"{path}: an index stands twice; every image needs its own")
    targets = torch.tensor([label for _, label, _ in found], dtype=torch.int64)
    wanted = replace(wanted, crop_pct=1.0, interpolation="bilinear")  # they were cut before they were attacked
    source = from_files(path, [file for _, _, file in found], targets, written.class_names, wanted)
    return replace(source, indices=indices, resize=None)
