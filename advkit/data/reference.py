"""DATA references: what a command line may say to name a set of images."""

from __future__ import annotations

import difflib
import fnmatch
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch

from advkit.data import (
    cifar,
    cifar_python,
    coco,
    folder,
    idx,
    labels_csv,
    npz,
    safetensors,
    torchvision_datasets,
    unlabelled,
    voc,
    yolo,
)
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
    "voc": voc.splits,
    "coco": coco.splits,
    "yolo": yolo.splits,
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
    fix_boxes: bool = False,
    labelled: bool = True,
    whole: bool = False,
) -> ImageSet:
    """The images that ``ref`` names.

    Args:
        ref: a built-in name, ``NAME:DIR`` of a torchvision set, or a path whose kind its content tells; a suffix
            ``#SPLIT`` chooses a split, ``#SPLIT:PATTERN`` or ``#:PATTERN`` files by their names.
        role: the split to take when ``ref`` names none and there are several.
        size: (H, W) to which pictures in folders are resized and cut; arrays stay as they are.
        channels: 1 or 3; grey arrays are repeated.
        crop_pct: what a cut of pictures in folders leaves of their scaled shorter side, in (0, 1].
        interpolation: of their scaling, ``bilinear``, ``bicubic`` or ``nearest``.
        download: let torchvision fetch a missing set.
        fix_boxes: clip boxes that reach beyond their image, and drop those without area, instead of refusing them.
        labelled: False leaves whatever says what is on the images closed; targets then say nothing, and there are no
            classes (see :mod:`advkit.data.unlabelled`).
        whole: without labels: pictures in folders keep their sizes, for detectors.

    Raises:
        InputError: nothing there, nothing recognised, several kinds or splits to choose from, damaged files; no file
            of such a name; boxes to be mended in data that have none.
    """
    try:
        base, split, pattern = _parted(ref)
        splits = _splits(base, download) if labelled else _unlabelled(base, download, whole)
        chosen = _choose(ref, base, splits, split, role)
        source = splits[chosen](LoadOptions(size, channels, crop_pct, interpolation, fix_boxes))
    except OSError as error:
        raise InputError(f"{ref}: cannot read: {error.strerror or error}") from error
    if fix_boxes and labelled and source.task != "detection":
        raise InputError(f"--fix-boxes: does nothing with {ref}, which has classes and no boxes; leave it out")
    _check_labels(ref, source)
    _check_names(ref, source)
    rows = torch.arange(len(source.targets))
    found = ImageSet(
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
        source.names,
    )
    return found if pattern is None else _matching(ref, found, pattern)


def _parted(ref: str) -> tuple[str, str | None, str | None]:
    """What comes before the last ``#``, and the split and the pattern after it, unless all that is a file's name."""
    base, mark, rest = ref.rpartition("#")
    if not mark or Path(ref).exists():
        return ref, None, None
    split, colon, pattern = rest.partition(":")
    if not base or not rest or (colon and not pattern):
        what = "before the #" if not base else "after the :" if colon else "after the #"
        raise InputError(f"{ref}: nothing {what}; write DATA#SPLIT, DATA#SPLIT:PATTERN or DATA#:PATTERN")
    return base, split or None, pattern if colon else None


def _matching(ref: str, data: ImageSet, pattern: str) -> ImageSet:
    """The images of ``data`` whose files' names, without suffix, match ``pattern``, as a split of its own name."""
    if data.names is None:
        raise InputError(f"{ref}: a pattern is of names of files, and {data.ref} holds arrays; leave :{pattern} out")
    positions = [k for k, name in enumerate(data.names) if fnmatch.fnmatchcase(name, pattern)]
    if not positions:
        have = f"{len(data.names)} files, such as {data.names[0][:80]}"
        raise InputError(f"{ref}: no name matches {pattern}; it has {have} (without suffixes)")
    return replace(data.subset(torch.tensor(positions)), split=f"{data.split}:{pattern}")


def _check_labels(ref: str, source: RawDataset) -> None:
    if not len(source.targets):
        raise InputError(f"{ref}: no images; give a data set that has some")
    if source.task != "classification" or not source.class_names:
        return  # boxes are checked one by one where they are read; what has no classes has no labels
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


def _by_name(base: str, download: bool) -> Splits | None:
    """What is no path: built in, or torchvision's."""
    if base in BUILT_IN:
        return BUILT_IN[base]()
    name, colon, root = base.partition(":")
    if colon and name in torchvision_datasets.NAMES:
        return torchvision_datasets.splits(name, root, download)
    if not Path(base).exists():
        near = difflib.get_close_matches(base, [*BUILT_IN, *torchvision_datasets.NAMES], n=1)
        hint = f"did you mean {near[0]}?" if near else f"built in: {', '.join(BUILT_IN)}; by name: NAME:DIR"
        raise InputError(f"{base}: no such data; {hint}")
    return None


def _unlabelled(base: str, download: bool, whole: bool) -> Splits:
    found = _by_name(base, download)
    return unlabelled.splits(Path(base), whole) if found is None else unlabelled.without_labels(found, whole)


def _splits(base: str, download: bool) -> Splits:
    named = _by_name(base, download)
    if named is not None:
        return named
    path = Path(base)
    found = {kind: splits for kind, recognise in FORMATS.items() if (splits := recognise(path))}
    if not found:
        hint = (
            "it is empty"
            if path.is_dir() and not any(path.iterdir())
            else "pictures need a directory for each class, a CSV of filename,label, or the boxes of VOC, COCO or YOLO"
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
    if "" in splits:  # all there is
        return ""
    first, *others = splits
    if not others:
        return first
    have = ", ".join([f"{base}#{first}", *(f"#{name}" for name in others)])
    raise InputError(f"{ref}: several splits; say which: {have}")
