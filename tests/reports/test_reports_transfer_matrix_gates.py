"""A bound holds for the union of all methods where there is one: that is what an attacker would do."""

from __future__ import annotations

from typing import Any

import pytest

from advkit.reports.rates import Rate, rate
from advkit.reports.transfer_matrix import UNION, Pair, bounds, headline


def pair(surrogate: str, victim: str, method: str, cond: Rate) -> Pair:
    same: dict[str, Any] = dict.fromkeys(("both", "raw", "same"), rate(1, 2))
    white = surrogate == victim
    return Pair(
        surrogate=surrogate, victim=victim, method=method, white_box=white, cond=cond, flipped=None, noise=None, **same
    )


# Each method fools the victim on half of the images, and not on the same half.
PAIRS = [
    pair("R", "R", "pgd", rate(40, 40)),
    pair("R", "V", "pgd", rate(20, 40)),
    pair("R", "V", "mi", rate(18, 40)),
    pair("R", "V", UNION, rate(38, 40)),
    pair("S", "V", "pgd", rate(10, 40)),
]


@pytest.mark.parametrize("backwards", [False, True])
def test_gates_hold_the_union_to_the_bounds(backwards: bool) -> None:
    pairs = PAIRS[::-1] if backwards else PAIRS
    found = bounds(pairs, "cond", 0.6, 0.9)
    assert {(one.what, one.option): (one.value, one.passed) for one in found} == {
        ("T_cond R -> V (union)", "--fail-above"): (0.95, False),
        ("T_cond R -> V (union)", "--fail-below"): (0.95, True),
        ("T_cond S -> V (pgd)", "--fail-above"): (0.25, True),
        ("T_cond S -> V (pgd)", "--fail-below"): (0.25, False),
    }
    assert len(found) == 4


@pytest.mark.parametrize("backwards", [False, True])
def test_the_headline_of_several_methods_is_their_union(backwards: bool) -> None:
    told = {(one.surrogate, one.victim): one.method for one in headline(PAIRS[::-1] if backwards else PAIRS)}
    assert told == {("R", "R"): "pgd", ("R", "V"): UNION, ("S", "V"): "pgd"}
