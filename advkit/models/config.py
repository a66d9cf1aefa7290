"""What a reference says of its model, what the caller wants, and the two brought together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from advkit.files.errors import InputError

Size = tuple[int, int, int]

MOST_CLASSES = 1_000_000  # the largest label sets in use have some 20,000
MOST_PIXELS = 2048 * 2048  # of one image; the largest classifiers in use take 1024x1024, and memory goes with it
_MOST_STATISTIC = 10.0  # of mean and std: pixels lie in [0, 1], and a net for [0, 255] has a std of 1/255
LEAST_STD = 1e-6  # below it a step of 8 bits becomes thousands


INTERPOLATIONS = ("bilinear", "bicubic", "nearest")


@dataclass(frozen=True)
class Crop:
    """How pictures of other sizes are prepared for a model.

    Attributes:
        crop_pct: what the cut from the centre leaves of the scaled picture's shorter side, in [0.1, 1].
        interpolation: of the scaling, one of :data:`INTERPOLATIONS`.
        notes: what its description asks for and is not done, each one line.
    """

    crop_pct: float = 1.0
    interpolation: str = "bilinear"
    notes: tuple[str, ...] = ()


def said_crop(meta: Mapping[str, Any]) -> Crop | None:
    """What a checkpoint's metadata says of it, None where that is nothing of use: it is no part of what it must say."""
    crop_pct, interpolation = meta.get("crop_pct"), meta.get("interpolation")
    good = isinstance(crop_pct, float | int) and 0.1 <= crop_pct <= 1.0 and interpolation in INTERPOLATIONS
    return Crop(float(crop_pct), str(interpolation)) if good and crop_pct is not None else None


@dataclass(frozen=True)
class ModelConfig:
    """A model's outside: classes, their names, the images it takes and how it normalises them.

    ``crop`` is how pictures of other sizes are prepared for it, None where it doesn't say.
    """

    num_classes: int
    input_size: Size
    mean: tuple[float, ...]
    std: tuple[float, ...]
    labels: tuple[str, ...] = ()
    crop: Crop | None = None


@dataclass(frozen=True)
class ModelOverrides:
    """What the caller knows of the model it asks for; None where it leaves the choice to the reference."""

    num_classes: int | None = None
    input_size: Size | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    labels: tuple[str, ...] | None = None
    seed: int = 0


def resolve(ref: str, config: ModelConfig, wish: ModelOverrides, *, whole: bool = False) -> ModelConfig:
    """``config`` with the caller's wishes where it leaves room for them.

    Trained weights fix the classes and the channels; a checkpoint (``whole``) fixes size and normalisation too.

    Raises:
        InputError: a wish that contradicts what is fixed; labels, mean or std that don't fit.
    """
    size = wish.input_size or config.input_size
    if wish.num_classes not in (None, config.num_classes):
        raise InputError(f"{ref}: has {config.num_classes} classes, {wish.num_classes} are needed; use another model")
    if size[0] != config.input_size[0] or (whole and size != config.input_size):
        needed, found = ("x".join(map(str, s)) for s in (size, config.input_size))
        raise InputError(f"{ref}: takes images of {found} (channels, height, width), not {needed}; use another model")
    mean, std = wish.mean or config.mean, wish.std or config.std
    if whole and (mean, std) != (config.mean, config.std):
        raise InputError(f"{ref}: the checkpoint has its own mean and std; leave them out")
    labels = config.labels or wish.labels or ()
    result = replace(config, input_size=size, mean=mean, std=std, labels=labels)
    check(ref, result)
    return result


def check(what: str, config: ModelConfig) -> None:
    """Raise InputError unless classes, labels, size, mean and std are possible and fit each other."""
    check_classes(what, config.num_classes)
    check_size(what, config.input_size)
    check_statistics(what, config.mean, config.std)
    channels = config.input_size[0]
    if len(config.mean) != channels or len(config.std) != channels:
        raise InputError(f"{what}: mean and std need one number for each of {channels} channels")
    if config.labels and len(config.labels) != config.num_classes:
        raise InputError(f"{what}: {len(config.labels)} labels for {config.num_classes} classes; give one each")


def check_classes(what: str, num_classes: int) -> None:
    """Raise InputError unless ``num_classes`` lies in [1, 1,000,000]."""
    if not 1 <= num_classes <= MOST_CLASSES:
        raise InputError(f"{what}: {num_classes} classes; give 1 to {MOST_CLASSES:,}")


def check_size(what: str, size: Size) -> None:
    """Raise InputError for a (C, H, W) that is not positive, or so large that one image would fill the memory."""
    shown = "x".join(map(str, size))
    if min(size) < 1:
        raise InputError(f"{what}: images of {shown} (channels, height, width); all three must be positive")
    if size[1] * size[2] > MOST_PIXELS:
        raise InputError(f"{what}: images of {shown} are over the limit of {MOST_PIXELS:,} pixels; use smaller ones")


def check_statistics(what: str, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    """Raise InputError unless mean and std are such as pixels in [0, 1] have, or a net for other pixels needs."""
    for value in mean:
        check_statistic(f"{what}: mean {value:g}", value)
    for value in std:
        check_statistic(f"{what}: std {value:g}", value, LEAST_STD)


def check_statistic(what: str, value: float, least: float = -_MOST_STATISTIC) -> None:
    """Raise InputError, beginning with ``what``, unless ``value`` can be one of a mean, or of a std above ``least``."""
    if not math.isfinite(value):
        raise InputError(f"{what}: a finite number is needed, in units of pixels in [0, 1]")
    if abs(value) > _MOST_STATISTIC:
        hint = f"; did you mean {value:g}/255?" if abs(value) <= 255 else ""
        raise InputError(f"{what}: pixels lie in [0, 1], so this is out of scale{hint}")
    if value < least:
        raise InputError(f"{what}: {least:g} or more is needed")


def is_nameless(class_names: Sequence[str]) -> bool:
    """Whether classes have no names but their numbers."""
    return all(name == str(k) for k, name in enumerate(class_names))
