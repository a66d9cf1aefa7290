"""A transfer that noise of the same norm reaches as well is told as a doubt, for the headline of each pair."""

from __future__ import annotations

from typing import Any

from advkit.attacks.methods import parse_method
from advkit.attacks.params import AttackParams
from advkit.data import reference
from advkit.models.build import create
from advkit.reports.rates import Rate, rate
from advkit.reports.transfer_matrix import UNION, Pair, collect, flags
from advkit.tasks.classification import CLASSIFICATION
from advkit.tasks.sampling import limited
from advkit.transfer.matrix import Plan, measure


def pair(victim: str, method: str, cond: Rate, noise: Rate | None, surrogate: str = "R") -> Pair:
    same: dict[str, Any] = dict.fromkeys(("both", "raw", "same"), rate(1, 2))
    white = surrogate == victim
    return Pair(
        surrogate=surrogate, victim=victim, method=method, white_box=white, cond=cond, flipped=None, noise=noise, **same
    )


PAIRS = [
    pair("R", "pgd", rate(1, 40), rate(2, 40)),  # a white box
    pair("as-often", "pgd", rate(5, 40), rate(5, 40)),
    pair("less-often", "pgd", rate(5, 40), rate(4, 40)),
    pair("never", "pgd", rate(0, 40), rate(0, 40)),
    pair("no-images", "pgd", rate(0, 0), rate(0, 0)),
    pair("not-measured", "pgd", rate(5, 40), None),
    pair("only-one-method", "pgd", rate(5, 40), rate(6, 40)),
    pair("only-one-method", "mi", rate(9, 40), rate(5, 40)),
    pair("only-one-method", UNION, rate(9, 40), rate(7, 40)),
    pair("only-the-union", "pgd", rate(5, 40), rate(4, 40)),
    pair("only-the-union", "mi", rate(5, 40), rate(4, 40)),
    pair("only-the-union", UNION, rate(6, 40), rate(8, 40)),
]


def test_noise_that_fools_as_often_is_a_doubt_about_the_headline() -> None:
    data = limited(CLASSIFICATION, reference.load("digits"), 8, 0)
    networks = [create("advkit/cnn", num_classes=10, input_size=data.size, seed=seed).eval() for seed in (0, 1)]
    params = [AttackParams(parse_method("fgsm"), eps=0.1)]
    plan = Plan(["A", "B"], networks, networks, [0], params, None, False, 8, "cpu")
    found = measure(plan, data, lambda done: None)
    result = collect(plan, found, data, []).model_copy(update={"pairs": PAIRS})
    told = [flag for flag in flags(plan, data, found, result) if "noise" in flag]
    assert told == [f"R -> {name}: noise of the same norm fools as often" for name in ("as-often", "only-the-union")]
