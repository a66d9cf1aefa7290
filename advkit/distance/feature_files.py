"""Ready features: (N, d) in a .npy file, or under the name features in a .safetensors file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from advkit.distance.features import FeatureTable, content_hash, write_features
from advkit.files.errors import InputError
from advkit.files.tensors import open_tensor, read_header

_TENSOR = "features"
_BLOCK = 4 << 20  # numbers that are read at a time


def is_feature_file(path: Path) -> bool:
    """Whether ``path`` is a .npy file, or a .safetensors file with features.

    Raises:
        InputError: a damaged file.
    """
    if not path.is_file():
        return False
    return path.suffix == ".npy" or (path.suffix == ".safetensors" and _TENSOR in read_header(path)[0])


def read_feature_file(path: Path) -> tuple[FeatureTable, str]:
    """The features of ``path``, and a sha256 over their shape and their values as float64.

    Raises:
        InputError: damaged; another shape than (N, d); no floats; NaN or infinities; no rows.
    """
    rows, count, size = _of_numpy(path) if path.suffix == ".npy" else _of_safetensors(path)
    digest = hashlib.sha256(f"features {count} {size}".encode())

    def batches() -> Iterator[tuple[list[int], Tensor]]:
        step = max(1, _BLOCK // size)
        for start in range(0, count, step):
            block = rows(start, min(start + step, count))
            exact = np.ascontiguousarray(block.double().numpy())
            digest.update(exact.tobytes())
            yield [content_hash(row.tobytes()) for row in exact], block

    table = write_features(str(path), batches())
    return table, digest.hexdigest()


def _of_numpy(path: Path) -> tuple[Callable[[int, int], Tensor], int, int]:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # a damaged file raises nearly anything
        why = str(error)[:120] or type(error).__name__
        raise InputError(f"{path}: damaged, or holds objects, which are never unpickled ({why})") from error
    _check(path, list(array.shape), array.dtype.kind == "f", str(array.dtype))
    exact = np.dtype(np.float64 if array.dtype.itemsize > 4 else np.float32)
    return (lambda start, stop: torch.from_numpy(array[start:stop].astype(exact))), *array.shape


def _of_safetensors(path: Path) -> tuple[Callable[[int, int], Tensor], int, int]:
    tensor = open_tensor(path, _TENSOR)
    first = tensor.rows(0, min(1, len(tensor)))
    _check(path, list(tensor.shape), first.is_floating_point(), str(first.dtype))
    exact = torch.float64 if first.dtype == torch.float64 else torch.float32
    return (lambda start, stop: tensor.rows(start, stop).to(exact)), tensor.shape[0], tensor.shape[1]


def _check(path: Path, shape: list[int], floats: bool, dtype: str) -> None:
    if len(shape) != 2 or 0 in shape or not floats:
        raise InputError(f"{path}: features are {dtype} of shape {shape}; (N, d) floats are needed, a row an image")
