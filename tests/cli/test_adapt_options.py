"""``adapt``: from options to settings."""

from __future__ import annotations

import typing
from pathlib import Path
from typing import Any

import pytest

from advkit.adaptation.params import RULES
from advkit.adaptation.registry import METHODS as METHODS_BY_NAME
from advkit.commands.adapt_config import AdaptConfig, check
from advkit.commands.adapt_setup import adaptation_params, adversarial_params
from advkit.files.errors import InputError


def test_the_options_of_a_mean_teacher_reach_it() -> None:
    asked = AdaptConfig(out=Path("x"), model="m", source="a", target="b", method="mean-teacher", teacher_ema=0.99)
    found = adaptation_params(asked)
    assert (found.teacher_ema, found.threshold, found.weight, found.method) == (0.99, 0.8, 1.0, "mean-teacher")
    usual = AdaptConfig(out=Path("x"), model="m", source="a", target="b", method="mean-teacher")
    assert adaptation_params(usual).teacher_ema == 0.9996
    other = AdaptConfig(out=Path("x"), model="m", source="a", target="b", method="self-training")
    assert adaptation_params(other).threshold == 0.9
    refused = AdaptConfig(
        out=Path("x.safetensors"), model="m", source="a", target="b", method="mean-teacher", ema=0.9,
        explicit=frozenset({"ema"}),
    )  # fmt: skip
    with pytest.raises(InputError, match="--ema: is a second average"):
        check(refused)


def test_every_method_and_rule_can_be_asked_for() -> None:
    hints = typing.get_type_hints(AdaptConfig)
    assert typing.get_args(hints["method"]) == tuple(METHODS_BY_NAME)
    assert typing.get_args(hints["select"]) == RULES


def test_what_the_attack_of_an_adaptation_raises_is_chosen() -> None:
    common: dict[str, Any] = {"out": Path("x"), "model": "m", "source": "a", "target": "b"}
    found = adversarial_params(AdaptConfig(**common, adversarial=True, eps="4/255", objective="mtd"))
    assert found is not None
    assert (found.method, found.objective) == ("fast", "mtd")
    assert (found.eps, found.step_size) == pytest.approx((4 / 255, 5 / 255))
    assert adversarial_params(AdaptConfig(**common)) is None
    assert adversarial_params(AdaptConfig(**common, adversarial=True, eps="0")) is None


def test_the_weight_has_a_default_for_each_method() -> None:
    common: dict[str, Any] = {"out": Path("x"), "model": "m", "source": "a", "target": "b"}
    for method, weight in (("none", 1.0), ("dann", 1.0), ("coral", 1000.0), ("local", 1.0)):
        assert adaptation_params(AdaptConfig(**common, method=method)).weight == weight
        assert adaptation_params(AdaptConfig(**common, method=method, weight=0.5)).weight == 0.5
