"""Images and labels as named arrays: .npz, and .safetensors (which is what ``attack`` writes)."""

from __future__ import annotations

import json
import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from advkit.data.images import array_reader
from advkit.data.source import Source, Splits, Wanted, as_images, as_labels, fitted, names_for, scale_of
from advkit.files.errors import InputError
from advkit.files.tensors import METADATA_KEY, Rows, open_rows, read_header

_IMAGES, _LABELS = ("images", "x", "data"), ("labels", "y", "targets")
_CHUNK = 1024


def npz(path: Path) -> Splits | None:
    """One .npz file, or a directory of ``train.npz``, ``test.npz``…; None if it is neither."""
    if path.is_file():
        return {"": lambda wanted: _npz(path, wanted)} if path.suffix == ".npz" else None
    files = sorted(path.glob("*.npz"))
    return {file.stem: lambda wanted, file=file: _npz(file, wanted) for file in files} or None  # type: ignore[misc]


def safetensors(path: Path) -> Splits | None:
    """One .safetensors file with images and labels; None if it is none."""
    if path.is_file() and path.suffix == ".safetensors":
        return {"": lambda wanted: _safetensors(path, wanted)}
    return None


def _npz(path: Path, wanted: Wanted) -> Source:
    try:
        with np.load(path, allow_pickle=False) as file:
            names = {kind: next((n for n in kind if n in file.files), None) for kind in (_IMAGES, _LABELS)}
            if None in names.values():
                have = ", ".join(file.files[:8]) or "nothing"
                raise InputError(f"{path}: holds {have}; arrays images (or x) and labels (or y) are needed")
            pixels, labels = (torch.from_numpy(np.ascontiguousarray(file[str(name)])) for name in names.values())
    except InputError:
        raise
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, MemoryError) as error:
        raise InputError(f"{path}: damaged, or arrays of objects, which are never unpickled ({error})") from error
    images, scale = as_images(pixels, path)
    found = as_labels(labels, len(images), path)
    size = (images.shape[1], images.shape[2], images.shape[3])
    source = Source(found, names_for(found, path), size, array_reader(lambda p: images[p], scale))
    return fitted(source, wanted, path)


def _safetensors(path: Path, wanted: Wanted) -> Source:
    header, metadata = read_header(path)
    names = [next((n for n in kind if n in header), None) for kind in (_IMAGES, _LABELS)]
    if names[0] is None or names[1] is None:
        have = ", ".join(sorted(header)[:8]) or "nothing"
        raise InputError(f"{path}: holds {have}; it is no data set: tensors images and labels are needed")
    rows, label_rows = open_rows(path, names[0]), open_rows(path, names[1])
    if len(rows.shape) != 4 or rows.shape[1] not in (1, 3):
        raise InputError(f"{path}: images have shape {list(rows.shape)}; (N, 1 or 3, H, W) is needed")
    labels = as_labels(label_rows.rows(0, len(label_rows)), len(rows), path)
    scale = _checked_scale(path, rows)
    known = _class_names(metadata)
    numbers = names_for(labels, path)
    names_of_classes = known if len(known) >= len(numbers) else numbers
    source = Source(
        labels,
        names_of_classes,
        (rows.shape[1], rows.shape[2], rows.shape[3]),
        array_reader(lambda positions: _gather(rows, positions), scale),
        _indices(path, header, len(rows)),
    )
    return fitted(source, wanted, path)


def _checked_scale(path: Path, rows: Rows) -> float:
    scale = 1.0
    for start in range(0, len(rows), _CHUNK):
        scale = scale_of(rows.rows(start, start + _CHUNK), path)
        if scale != 1.0:
            break  # bytes can't be out of range
    return scale


def _gather(rows: Rows, positions: Tensor) -> Tensor:
    if len(positions) and bool((positions.diff() == 1).all()):
        return rows.rows(int(positions[0]), int(positions[-1]) + 1)
    return torch.cat([rows.rows(k, k + 1) for k in positions.tolist()]) if len(positions) else rows.rows(0, 0)


def _class_names(metadata: dict[str, str]) -> tuple[str, ...]:
    try:
        names = json.loads(metadata.get(METADATA_KEY, "{}")).get("class_names", [])
        return tuple(map(str, names)) if isinstance(names, list) else ()
    except (ValueError, AttributeError, RecursionError):
        return ()


def _indices(path: Path, header: dict[str, tuple[str, tuple[int, ...]]], count: int) -> Tensor | None:
    if "index" not in header:
        return None
    rows = open_rows(path, "index")
    found = as_labels(rows.rows(0, len(rows)), count, f"{path} (index)")
    if len(set(found.tolist())) != len(found):
        raise InputError(f"{path}: an index stands twice; every image needs its own")
    return found
