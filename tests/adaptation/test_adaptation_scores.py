"""Scores of unlabelled predictions against closed forms, and which epoch they choose."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from advkit.adaptation.params import RULES
from advkit.adaptation.scores import TEMPERATURE, mutual_information, neighbourhood_density, nuclear_norm
from advkit.adaptation.selection import TargetSelection
from advkit.data.images import ImageSet


def test_information_is_that_of_image_about_class() -> None:
    sure = torch.eye(2).repeat(3, 1)
    assert mutual_information(sure, True) == pytest.approx(math.log(2))
    assert mutual_information(torch.tensor([[1.0, 0.0]] * 4), True) == pytest.approx(0.0), "one class alone"
    assert mutual_information(torch.full((4, 2), 0.5), True) == pytest.approx(0.0), "torn"
    p = torch.tensor([[0.9, 0.1], [0.4, 0.6]])
    entropies = [-sum(v * math.log(v) for v in row) for row in ([0.65, 0.35], [0.9, 0.1], [0.4, 0.6])]
    assert mutual_information(p, True) == pytest.approx(entropies[0] - (entropies[1] + entropies[2]) / 2)


def test_information_of_yes_and_no_adds_up_over_classes() -> None:
    p = torch.tensor([[1.0, 1.0, 0.5], [0.0, 1.0, 0.5]])
    assert mutual_information(p, False) == pytest.approx(math.log(2)), (
        "the first class tells the images apart, no other does"
    )


def test_density_is_the_entropy_of_soft_neighbourhoods() -> None:
    assert neighbourhood_density(torch.eye(3)[:1]) == 0.0
    assert neighbourhood_density(torch.eye(2)) == pytest.approx(0.0, abs=1e-12), "one neighbour each"
    assert neighbourhood_density(torch.tensor([[0.5, 0.5]] * 5)) == pytest.approx(math.log(4))
    # a, a, b with a orthogonal to b: an a is near the other, b as near to both
    near = 1 / (1 + math.exp(-1 / TEMPERATURE))
    of_a = -(near * math.log(near) + (1 - near) * math.log(1 - near))
    rows = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert neighbourhood_density(rows) == pytest.approx((2 * of_a + math.log(2)) / 3)


def test_density_does_not_depend_on_its_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = torch.rand(11, 4, generator=torch.Generator().manual_seed(0)).softmax(1)
    whole = neighbourhood_density(rows)
    monkeypatch.setattr("advkit.adaptation.scores._ROWS", 3)
    assert neighbourhood_density(rows) == pytest.approx(whole, rel=1e-12)


def test_the_nuclear_norm_sums_singular_values() -> None:
    assert nuclear_norm(torch.eye(3)) == pytest.approx(1.0)
    assert nuclear_norm(torch.tensor([[1.0, 0.0, 0.0]] * 3)) == pytest.approx(math.sqrt(3) / 3)


HISTORY: list[dict[str, Any]] = [
    {"im": 0.1, "snd": 3.0, "bnm": 0.2, "validation_right": 9, "validation_images": 10},
    {"im": 0.4, "snd": 1.0, "bnm": 0.1, "validation_right": 5, "validation_images": 10},
    {"im": 0.4, "snd": 3.0, "bnm": 0.9, "validation_right": 6, "validation_images": 10},
]
BEST = {"last": None, "source-val": 1, "im": 2, "snd": 1, "bnm": 3, "oracle": 2}


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_keeps_the_first_of_its_best_epochs(rule: str) -> None:
    oracle = [3, 8, 7]
    history = [
        record | {"epoch": k + 1, "oracle_right": oracle[k], "oracle_images": 10} for k, record in enumerate(HISTORY)
    ]
    zeros = torch.zeros(1, dtype=torch.int64)
    images = ImageSet("x", "", (), (1, 1, 1), zeros, zeros, zeros, lambda rows: torch.zeros(len(rows), 1, 1, 1))
    selection = TargetSelection(rule, images, None, 0)
    assert selection.best_epoch(history) == BEST[rule]
    assert selection.best_epoch([]) is None


def test_a_detector_is_chosen_by_its_precision() -> None:
    zeros = torch.zeros(1, dtype=torch.int64)
    images = ImageSet("x", "", (), (1, 1, 1), zeros, zeros, zeros, lambda rows: torch.zeros(len(rows), 1, 1, 1))
    history = [
        {"epoch": 1, "validation_right": 9, "validation_images": 10, "validation_map50": 0.2},
        {"epoch": 2, "validation_right": 1, "validation_images": 10, "validation_map50": 0.6},
    ]
    assert TargetSelection("source-val", images, None, 0).best_epoch(history) == 2
