"""Images and labels as numpy arrays: one .npz file, one for each split, or one with the arrays of several splits."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from advkit.data.images import array_reader
from advkit.data.raw_dataset import (
    IMAGES,
    LABELS,
    LoadOptions,
    RawDataset,
    Splits,
    as_images,
    as_labels,
    match_channels,
    names_for,
)
from advkit.files.errors import InputError, is_out_of_memory

Names = tuple[str, str]  # of the arrays of images and labels

_PARTS = ("train", "val", "test")
# Arrays of a split: Keras's own sets, MedMNIST (Yang et al. 2023)
_PATTERNS = (("x_{}", "y_{}"), ("{}_images", "{}_labels"))


def splits(path: Path) -> Splits | None:
    """One .npz file, or a directory of ``train.npz``, ``test.npz``…; None if it is neither.

    A file may hold several splits, as ``x_train``, ``y_train``… or ``train_images``, ``train_labels``…; where several
    such files lie together, a split is named ``pathmnist-train``.
    """
    files = [path] if path.suffix == ".npz" and path.is_file() else sorted(path.glob("*.npz")) if path.is_dir() else []
    found: Splits = {}
    for file in files:
        inside = _inside(file)
        alone = "" if path.is_file() else file.stem
        if not inside:
            found[alone] = lambda wanted, file=file: _source(file, None, [], wanted)  # type: ignore[misc]
        for part, names in inside.items():
            name = part if len(files) == 1 else f"{file.stem}-{part}"
            every = list(inside.values())
            found[name] = lambda wanted, file=file, names=names, every=every: _source(file, names, every, wanted)  # type: ignore[misc]
    return found or None


def image_splits(path: Path) -> Splits | None:
    """As :func:`splits`, of which only the arrays of images are read: those of labels may be missing or wrong."""
    files = [path] if path.suffix == ".npz" and path.is_file() else sorted(path.glob("*.npz")) if path.is_dir() else []
    found: Splits = {}
    for file in files:
        with _arrays(file) as arrays:
            have = set(arrays.files)
        alone = next((name for name in IMAGES if name in have), None)
        pairs = [(part, x.format(part)) for x, _ in _PATTERNS for part in _PARTS]
        inside = {} if alone else {part: x for part, x in pairs if x in have}
        if not alone and not inside:
            raise InputError(f"{file}: holds no images; an array images (or x), or x_train, or train_images is needed")
        for part, name in (inside or {"" if path.is_file() else file.stem: alone or ""}).items():
            called = part if len(files) == 1 or not inside else f"{file.stem}-{part}"
            found[called] = lambda wanted, file=file, name=name: _images(file, name, wanted)  # type: ignore[misc]
    return found or None


def _images(path: Path, name: str, wanted: LoadOptions) -> RawDataset:
    with _arrays(path) as file:
        pixels = _numbers(file[name], f"{path} ({name})")
    images, scale = as_images(pixels, path)
    size = (images.shape[1], images.shape[2], images.shape[3])
    read: Callable[[Tensor], Tensor] = array_reader(lambda rows: images[rows], scale)
    nothing = torch.zeros(len(images), dtype=torch.int64)
    return match_channels(RawDataset(nothing, (), size, read), wanted, path)


def _inside(path: Path) -> dict[str, Names]:
    """The splits that a file holds by the names of its arrays; none where it holds one set, or can't be read."""
    try:
        with _arrays(path) as file:
            have = set(file.files)
    except InputError:
        return {}  # told when it is read
    if have & set(IMAGES) and have & set(LABELS):
        return {}
    pairs = [(part, (x.format(part), y.format(part))) for x, y in _PATTERNS for part in _PARTS]
    return {part: names for part, names in pairs if have >= set(names)}


@contextlib.contextmanager
def _arrays(path: Path) -> Iterator[Any]:
    try:
        # numpy leaves a file that it opened itself open when the archive is damaged
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            yield file
    except InputError:
        raise
    except Exception as error:  # a damaged archive raises nearly anything
        why = str(error)[:120] or type(error).__name__
        if is_out_of_memory(error):
            raise InputError(f"{path}: damaged, or its arrays do not fit into memory ({why})") from error
        raise InputError(f"{path}: damaged, or holds arrays of objects, which are never unpickled ({why})") from error


def _source(path: Path, names: Names | None, every: list[Names], wanted: LoadOptions) -> RawDataset:
    """One split: the arrays ``names``, or those of a file of one set; ``every`` split's labels count the classes."""
    with _arrays(path) as file:
        x, y = names or _only(path, file.files)
        numbers = {y: _numbers(file[y], f"{path} ({y})")}
        numbers |= {other: _numbers(file[other], f"{path} ({other})") for _, other in every if other != y}
        pixels = _numbers(file[x], f"{path} ({x})")
    images, scale = as_images(pixels, path)
    found = {name: as_labels(own, len(images) if name == y else len(own), path) for name, own in numbers.items()}
    names_for(found[y], path)
    classes = names_for(torch.cat(list(found.values())), path)
    size = (images.shape[1], images.shape[2], images.shape[3])
    read: Callable[[Tensor], Tensor] = array_reader(lambda rows: images[rows], scale)
    return match_channels(RawDataset(found[y], classes, size, read), wanted, path)


def _only(path: Path, have: list[str]) -> Names:
    x, y = (next((name for name in kind if name in have), None) for kind in (IMAGES, LABELS))
    if x is None or y is None:
        holds = ", ".join(have[:8]) or "nothing"
        raise InputError(
            f"{path}: holds {holds}; arrays images (or x) and labels (or y), or x_train and y_train, or train_images "
            "and train_labels are needed"
        )
    return x, y


def _numbers(array: Any, where: str) -> Tensor:
    """``array`` as a tensor, whatever its byte order."""
    if array.dtype.kind not in "iuf" or array.dtype.itemsize > 8:
        raise InputError(f"{where}: an array of {array.dtype}; whole numbers, or floats in [0, 1], are needed")
    return torch.from_numpy(np.ascontiguousarray(array, array.dtype.newbyteorder("=")))
