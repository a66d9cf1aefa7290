"""CIFAR-10 and CIFAR-100 in the binary form: records of label bytes and 3,072 pixel bytes (Krizhevsky 2009)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from advkit.data.images import array_reader
from advkit.data.raw_dataset import LoadOptions, RawDataset, Splits, match_channels
from advkit.files.errors import InputError

PIXELS = 3 * 32 * 32
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
TRAIN10 = [f"data_batch_{k}" for k in range(1, 6)]


def splits(path: Path) -> Splits | None:
    """Splits of a directory (or one file) in the binary form, None if it is not one.

    CIFAR-100's files are ``train.bin`` and ``test.bin``; any other ``.bin`` file counts as CIFAR-10's.

    Raises:
        InputError: CIFAR-10 and CIFAR-100 in one directory.
    """
    if path.is_file():
        if path.suffix != ".bin":
            return None
        hundred = path.name in ("train.bin", "test.bin")
        return {"test" if path.stem.startswith("test") else "train": lambda wanted: _source([path], hundred, wanted)}
    found: Splits = {}
    for hundred, split, names in (
        (False, "train", TRAIN10),
        (False, "test", ["test_batch"]),
        (True, "train", ["train"]),
        (True, "test", ["test"]),
    ):
        files = [path / f"{name}.bin" for name in names if (path / f"{name}.bin").is_file()]
        if files and split in found:
            raise ambiguous_error(path)
        if files:
            found[split] = lambda wanted, files=files, hundred=hundred: _source(files, hundred, wanted)  # type: ignore[misc]
    return found or None


def ambiguous_error(path: Path) -> InputError:
    """What to say when one directory holds both sets."""
    return InputError(f"{path}: holds CIFAR-10 and CIFAR-100; give each a directory of its own")


def _names(folder: Path, hundred: bool) -> tuple[str, ...]:
    """Class names from the text file beside the records, where there is one."""
    file = folder / ("fine_label_names.txt" if hundred else "batches.meta.txt")
    if file.is_file():
        found = tuple(file.read_text(errors="replace").split())
        if len(found) == (100 if hundred else 10):
            return found
    return tuple(str(k) for k in range(100)) if hundred else CIFAR10


def _source(files: list[Path], hundred: bool, wanted: LoadOptions) -> RawDataset:
    head = 2 if hundred else 1  # CIFAR-100 has the coarse label first
    maps = [_records(file, head + PIXELS) for file in files]
    labels = torch.cat([torch.from_numpy(part[:, head - 1].copy()) for part in maps]).long()
    starts = np.cumsum([0, *[len(part) for part in maps]])

    def pixels(positions: Tensor) -> Tensor:
        rows = positions.numpy()
        which = np.searchsorted(starts, rows, side="right") - 1
        found = np.empty((len(rows), PIXELS), np.uint8)
        for number in np.unique(which):
            mask = which == number
            found[mask] = maps[number][rows[mask] - starts[number], head:]
        return torch.from_numpy(found).view(-1, 3, 32, 32)

    names = _names(files[0].parent, hundred)
    return match_channels(RawDataset(labels, names, (3, 32, 32), array_reader(pixels, 255.0)), wanted, files[0].parent)


def _records(file: Path, row: int) -> np.memmap:
    size = file.stat().st_size
    if size == 0 or size % row:
        raise InputError(f"{file}: {size} bytes are no whole number of {row}-byte records; copy it again")
    return np.memmap(file, np.uint8, "r", shape=(size // row, row))
