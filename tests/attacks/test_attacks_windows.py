"""How images are divided for attacks: all of them, in order, evenly over processes, no window beyond its room."""

from __future__ import annotations

import pytest
import torch

from advkit.attacks import dataset
from advkit.attacks.methods import parse_method
from advkit.attacks.params import AttackParams
from advkit.data.images import ImageSet
from advkit.tasks.classification import CLASSIFICATION
from advkit.tasks.detection import DETECTION
from advkit.tasks.task import Task


def lengths(
    count: int, batch_size: int, shares: int, goal: str = "robustness", task: Task = CLASSIFICATION
) -> list[int]:
    """Of the windows over ``count`` images of 64 pixels."""
    rows = torch.arange(count)
    data = ImageSet("x", "", ("a", "b"), (1, 8, 8), rows % 2, rows, rows, lambda at: torch.zeros(len(at), 1, 8, 8))
    params = AttackParams(parse_method("pgd"), eps=0.1, goal=goal)  # type: ignore[arg-type]
    found = dataset.windows(data, params, task, batch_size, shares)
    assert [row for window in found for row in range(window.start, window.stop)] == list(range(count))
    return [window.stop - window.start for window in found]


def test_batch_by_batch_where_no_image_leaves() -> None:
    assert lengths(10, 4, 1, goal="transfer") == [4, 4, 2]
    assert lengths(10, 4, 3, goal="transfer") == [4, 4, 2]
    assert lengths(10, 4, 3, task=DETECTION) == [4, 4, 2]


@pytest.mark.parametrize(
    ("count", "shares", "expected"),
    [
        (20, 1, [12, 8]),
        (10, 1, [10]),
        (24, 2, [12, 12]),
        (10, 2, [8, 2]),  # three batches: two and one
        (26, 2, [8, 8, 8, 2]),  # too many for two windows of three batches: four of two
        (9, 5, [4, 4, 1]),
    ],
)
def test_windows_of_several_batches_are_shared_evenly(
    count: int, shares: int, expected: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset, "_WINDOW", 14 * 64 * 4)  # three batches of four, and not quite a fourth
    assert lengths(count, 4, shares) == expected
