"""Which images of a data set: samples that keep its kinds in proportion, and those that an attack can aim for."""

from __future__ import annotations

from torch import Tensor

from advkit.data import sampling
from advkit.data.images import ImageSet
from advkit.files.errors import InputError
from advkit.tasks.task import FROM_DATA, Task


def limited(task: Task, data: ImageSet, limit: int | None, seed: int) -> ImageSet:
    """A stratified sample of ``limit`` images of ``data``; all of them for None.

    Raises:
        InputError: fewer than one is asked for.
    """
    if limit is None:
        return data
    if limit < 1:
        raise InputError(f"--limit {limit}: at least one image is needed")
    return data.subset(sampling.stratified(task.strata(data.targets), limit, seed))


def sample(task: Task, data: ImageSet, positions: Tensor, count: int, seed: int) -> Tensor:
    """A stratified sample of ``positions``; all of them, in their order, where there are no more than ``count``."""
    return positions[sampling.stratified(task.strata(data.targets[positions]), count, seed)]


def hold_out(task: Task, data: ImageSet, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Positions to train on and to validate on; see :func:`advkit.data.sampling.hold_out`."""
    return sampling.hold_out(task.strata(data.targets), fraction, seed)


def without_target(task: Task, data: ImageSet, target: str | int | None) -> ImageSet:
    """``data`` without the images of which the aim is true already."""
    if target is None or target == "least-likely":  # never the true class
        return data
    if target == FROM_DATA:
        aims = data.target_classes
    else:  # next and random leave an image as it is that has nothing to aim at, or one class and no other
        aims = task.aim(target, data.targets, data.indices, _no_outputs, data.num_classes, 0)
    assert aims is not None
    other = (data.targets != aims).reshape(len(data), -1).any(1)
    return data if bool(other.all()) else data.subset(other.nonzero().squeeze(1))


def _no_outputs() -> Tensor:
    raise AssertionError("only least-likely needs outputs")
