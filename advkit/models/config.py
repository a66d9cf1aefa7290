"""What a reference says of its model, what the caller wants, and the two brought together."""

from __future__ import annotations

from dataclasses import dataclass, replace

from advkit.files.errors import InputError

Size = tuple[int, int, int]


@dataclass(frozen=True)
class ModelConfig:
    """A model's outside: classes, their names, the images it takes and how it normalises them."""

    num_classes: int
    input_size: Size
    mean: tuple[float, ...]
    std: tuple[float, ...]
    labels: tuple[str, ...] = ()


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
    """Raise InputError unless classes, labels, size, mean and std fit each other."""
    if config.num_classes < 1 or min(config.input_size) < 1:
        raise InputError(f"{what}: {config.num_classes} classes of {config.input_size} images; all must be positive")
    channels = config.input_size[0]
    if len(config.mean) != channels or len(config.std) != channels or not all(value > 0 for value in config.std):
        raise InputError(f"{what}: mean and std need one number for each of {channels} channels, std above 0")
    if config.labels and len(config.labels) != config.num_classes:
        raise InputError(f"{what}: {len(config.labels)} labels for {config.num_classes} classes; give one each")
