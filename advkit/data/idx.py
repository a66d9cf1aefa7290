"""MNIST's idx files, gzipped or not, and everything published in that form."""

from __future__ import annotations

import contextlib
import gzip
import math
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import torch
from torch import Tensor

from advkit.data.images import array_reader
from advkit.data.raw_dataset import LoadOptions, RawDataset, Splits, as_images, as_labels, match_channels, names_for
from advkit.files.errors import InputError

_LIMIT = 4 << 30  # bytes of pixels: what a header may ask for
_CHUNK = 1 << 20  # bytes read at a time
_BYTES = b"\0\0\x08"  # how idx files of unsigned bytes begin; the number of axes follows


def image_splits(path: Path) -> Splits | None:
    """As :func:`splits`, of the files of images alone: labels are not looked for."""
    return _splits(path, lambda images: lambda wanted: _images(images, wanted))


def splits(path: Path) -> Splits | None:
    """Splits of a directory with pairs of image and label files, or of one image file; None if there are none.

    Files of images have ``images`` in their names, which becomes ``labels`` in the names of the files that go with
    them. Where several sets lie together, as EMNIST's do, a split is named ``emnist-letters-train``.

    Raises:
        InputError: images without labels.
    """

    def pair(images: Path) -> Callable[[LoadOptions], RawDataset]:
        labels = _labels(images)
        return lambda wanted: _source(images, labels, wanted)

    return _splits(path, pair)


def _splits(path: Path, opener: Callable[[Path], Callable[[LoadOptions], RawDataset]]) -> Splits | None:
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    images = [file for file in files if "images" in file.name and file.is_file() and _begins(file, 3)]
    bare = {file.name for file in images}
    images = [file for file in images if file.suffix != ".gz" or file.stem not in bare]  # unpacked beside its .gz
    parts = [(*_part(file), opener(file)) for file in images]
    several = len({prefix for prefix, _, _ in parts}) > 1
    return {f"{prefix}-{split}" if several and prefix else split: opened for prefix, split, opened in parts} or None


def _part(images: Path) -> tuple[str, str]:
    """Which set (empty for MNIST's own names) and which split of it."""
    prefix = images.name.partition("images")[0].rstrip("-_.")
    for mark, split in (("t10k", "test"), ("test", "test"), ("train", "train")):
        if mark in prefix:
            return prefix.replace(mark, "").strip("-_."), split
    return prefix, "train"


def _labels(images: Path) -> Path:
    stem = images.name.removesuffix(".gz").replace("images", "labels").replace("idx3", "idx1")
    for name in (stem, f"{stem}.gz"):
        if (images.parent / name).is_file():
            return images.parent / name
    raise InputError(f"{images}: no labels beside it; {stem} is missing")


def _open(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def _begins(path: Path, axes: int) -> bool:
    """Whether ``path`` is an idx file of that many axes by its name or first bytes, so that a damaged one is told."""
    if f"idx{axes}" in path.name:
        return True
    try:
        with _open(path) as file:
            return file.read(4) == _BYTES + bytes([axes])
    except (OSError, EOFError, zlib.error):
        return False


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[BinaryIO]:
    try:
        with _open(path) as file:
            yield file
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot read: {error}; copy it again") from error
    except MemoryError as error:
        raise InputError(f"{path}: memory ran out as it was read; free memory, or take fewer images") from error


def _shape(path: Path, file: BinaryIO, axes: int) -> tuple[int, ...]:
    """What the header of an idx file announces, which need not be true."""
    head = 4 + 4 * axes
    start = file.read(head)
    if len(start) < head or start[:4] != _BYTES + bytes([axes]):
        raise InputError(f"{path}: not an idx file of {axes} axes of bytes; copy it again")
    shape = struct.unpack(f">{axes}I", start[4:])
    if math.prod(shape) > _LIMIT:
        raise InputError(f"{path}: its header asks for {math.prod(shape)} bytes; damaged, copy it again")
    if 0 in shape[1:]:
        raise InputError(f"{path}: images have shape {[shape[0], 1, *shape[1:]]}; damaged, copy it again")
    return shape


def _array(path: Path, axes: int) -> Tensor:
    """Everything in an idx file, held once: it grows as it is read, so that a header can't ask for memory."""
    with _readable(path) as file:
        shape = _shape(path, file, axes)
        size, data = math.prod(shape), bytearray()
        while len(data) <= size:  # one more, so that a longer file (or a gzip bomb) is noticed and left
            more = file.read(min(_CHUNK, size + 1 - len(data)))
            if not more:
                break
            data += more
        if len(data) != size:
            told = "more than" if len(data) > size else f"{len(data)} of"
            raise InputError(f"{path}: holds {told} the {size} bytes that its header announces; copy it again")
    return torch.from_numpy(np.frombuffer(data, np.uint8).reshape(shape))


def _images(images: Path, wanted: LoadOptions) -> RawDataset:
    """One split without its labels."""
    pixels, scale = as_images(_array(images, 3).unsqueeze(1), images)
    nothing, size = torch.zeros(len(pixels), dtype=torch.int64), (1, pixels.shape[2], pixels.shape[3])
    source = RawDataset(nothing, (), size, array_reader(lambda rows: pixels[rows], scale))
    return match_channels(source, wanted, images.parent)


def _source(images: Path, labels: Path, wanted: LoadOptions) -> RawDataset:
    with _readable(images) as file:
        count = _shape(images, file, 3)[0]
    found = as_labels(_array(labels, 1), count, labels)  # before pixels are, which may be gigabytes
    names = names_for(found, labels)
    pixels, scale = as_images(_array(images, 3).unsqueeze(1), images)
    names = names if len(names) > 10 else tuple(str(k) for k in range(10))
    size = (1, pixels.shape[2], pixels.shape[3])
    return match_channels(
        RawDataset(found, names, size, array_reader(lambda rows: pixels[rows], scale)), wanted, images.parent
    )
