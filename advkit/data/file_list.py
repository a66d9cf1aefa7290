"""A data set of pictures, each in a file of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from advkit.data.decoding import Resize, check_whole, decode, read_in_grey, upright_size
from advkit.data.raw_dataset import LoadOptions, RawDataset
from advkit.files.errors import InputError


def from_files(
    path: Path, files: list[Path], targets: Tensor, names: tuple[str, ...], wanted: LoadOptions
) -> RawDataset:
    """Pictures in ``files``, of targets (N,), decoded as they are asked for; ``path`` is named in errors.

    Raises:
        InputError: none, or of several sizes, or too large, where no size is asked for.
    """
    channels = wanted.channels or 3
    size = wanted.size or _common_size(path, files)
    resize = Resize(size, wanted.crop_pct, wanted.interpolation)
    read = _reader(files, channels, resize)
    stems = tuple(file.stem for file in files)
    told = tuple(filter(None, (read_in_grey(files, channels), _told(resize))))
    return RawDataset(targets, names, (channels, *size), read, warnings=told, resize=resize, names=stems)


def _told(resize: Resize) -> str | None:
    """What is to be said of pictures that are not prepared as usual."""
    if resize == Resize(resize.size):
        return None
    (height, width), (above, beside) = resize.size, resize.scaled
    return (
        f"pictures of another size than {height}x{width} are scaled to {above}x{beside} ({resize.interpolation}) "
        f"and cut from the centre, crop_pct {resize.crop_pct:g}"
    )


def _reader(files: list[Path], channels: int, resize: Resize) -> Callable[[Tensor], Tensor]:
    size = resize.size

    def read(rows: Tensor) -> Tensor:
        images = [decode(files[row], channels, size, resize.crop_pct, resize.interpolation) for row in rows.tolist()]
        return torch.stack(images) if images else torch.empty(0, channels, *size)

    return read


def _common_size(path: Path, files: list[Path]) -> tuple[int, int]:
    if not files:
        raise InputError(f"{path}: no images; give a data set that has some")
    first = upright_size(files[0])
    check_whole(files[0], first)
    for file in files[1:]:
        if (size := upright_size(file)) != first:
            found = f"{first[0]}x{first[1]}, {size[0]}x{size[1]}, …"
            raise InputError(f"{path}: images differ in size ({found}); say which to use with --size")
    return first
