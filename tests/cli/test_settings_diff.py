"""Differences between runs are said as options, with both values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from executable import load

from advkit.evolution.settings_diff import settings_diff

RESULTS = Path(__file__).parents[1] / "studies/evolution/results/E.json"


@pytest.fixture
def settings() -> dict[str, Any]:
    found: dict[str, Any] = load(RESULTS)["params"]
    return found


def altered(settings: dict[str, Any], **values: Any) -> dict[str, Any]:
    """A copy with values at dotted names, written with two underscores."""
    found = {name: dict(value) if isinstance(value, dict) else value for name, value in settings.items()}
    found["attacks"] = [dict(attack) for attack in settings["attacks"]]
    for name, value in values.items():
        *path, last = name.split("__")
        place: Any = found
        for part in path:
            place[part] = dict(place[part])
            place = place[part]
        place[last] = value
    return found


def test_nothing_differs_from_itself(settings: dict[str, Any]) -> None:
    assert settings_diff(settings, altered(settings)) == []


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"search__budget": 60}, ["--budget 40, not 60"]),
        ({"search__ageing": True}, ["no --ageing"]),
        ({"search__accuracy_floor": 0.5}, ["no --accuracy-floor"]),
        ({"search__limits__max_parameters": 10}, ["--max-parameters 2000000, not 10"]),
        ({"recipe__misalign__weight": 3.0}, ["--misalign-weight 1, not 3"]),
        ({"reference": "0" * 64}, ["another R"]),
        ({"search__seed": 2, "data": "0" * 64, "data_seed": 2, "mean": [0.1], "std": [0.2]}, ["--seed 1, not 2"]),
        ({"like": "0" * 64, "recipe__epochs": 7}, ["another --recipe-from"]),
        ({"recipe__momentum": 0.5}, ["recipe.momentum"]),
        ({"begin_with": []}, ["another --begin-with"]),
    ],
)
def test_a_change_is_said_as_its_option(settings: dict[str, Any], values: dict[str, Any], said: list[str]) -> None:
    assert settings_diff(settings, altered(settings, **values)) == said


def test_attacks_are_said_once_for_all_methods(settings: dict[str, Any]) -> None:
    other = altered(settings)
    for attack in other["attacks"]:
        attack["eps"] = 0.1
    assert settings_diff(settings, other) == ["--eps 0.0313725, not 0.1"]
    assert settings_diff(settings, altered(settings, attacks=settings["attacks"][:1])) == [
        "--method pgd and mi,di, not pgd"
    ]
