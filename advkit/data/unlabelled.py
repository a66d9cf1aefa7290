"""Images without their labels: whatever says what is on them stays closed, and may as well be missing or wrong.

Arrays are read without those beside them, pictures without annotations, lists of classes or names of class folders. Two
kinds hold images and labels in one piece: CIFAR's records, whose labels are passed over, and what ships with the
package or comes by torchvision's name, whose labels are dropped.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from advkit.data import cifar, cifar_python, coco, idx, npz, safetensors, voc
from advkit.data.annotations import DecodedPictures
from advkit.data.boxes import COLUMNS, LABEL, NO_OBJECT
from advkit.data.decoding import SHRINK, check_whole, upright_size
from advkit.data.file_list import from_files
from advkit.data.picture_files import class_folders, is_picture, left_out, visible_files
from advkit.data.raw_dataset import LoadOptions, RawDataset, Splits
from advkit.files.errors import InputError

_SPLITS = ("train", "test", "val", "valid", "validation")
_ARRAYS = (npz.image_splits, idx.image_splits, safetensors.image_splits, cifar.splits, cifar_python.splits)


def blank(source: RawDataset, whole: bool) -> RawDataset:
    """``source`` with targets that say nothing: class 0 of none, or for ``whole`` pictures no object."""
    count = len(source.targets)
    targets = torch.zeros(count, dtype=torch.int64)
    if whole:
        targets = torch.zeros(count, 1, COLUMNS)
        targets[:, :, LABEL] = NO_OBJECT
    task = "detection" if whole else "classification"
    return replace(source, targets=targets, class_names=(), target_classes=None, task=task)


def without_labels(splits: Splits, whole: bool) -> Splits:
    """``splits`` that open as ever, with their targets dropped."""

    def opened(open_split: Callable[[LoadOptions], RawDataset], wanted: LoadOptions) -> RawDataset:
        return blank(open_split(wanted), whole)

    return {name: partial(opened, open_split) for name, open_split in splits.items()}


def splits(path: Path, whole: bool) -> Splits:
    """The splits of a file of arrays, or of a directory of arrays or pictures.

    Args:
        path: what is there.
        whole: pictures keep their sizes, as detectors take them.

    Raises:
        InputError: nothing of that kind.
    """
    for kind in _ARRAYS:
        if found := kind(path):
            return without_labels(found, whole)
    if not path.is_dir():
        raise InputError(f"{path}: no images known here; a folder of pictures, or arrays, are needed")
    lists = voc.picture_splits(path) or coco.picture_splits(path) or _folders(path)
    return {name: partial(_opened, path, files, whole) for name, files in lists.items()}


def _folders(path: Path) -> dict[str, Callable[[], Iterable[Path]]]:
    """Folders called as splits, those of YOLO, or any: a domain's name is one, and all of ``path`` has none."""
    inside = path / "images"
    places = {place.name: place for place in class_folders(inside if inside.is_dir() else path)}
    named = {name: place for name, place in places.items() if name in _SPLITS}
    if named and not inside.is_dir():
        named = {name: place / "images" if (place / "images").is_dir() else place for name, place in named.items()}
    found: dict[str, Callable[[], Iterable[Path]]] = {
        name: partial(visible_files, place)
        for name, place in (named or {"": inside if inside.is_dir() else path}).items()
    }
    more = {} if named or inside.is_dir() else places
    return found | {name: partial(visible_files, place) for name, place in more.items()}


def _opened(path: Path, files: Callable[[], Iterable[Path]], whole: bool, wanted: LoadOptions) -> RawDataset:
    every = list(files())
    pictures = _in_order([file for file in every if is_picture(file)])
    if not pictures:
        raise InputError(f"{path}: no pictures; give a data set that has some")
    told = left_out(set(every) - set(pictures), "no pictures")
    if whole:
        source = _whole(pictures, wanted)
    else:
        source = from_files(path, pictures, torch.zeros(len(pictures), dtype=torch.int64), (), wanted)
    return replace(blank(source, whole), warnings=(*filter(None, [told]), *source.warnings))


def _whole(pictures: list[Path], wanted: LoadOptions) -> RawDataset:
    sizes = [upright_size(picture) for picture in pictures]
    for picture, size in zip(pictures, sizes, strict=True):
        check_whole(picture, size, SHRINK)
    read = DecodedPictures(pictures, sizes, wanted.channels or 3)
    names = tuple(picture.stem for picture in pictures)
    nothing: Tensor = torch.zeros(len(pictures), dtype=torch.int64)
    return RawDataset(nothing, (), (read.channels, *read.canvas), read, names=names)


def _in_order(files: list[Path]) -> list[Path]:
    """By name, files of one name by content: folders, which may be classes, are no part of it."""
    ordered = []
    for _, alike in itertools.groupby(sorted(files, key=lambda file: file.name), key=lambda file: file.name):
        group = list(alike)
        ordered += group if len(group) == 1 else sorted(group, key=_digest)
    return ordered


def _digest(file: Path) -> bytes:
    try:
        return hashlib.sha256(file.read_bytes()).digest()
    except OSError as error:
        raise InputError(f"{file}: cannot read: {error.strerror or error}") from error
