"""What a data format yields, before a size is asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from advkit.data.decoding import Resize
from advkit.data.images import GREY_REPEATED, Reader
from advkit.files.errors import InputError

# Names under which files of arrays hold images and labels, the first one found counts.
IMAGES, LABELS = ("images", "x", "data"), ("labels", "y", "targets")

_ROUNDING = 1e-6  # what float32 arithmetic leaves beyond 0 and 1; readers clip it


@dataclass(frozen=True)
class LoadOptions:
    """What the caller wants of every image; None leaves it to the data.

    Attributes:
        size: (H, W) for pictures of any size; arrays keep their own.
        channels: 1 or 3.
        crop_pct: part of the resized picture, of its shorter side, that is cut from the centre, in (0, 1].
        interpolation: ``bilinear``, ``bicubic`` or ``nearest``.
        fix_boxes: mend boxes that are wrong, instead of refusing the data.
    """

    size: tuple[int, int] | None = None
    channels: int | None = None
    crop_pct: float = 1.0
    interpolation: str = "bilinear"
    fix_boxes: bool = False


@dataclass(frozen=True)
class RawDataset:
    """One split of a data set.

    Attributes:
        targets: (N,) int64, or for detection (N, K, 6) as in :mod:`advkit.data.boxes`.
        class_names: K names.
        size: (C, H, W); of pictures of several sizes the canvas that holds each.
        read: as in :class:`advkit.data.images.ImageSet`.
        indices: (N,) identities, for sets that say so themselves (adversarial sets); None counts from 0.
        target_classes: (N,) int64, classes to aim at; None where the data do not say.
        warnings, resize, task, names: as in :class:`advkit.data.images.ImageSet`.
    """

    targets: Tensor
    class_names: tuple[str, ...]
    size: tuple[int, int, int]
    read: Reader
    indices: Tensor | None = None
    target_classes: Tensor | None = None
    warnings: tuple[str, ...] = ()
    resize: Resize | None = None
    task: str = "classification"
    names: tuple[str, ...] | None = None


Splits = dict[str, Callable[[LoadOptions], RawDataset]]


def names_for(labels: Tensor, where: object) -> tuple[str, ...]:
    """Numbers as class names, for formats that have none.

    Raises:
        InputError: no images, negative or absurd labels.
    """
    if len(labels) == 0:
        raise InputError(f"{where}: no images; give a data set that has some")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high > 100_000:
        raise InputError(f"{where}: labels run from {low} to {high}; class numbers from 0 are needed")
    return tuple(str(k) for k in range(high + 1))


def match_channels(source: RawDataset, wanted: LoadOptions, where: object) -> RawDataset:
    """``source`` with grey images repeated to 3 channels where wanted. Arrays are never resized, whatever is wanted.

    Raises:
        InputError: colour where grey is wanted.
    """
    channels, height, width = source.size
    if wanted.channels is None or wanted.channels == channels:
        return source
    if channels == 1:
        read = source.read

        def repeated(positions: Tensor) -> Tensor:
            return read(positions).expand(-1, wanted.channels or 1, -1, -1).contiguous()

        size = (wanted.channels, height, width)
        told = (*source.warnings, GREY_REPEATED)
        return replace(source, size=size, read=repeated, warnings=told)
    need = f"images have {channels} channels, {wanted.channels} are needed"
    raise InputError(f"{where}: {need}; use a model for colour images, or grey data")


def as_images(array: Tensor, where: object) -> tuple[Tensor, float]:
    """(N, C, H, W) view of an array of images in any usual layout, and what to divide its values by.

    (N, H, W) is grey; (N, H, W, C) and (N, C, H, W) are told apart by where 1 or 3 stands. uint8 is divided by 255;
    floats must lie in [0, 1].

    Raises:
        InputError: another shape or dtype, values outside [0, 1], NaN.
    """
    if array.ndim == 3:
        array = array.unsqueeze(1)
    if array.ndim != 4 or 0 in array.shape[1:]:
        raise InputError(f"{where}: images have shape {list(array.shape)}; (N, C, H, W) or (N, H, W[, C]) is needed")
    if array.shape[1] not in (1, 3) and array.shape[3] in (1, 3):
        array = array.permute(0, 3, 1, 2)
    if array.shape[1] not in (1, 3):
        raise InputError(f"{where}: images have {array.shape[1]} channels; 1 or 3 are needed")
    return array, scale_of(array, where)


def scale_of(array: Tensor, where: object) -> float:
    """255 for uint8, 1 for floats in [0, 1].

    Raises:
        InputError: anything else.
    """
    if array.dtype == torch.uint8:
        return 255.0
    if not array.is_floating_point():
        raise InputError(f"{where}: images are {array.dtype}; uint8, or floats in [0, 1], are needed")
    if array.numel():
        low, high = float(array.min()), float(array.max())
        if low != low:
            raise InputError(f"{where}: holds NaN where pixels in [0, 1] are needed; write it again")
        if not (low >= -_ROUNDING and high <= 1.0 + _ROUNDING):
            hint = "; divide by 255" if 1.5 < high <= 255.0 and low >= 0.0 else ""
            raise InputError(f"{where}: pixels run from {low:.9g} to {high:.9g}; floats must lie in [0, 1]{hint}")
    return 1.0


def as_labels(array: Tensor, count: int, where: object) -> Tensor:
    """(N,) int64 labels.

    Raises:
        InputError: not whole numbers, or not ``count`` of them.
    """
    array = array.squeeze(-1) if array.ndim == 2 and array.shape[1] == 1 else array
    if array.ndim != 1 or array.is_floating_point() or array.dtype == torch.bool:
        raise InputError(f"{where}: labels are {array.dtype} of shape {list(array.shape)}; (N,) integers are needed")
    if len(array) != count:
        raise InputError(f"{where}: {count} images but {len(array)} labels")
    return array.long()
