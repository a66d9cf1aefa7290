"""A transfer that noise of the same norm reaches as well is told as a doubt, for the headline of each pair."""

from __future__ import annotations

from typing import Any

from advkit.attacks.methods import parse_method
from advkit.attacks.params import AttackParams
from advkit.data import reference
from advkit.models.build import create
from advkit.reports.rates import Rate, rate
from advkit.reports.transfer_matrix import UNION, Pair, collect, flags, stronger_transfers
from advkit.tasks.classification import CLASSIFICATION
from advkit.tasks.sampling import limited
from advkit.transfer.matrix import Plan, measure


def pair(
    victim: str, method: str, cond: Rate, noise: Rate | None, surrogate: str = "R", raw: Rate = rate(1, 2)
) -> Pair:
    same: dict[str, Any] = {"both": rate(1, 2), "raw": raw, "same": rate(1, 2)}
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


def fooled(surrogate: str, victim: str, count: int, method: str = "pgd", total: int = 2000) -> Pair:
    return pair(victim, method, rate(1, 2), None, surrogate, rate(count, total))


def test_transfer_that_beats_the_white_box_by_a_fifth_of_a_point_and_one_image_is_a_doubt() -> None:
    pairs = [
        fooled("V", "V", 100),
        fooled("at", "V", 104),
        fooled("over", "V", 105),
        fooled("set", "V", 500),  # made before, with another budget
        fooled("V", "at", 500),  # which was not attacked by itself
    ]
    assert stronger_transfers(pairs, ["V", "at", "over"]) == [
        "V: over's examples fool it on 105 of 2000 images, those made on itself on 100: its gradients may be masked"
    ]
    few = [fooled("V", "V", 5, total=40), fooled("at", "V", 6, total=40), fooled("over", "V", 7, total=40)]
    assert [flag.split("'")[0] for flag in stronger_transfers(few, ["V", "at", "over"])] == ["V: over"]
    several = [
        *(fooled("V", "V", count, method) for method, count in (("pgd", 10), ("mi", 90), (UNION, 95))),
        *(fooled("R", "V", count, method) for method, count in (("pgd", 90), ("mi", 20), (UNION, 95))),
    ]
    assert stronger_transfers(several, ["R", "V"]) == []
