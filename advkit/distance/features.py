"""Features of a domain's images in a file of their own: memory does not grow with the number of images."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import IO

import numpy as np
import torch
from torch import Tensor

from advkit.files.errors import InputError


@dataclass(frozen=True)
class FeatureTable:
    """Features of N images on disk.

    Images are counted in the order of their contents, so that the order of files, and what lies beside them, changes
    nothing.

    Attributes:
        ref: where they come from.
        count: N.
        size: d, numbers of each.
        dtype: of the file, float32 or float64.
        keys: (N,) int64, sorted: a hash of each image's contents.
        file: rows in the order in which they were written.
        row_numbers: (N,) int64, the row of each image.
    """

    ref: str
    count: int
    size: int
    dtype: np.dtype[np.floating]
    keys: np.ndarray
    file: IO[bytes]
    row_numbers: np.ndarray

    def __del__(self) -> None:
        self.file.close()

    def rows(self, positions: Tensor) -> Tensor:
        """(M, d) float64 features of the images at ``positions`` (M,)."""
        width = self.size * self.dtype.itemsize
        found = np.empty((len(positions), self.size), self.dtype)
        for row, row_number in zip(found, self.row_numbers[positions.numpy()].tolist(), strict=True):
            self.file.seek(row_number * width)
            row[:] = np.frombuffer(self.file.read(width), self.dtype)
        return torch.from_numpy(found).double()


def content_hash(*parts: bytes) -> int:
    """64 bits of a hash (BLAKE2b) of an image's contents."""
    return int.from_bytes(hashlib.blake2b(b"\0".join(parts), digest_size=8).digest(), "little", signed=True)


def write_features(
    ref: str, batches: Iterable[tuple[list[int], Tensor]], progress: Callable[[int], None] = lambda done: None
) -> FeatureTable:
    """The features of ``batches``, in a temporary file that goes with the table.

    Args:
        ref: named in errors.
        batches: keys of images and their features (M, d), float32 or float64.
        progress: called with the number of images that are done.

    Raises:
        InputError: no image; features that are not finite, or a file system that is full.
    """
    file = tempfile.TemporaryFile()  # noqa: SIM115  # open as long as the table is there
    try:
        keys, size, dtype = _write(ref, batches, file, progress)
    except BaseException:
        file.close()
        raise
    row_numbers = np.argsort(keys, kind="stable")
    return FeatureTable(ref, len(keys), size, dtype, keys[row_numbers], file, row_numbers)


def _write(
    ref: str, batches: Iterable[tuple[list[int], Tensor]], file: IO[bytes], progress: Callable[[int], None]
) -> tuple[np.ndarray, int, np.dtype[np.floating]]:
    """Keys of the images in the order of the rows in ``file``, numbers of a row, and what they are."""
    keys: list[np.ndarray] = []
    count, size, dtype = 0, 0, np.dtype(np.float32)
    for found, features in batches:
        good = features.isfinite().all(1)
        if not bool(good.all()):
            number = count + int(good.logical_not().nonzero()[0])
            raise InputError(f"{ref}: the features of image {number} hold NaN or infinity; use other features")
        block = np.ascontiguousarray(features.cpu().numpy())
        size, dtype = block.shape[1], block.dtype
        try:
            file.write(block.tobytes())
            file.flush()
        except OSError as error:
            why = error.strerror or error
            raise InputError(f"{tempfile.gettempdir()}: cannot write features: {why}; set TMPDIR") from error
        keys.append(np.array(found, np.int64))
        count += len(block)
        progress(count)
    if not count:
        raise InputError(f"{ref}: no images; give a data set that has some")
    return np.concatenate(keys), size, dtype


def shared_images(a: FeatureTable, b: FeatureTable) -> int:
    """How many images of ``b`` are in ``a`` too, by their contents."""
    return int(np.isin(b.keys, a.keys).sum())
