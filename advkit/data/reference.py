"""DATA references: what a command line may say to name a set of images."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Literal

import torch

from advkit.data import cifar, cifar_python, folder, idx, labels_csv, npz, safetensors, torchvision_datasets
from advkit.data.builtin import BUILT_IN
from advkit.data.images import ImageSet
from advkit.data.raw_dataset import LoadOptions, RawDataset, Splits
from advkit.files.errors import InputError

# Each takes a path and returns its splits, or None when the content is of another kind.
FORMATS = {
    "cifar-binary": cifar.splits,
    "cifar-python": cifar_python.splits,
    "mnist-idx": idx.splits,
    "npz": npz.splits,
    "safetensors": safetensors.splits,
    "image-folder": folder.splits,
    "labels-csv": labels_csv.splits,
}


def load(
    ref: str,
    *,
    role: Literal["train", "test"] = "test",
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    crop_pct: float = 1.0,
    interpolation: str = "bilinear",
    download: bool = False,
) -> ImageSet:
    """The images that ``ref`` names.

    Args:
        ref: a built-in name, ``NAME:DIR`` of a torchvision set, or a path whose kind its content tells; a suffix
            ``#SPLIT`` chooses a split.
        role: the split to take when ``ref`` names none and there are several.
        size: (H, W) to which pictures in folders are resized and cut; arrays stay as they are.
        channels: 1 or 3; grey arrays are repeated.
        crop_pct: what a cut of pictures in folders leaves of their scaled shorter side, in (0, 1].
        interpolation: of their scaling, ``bilinear``, ``bicubic`` or ``nearest``.
        download: let torchvision fetch a missing set.

    Raises:
        InputError: nothing there, nothing recognised, several kinds or splits to choose from, damaged files.
    """
    try:
        base, split = _parted(ref)
        splits = _splits(base, download)
        chosen = _choose(ref, base, splits, split, role)
        source = splits[chosen](LoadOptions(size, channels, crop_pct, interpolation))
    except OSError as error:
        raise InputError(f"{ref}: cannot read: {error.strerror or error}") from error
    _check_labels(ref, source)
    _check_names(ref, source)
    rows = torch.arange(len(source.targets))
    return ImageSet(
        base,
        chosen,
        source.class_names,
        source.size,
        source.targets,
        rows if source.indices is None else source.indices,
        rows,
        source.read,
        source.target_classes,
        source.warnings,
        source.resize,
        source.task,
    )


def _parted(ref: str) -> tuple[str, str | None]:
    """What comes before and after the last ``#``, unless that is part of a file's name."""
    base, mark, split = ref.rpartition("#")
    if not mark or Path(ref).exists():
        return ref, None
    if not base or not split:
        raise InputError(f"{ref}: nothing {'after' if base else 'before'} the #; write DATA#SPLIT")
    return base, split


def _check_labels(ref: str, source: RawDataset) -> None:
    if not len(source.targets):
        raise InputError(f"{ref}: no images; give a data set that has some")
    if source.task != "classification":
        return  # boxes are checked one by one where they are read
    low, high, classes = int(source.targets.min()), int(source.targets.max()), len(source.class_names)
    if low < 0 or high >= classes:
        wrong = low if low < 0 else high
        raise InputError(f"{ref}: label {wrong}, but there are {classes} classes from 0; damaged, or another format")


def _check_names(ref: str, source: RawDataset) -> None:
    """Refuse names that no report or checkpoint could hold, before anything is computed with them."""
    for name in (ref, *source.class_names):
        try:
            name.encode()
        except UnicodeEncodeError as error:
            shown = ascii(name)
            raise InputError(f"{ref}: the name {shown} is no UTF-8; rename the folder or class") from error


def _splits(base: str, download: bool) -> Splits:
    if base in BUILT_IN:
        return BUILT_IN[base]()
    name, colon, root = base.partition(":")
    if colon and name in torchvision_datasets.NAMES:
        return torchvision_datasets.splits(name, root, download)
    path = Path(base)
    if not path.exists():
        near = difflib.get_close_matches(base, [*BUILT_IN, *torchvision_datasets.NAMES], n=1)
        hint = f"did you mean {near[0]}?" if near else f"built in: {', '.join(BUILT_IN)}; by name: NAME:DIR"
        raise InputError(f"{base}: no such data; {hint}")
    found = {kind: splits for kind, recognise in FORMATS.items() if (splits := recognise(path))}
    if not found:
        hint = (
            "it is empty"
            if path.is_dir() and not any(path.iterdir())
            else "pictures need a directory for each class, or a CSV of filename,label beside them"
        )
        raise InputError(f"{base}: no kind of image data known here ({', '.join(FORMATS)}); {hint}")
    if len(found) > 1:
        raise InputError(f"{base}: could be {' or '.join(found)}; give each a directory of its own")
    return next(iter(found.values()))


def _choose(ref: str, base: str, splits: Splits, split: str | None, role: str) -> str:
    if split is not None:
        if split in splits:
            return split
        have = ", ".join(f"#{name}" for name in splits if name) or "none"
        raise InputError(f"{ref}: no split {split!r}; it has {have}")
    if role in splits:
        return role
    first, *others = splits
    if not others:
        return first
    have = ", ".join([f"{base}#{first}", *(f"#{name}" for name in others)])
    raise InputError(f"{ref}: several splits; say which: {have}")
