"""Images and labels as numpy arrays, in one .npz file or one for each split."""

from __future__ import annotations

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
from advkit.files.errors import InputError


def splits(path: Path) -> Splits | None:
    """One .npz file, or a directory of ``train.npz``, ``test.npz``…; None if it is neither."""
    if path.is_file():
        return {"": lambda wanted: _source(path, wanted)} if path.suffix == ".npz" else None
    files = sorted(path.glob("*.npz"))
    return {file.stem: lambda wanted, file=file: _source(file, wanted) for file in files} or None  # type: ignore[misc]


def _source(path: Path, wanted: LoadOptions) -> RawDataset:
    try:
        # numpy leaves a file that it opened itself open when the archive is damaged
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            names = [next((name for name in kind if name in file.files), None) for kind in (IMAGES, LABELS)]
            if names[0] is None or names[1] is None:
                have = ", ".join(file.files[:8]) or "nothing"
                raise InputError(f"{path}: holds {have}; arrays images (or x) and labels (or y) are needed")
            pixels, labels = (_numbers(file[name], f"{path} ({name})") for name in names)
    except InputError:
        raise
    except Exception as error:  # a damaged archive raises nearly anything
        why = str(error)[:120] or type(error).__name__
        raise InputError(f"{path}: damaged, or holds arrays of objects, which are never unpickled ({why})") from error
    images, scale = as_images(pixels, path)
    found = as_labels(labels, len(images), path)
    size = (images.shape[1], images.shape[2], images.shape[3])
    source = RawDataset(found, names_for(found, path), size, array_reader(lambda rows: images[rows], scale))
    return match_channels(source, wanted, path)


def _numbers(array: Any, where: str) -> Tensor:
    """``array`` as a tensor, whatever its byte order."""
    if array.dtype.kind not in "iuf" or array.dtype.itemsize > 8:
        raise InputError(f"{where}: an array of {array.dtype}; whole numbers, or floats in [0, 1], are needed")
    return torch.from_numpy(np.ascontiguousarray(array, array.dtype.newbyteorder("=")))
