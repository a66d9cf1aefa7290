"""Samples keep what the task calls kinds of images in proportion, and images keep their identities."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from advkit.data.boxes import stacked
from advkit.data.images import ImageSet
from advkit.data.reference import load
from advkit.files.errors import InputError
from advkit.tasks.classification import CLASSIFICATION, Classification
from advkit.tasks.detection import DETECTION
from advkit.tasks.sampling import hold_out, limited, sample, without_target


class EvenAndOdd(Classification):
    """Classes of one parity are one kind."""

    def strata(self, targets: Tensor) -> Tensor:
        return targets % 2


@pytest.mark.parametrize("limit", [0, -3])
def test_limits_that_leave_nothing(limit: int) -> None:
    with pytest.raises(InputError, match=f"--limit {limit}"):
        limited(CLASSIFICATION, load("digits"), limit, 0)


def test_a_limit_is_seeded_stratified_and_keeps_identities() -> None:
    whole = load("digits")
    some, same, other = (limited(CLASSIFICATION, whole, 100, seed) for seed in (1, 1, 2))
    assert len(some) == 100
    assert some.fingerprint == same.fingerprint != other.fingerprint
    assert torch.equal(some.batch(slice(None))[0], whole.batch(some.indices)[0])
    assert (torch.bincount(some.targets, minlength=10) - torch.bincount(whole.targets) / 5).abs().max() < 1
    for limit in (None, 10_000):
        assert limited(CLASSIFICATION, whole, limit, 1).fingerprint == whole.fingerprint


@pytest.mark.parametrize(
    "draw",
    [
        lambda task, data: limited(task, data, 100, 3).indices,
        lambda task, data: data.indices[sample(task, data, torch.arange(len(data)), 100, 3)],
        lambda task, data: data.indices[hold_out(task, data, 0.2, 3)[1]],
    ],
)
def test_the_task_says_what_is_kept_in_proportion(draw: Callable[[Classification, ImageSet], Tensor]) -> None:
    data = load("digits")
    by_class, by_parity = draw(CLASSIFICATION, data), draw(EvenAndOdd(), data)
    counts = [torch.bincount(data.targets[found], minlength=10).double() for found in (by_class, by_parity)]
    exact = torch.bincount(data.targets).double() / 5
    assert float((counts[0] - exact).abs().max()) < 1
    assert float((counts[1] - exact).abs().max()) > 1, "classes within a parity are drawn by chance"
    assert float((counts[1][::2].sum() - exact[::2].sum()).abs()) < 1


def test_images_of_the_target_itself_are_left_out() -> None:
    data = load("digits")
    assert without_target(CLASSIFICATION, data, 3).indices.tolist() == data.indices[data.targets != 3].tolist()
    for target in (None, "next", "random"):
        assert without_target(CLASSIFICATION, data, target) is data


def boxed(class_names: tuple[str, ...]) -> ImageSet:
    """Three images: one with an object, one with none, one with a difficult object alone."""
    box = [5.0, 5.0, 60.0, 70.0, 0.0]
    rows = [torch.tensor([[*box, 0.0]]), torch.empty(0, 6), torch.tensor([[*box, 1.0]])]
    every = torch.arange(3)
    return ImageSet(
        "boxed", "", class_names, (3, 96, 96), stacked(rows), every, every, lambda found: found, task="detection"
    )


@pytest.mark.parametrize("target", ["next", "random", 1])
def test_images_without_anything_to_aim_at_are_left_out(target: str | int) -> None:
    """Of an image without an object every aim is true already: it would count as a success of any attack."""
    assert without_target(DETECTION, boxed(("cat", "dog")), target).indices.tolist() == [0]


@pytest.mark.parametrize("target", ["next", "random", 0])
def test_of_one_class_nothing_is_left_to_aim_at(target: str | int) -> None:
    assert len(without_target(DETECTION, boxed(("person",)), target)) == 0
