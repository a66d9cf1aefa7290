"""CIFAR-10 and CIFAR-100 in the python (pickled) form, without trusting the pickles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from advkit.data.cifar import CIFAR10, PIXELS, TRAIN10, ambiguous_error
from advkit.data.images import array_reader
from advkit.data.raw_dataset import LoadOptions, RawDataset, Splits, as_labels, match_channels
from advkit.data.safe_pickle import read_dict
from advkit.files.errors import InputError

Batch = tuple[np.ndarray, list[int]]


def splits(path: Path) -> Splits | None:
    """Splits of a directory of batches as published (Krizhevsky 2009), None if it is not one."""
    if not path.is_dir():
        return None
    found: Splits = {}
    for hundred, split, names in (
        (False, "train", TRAIN10),
        (False, "test", ["test_batch"]),
        (True, "train", ["train"]),
        (True, "test", ["test"]),
    ):
        files = [path / name for name in names if (path / name).is_file()]
        if files and split in found:
            raise ambiguous_error(path)
        if files:
            found[split] = lambda wanted, files=files, hundred=hundred: _source(files, hundred, wanted)  # type: ignore[misc]
    return found or None


def _source(files: list[Path], hundred: bool, wanted: LoadOptions) -> RawDataset:
    batches = [_batch(file, "fine_labels" if hundred else "labels") for file in files]
    images = torch.from_numpy(np.concatenate([data for data, _ in batches])).view(-1, 3, 32, 32)
    labels = torch.cat([torch.tensor(own, dtype=torch.int64) for _, own in batches])
    names = _names(files[0].parent, hundred)
    source = RawDataset(labels, names, (3, 32, 32), array_reader(lambda rows: images[rows], 255.0))
    return match_channels(source, wanted, files[0].parent)


def _batch(file: Path, key: str) -> Batch:
    batch = read_dict(file)
    data, labels = batch.get("data"), batch.get(key)
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != PIXELS:
        raise InputError(
            f"{file}: not a CIFAR batch: its data must be (N, {PIXELS}) uint8; give the files as published"
        )
    if isinstance(labels, np.ndarray):
        labels = labels.tolist()
    if not isinstance(labels, list) or not all(type(label) is int and 0 <= label < 2**31 for label in labels):
        raise InputError(f"{file}: its {key} are no list of class numbers; give the files as published")
    as_labels(torch.tensor(labels, dtype=torch.int64), len(data), file)
    return np.ascontiguousarray(data), labels


def _names(folder: Path, hundred: bool) -> tuple[str, ...]:
    """Class names from the meta file beside the batches, where there is one."""
    file, key, count = folder / "batches.meta", "label_names", 10
    if hundred:
        file, key, count = folder / "meta", "fine_label_names", 100
    found = read_dict(file).get(key) if file.is_file() else None
    if isinstance(found, list) and len(found) == count:
        return tuple(_name(name) for name in found)
    return tuple(str(k) for k in range(100)) if hundred else CIFAR10


def _name(name: Any) -> str:
    return name.decode(errors="replace") if isinstance(name, bytes) else str(name)
