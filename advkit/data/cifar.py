"""CIFAR-10 and CIFAR-100 as published, binary and python."""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from advkit.data.images import array_reader
from advkit.data.source import Source, Splits, Wanted, as_labels, fitted
from advkit.files.errors import InputError

_PIXELS = 3 * 32 * 32
_CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_TRAIN10 = [f"data_batch_{k}" for k in range(1, 6)]


def binary(path: Path) -> Splits | None:
    """Splits of a directory (or one file) in the binary form, None if it is not one."""
    if path.is_file():
        if path.suffix != ".bin":
            return None
        hundred = path.name in ("train.bin", "test.bin")
        return {_split_of(path.stem): lambda wanted: _binary([path], hundred, wanted)}
    splits: Splits = {}
    for hundred, split, names in (
        (False, "train", _TRAIN10),
        (False, "test", ["test_batch"]),
        (True, "train", ["train"]),
        (True, "test", ["test"]),
    ):
        files = [path / f"{name}.bin" for name in names if (path / f"{name}.bin").is_file()]
        if files and split not in splits:
            splits[split] = lambda wanted, files=files, hundred=hundred: _binary(files, hundred, wanted)  # type: ignore[misc]
    return splits or None


def python(path: Path) -> Splits | None:
    """Splits of a directory in the python (pickled) form, None if it is not one."""
    if not path.is_dir():
        return None
    splits: Splits = {}
    for split, names in (("train", [*_TRAIN10, "train"]), ("test", ["test_batch", "test"])):
        files = [path / name for name in names if (path / name).is_file()]
        if files:
            splits[split] = lambda wanted, files=files: _python(files, wanted)  # type: ignore[misc]
    return splits or None


def _split_of(stem: str) -> str:
    return "test" if stem.startswith("test") else "train"


def _names(path: Path, hundred: bool, count: int) -> tuple[str, ...]:
    for name in ("fine_label_names.txt",) if hundred else ("batches.meta.txt",):
        file = path.parent / name
        if file.is_file():
            found = tuple(file.read_text(errors="replace").split())
            if len(found) == count:
                return found
    return tuple(str(k) for k in range(100)) if hundred else _CIFAR10


def _binary(files: list[Path], hundred: bool, wanted: Wanted) -> Source:
    head = 2 if hundred else 1
    row = head + _PIXELS
    maps = []
    for file in files:
        size = file.stat().st_size
        if size == 0 or size % row:
            raise InputError(f"{file}: {size} bytes are no whole number of {row}-byte records; copy it again")
        maps.append(np.memmap(file, np.uint8, "r", shape=(size // row, row)))
    labels = torch.cat([torch.from_numpy(part[:, head - 1].copy()) for part in maps]).long()
    count = 100 if hundred else 10
    if int(labels.max()) >= count:
        raise InputError(f"{files[0]}: label {int(labels.max())} in CIFAR-{count}; not this format, or damaged")
    starts = np.cumsum([0, *[len(part) for part in maps]])

    def pixels(positions: Tensor) -> Tensor:
        rows = positions.numpy()
        which = np.searchsorted(starts, rows, side="right") - 1
        found = np.empty((len(rows), _PIXELS), np.uint8)
        for number in np.unique(which):
            mask = which == number
            found[mask] = maps[number][rows[mask] - starts[number], head:]
        return torch.from_numpy(found).view(-1, 3, 32, 32)

    names = _names(files[0], hundred, count)
    return fitted(Source(labels, names, (3, 32, 32), array_reader(pixels, 255.0)), wanted, files[0].parent)


class _Restricted(pickle.Unpickler):
    """Unpickles dicts, lists, bytes, numbers and numpy arrays, and nothing that could run code."""

    _ALLOWED = frozenset(
        [
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("_codecs", "encode"),
        ]
    )

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def _unpickled(file: Path) -> dict[str, Any]:
    try:
        found = _Restricted(io.BytesIO(file.read_bytes()), encoding="bytes").load()
    except Exception as error:  # a damaged pickle raises nearly anything
        raise InputError(f"{file}: not a CIFAR batch, damaged, or unsafe ({error}); nothing in it was run") from error
    if not isinstance(found, dict):
        raise InputError(f"{file}: not a CIFAR batch (no dict in it)")
    return {key.decode(errors="replace") if isinstance(key, bytes) else str(key): v for key, v in found.items()}


def _python(files: list[Path], wanted: Wanted) -> Source:
    rows: list[np.ndarray] = []
    labels: list[int] = []
    hundred = False
    for file in files:
        batch = _unpickled(file)
        hundred = "fine_labels" in batch
        data, own = batch.get("data"), batch.get("fine_labels" if hundred else "labels")
        good = isinstance(data, np.ndarray) and data.dtype == np.uint8 and data.ndim == 2 and data.shape[1] == _PIXELS
        if not good or not isinstance(own, Iterable):
            raise InputError(f"{file}: not a CIFAR batch: it needs data (N, {_PIXELS}) uint8 and labels")
        rows.append(data)  # type: ignore[arg-type]
        try:
            labels += [int(label) for label in own]
        except (TypeError, ValueError) as error:
            raise InputError(f"{file}: labels are not whole numbers") from error
    images = torch.from_numpy(np.concatenate(rows)).view(-1, 3, 32, 32)
    found = as_labels(torch.tensor(labels, dtype=torch.int64), len(images), files[0].parent)
    count = 100 if hundred else 10
    if len(found) == 0 or not 0 <= int(found.min()) <= int(found.max()) < count:
        raise InputError(f"{files[0]}: empty, or labels outside 0 to {count - 1}")
    names = tuple(str(k) for k in range(100)) if hundred else _CIFAR10
    return fitted(Source(found, names, (3, 32, 32), array_reader(lambda p: images[p], 255.0)), wanted, files[0].parent)
