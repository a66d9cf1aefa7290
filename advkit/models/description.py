"""What a reference says of its model, what the caller wants, and the two brought together."""

from __future__ import annotations

from dataclasses import dataclass, replace

from advkit.files.errors import InputError

Size = tuple[int, int, int]


@dataclass(frozen=True)
class Description:
    """A model's outside: classes, their names, the images it takes and how it normalises them."""

    num_classes: int
    input_size: Size
    mean: tuple[float, ...]
    std: tuple[float, ...]
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Wish:
    """What the caller knows of the model it asks for; None where it leaves the choice to the reference."""

    num_classes: int | None = None
    input_size: Size | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    labels: tuple[str, ...] | None = None
    seed: int = 0


def settle(ref: str, said: Description, wish: Wish, *, whole: bool = False) -> Description:
    """``said`` with the caller's wishes where it leaves room for them.

    Trained weights fix the classes and the channels; a checkpoint (``whole``) fixes size and normalisation too.

    Raises:
        InputError: a wish that contradicts what is fixed; labels, mean or std that don't fit.
    """
    size = wish.input_size or said.input_size
    if wish.num_classes not in (None, said.num_classes):
        raise InputError(f"{ref}: has {said.num_classes} classes, {wish.num_classes} are needed; use another model")
    if size[0] != said.input_size[0] or (whole and size != said.input_size):
        needed, found = ("x".join(map(str, s)) for s in (size, said.input_size))
        raise InputError(f"{ref}: takes images of {found} (channels, height, width), not {needed}; use another model")
    mean, std = wish.mean or said.mean, wish.std or said.std
    if whole and (mean, std) != (said.mean, said.std):
        raise InputError(f"{ref}: the checkpoint has its own mean and std; leave them out")
    labels = said.labels or wish.labels or ()
    result = replace(said, input_size=size, mean=mean, std=std, labels=labels)
    check(ref, result)
    return result


def check(what: str, said: Description) -> None:
    """Raise InputError unless classes, labels, size, mean and std fit each other."""
    if said.num_classes < 1 or min(said.input_size) < 1:
        raise InputError(f"{what}: {said.num_classes} classes of {said.input_size} images; all must be positive")
    channels = said.input_size[0]
    if len(said.mean) != channels or len(said.std) != channels or not all(value > 0 for value in said.std):
        raise InputError(f"{what}: mean and std need one number for each of {channels} channels, std above 0")
    if said.labels and len(said.labels) != said.num_classes:
        raise InputError(f"{what}: {len(said.labels)} labels for {said.num_classes} classes; give one each")
