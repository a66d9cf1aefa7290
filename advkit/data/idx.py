"""MNIST's idx files, gzipped or not."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
import torch

from advkit.data.images import array_reader
from advkit.data.source import Source, Splits, Wanted, as_labels, fitted, names_for
from advkit.files.errors import InputError

_LIMIT = 4 << 30  # bytes of pixels: what a header may ask for


def splits(path: Path) -> Splits | None:
    """Splits of a directory with pairs of ``*images*idx3*`` and ``*labels*idx1*``, None if there are none."""
    if not path.is_dir():
        return None
    found: Splits = {}
    for images in sorted(path.iterdir()):
        if "idx3" not in images.name or "images" not in images.name:
            continue
        stem = images.name.removesuffix(".gz").replace("images", "labels").replace("idx3", "idx1")
        labels = next((path / name for name in (stem, f"{stem}.gz") if (path / name).is_file()), None)
        if labels is None:
            raise InputError(f"{images}: no labels beside it; {stem} is missing")
        split = "test" if "t10k" in images.name or "test" in images.name else "train"
        found[split] = lambda wanted, images=images, labels=labels: _source(images, labels, wanted)  # type: ignore[misc]
    return found or None


def _array(path: Path, axes: int) -> np.ndarray:
    head = 4 + 4 * axes
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            start = file.read(head)
            if len(start) < head or start[:3] != b"\0\0\x08" or start[3] != axes:
                raise InputError(f"{path}: not an idx file of {axes} axes of bytes")
            shape = struct.unpack(f">{axes}I", start[4:])
            size = int(np.prod([int(n) for n in shape], dtype=object))
            if size > _LIMIT:
                raise InputError(f"{path}: its header asks for {size} bytes; damaged")
            data = file.read(size + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot read: {error}; copy it again") from error
    if len(data) != size:
        more = "more than" if len(data) > size else f"{len(data)} of"
        raise InputError(f"{path}: holds {more} the {size} bytes that its header announces; copy it again")
    return np.frombuffer(data, np.uint8).reshape(shape)


def _source(images: Path, labels: Path, wanted: Wanted) -> Source:
    pixels = torch.from_numpy(_array(images, 3).copy()).unsqueeze(1)
    found = as_labels(torch.from_numpy(_array(labels, 1).copy()), len(pixels), labels)
    names = names_for(found, labels)
    names = names if len(names) > 10 else tuple(str(k) for k in range(10))
    size = (1, pixels.shape[2], pixels.shape[3])
    return fitted(Source(found, names, size, array_reader(lambda p: pixels[p], 255.0)), wanted, images.parent)
