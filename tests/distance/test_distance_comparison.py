"""Draws at one number of images, the floor, and intervals that cover what such draws give as often as they say."""

from __future__ import annotations

from dataclasses import asdict

import pytest
import torch
from torch import Tensor

from advkit.distance.comparison import SubsamplingPlan, compare, subsample_size
from advkit.distance.features import FeatureTable, content_hash, shared_images, write_features
from advkit.distance.measures import MEASURES
from advkit.files.errors import InputError
from advkit.metrics.intervals import wilson


def table(features: Tensor, name: str = "x", batch: int = 7) -> FeatureTable:
    parts = features.split(batch)
    return write_features(name, [([content_hash(row.numpy().tobytes()) for row in part], part) for part in parts])


def normal(n: int, d: int, seed: int, shift: float = 0.0) -> Tensor:
    return shift + torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_table_gives_back_the_features_in_an_order_of_their_own() -> None:
    features = normal(20, 3, 0)
    found = table(features)
    rows = found.rows(torch.arange(20))
    assert sorted(map(tuple, rows.tolist())) == sorted(map(tuple, features.tolist()))
    other = table(features.flip(0), batch=3)
    assert torch.equal(other.rows(torch.arange(20)), rows)
    assert torch.equal(found.rows(torch.tensor([5, 2])), rows[[5, 2]])
    assert (found.count, found.size, str(found.dtype)) == (20, 3, "float64")
    assert str(table(features.float()).dtype) == "float32"


def test_images_that_two_domains_share_are_counted() -> None:
    a, b = normal(9, 3, 0), normal(6, 3, 1)
    assert shared_images(table(a), table(torch.cat([a[:4], b]))) == 4
    assert shared_images(table(a), table(b)) == 0


def test_features_that_are_not_finite_are_named() -> None:
    for bad in (float("nan"), float("inf")):
        features = normal(9, 3, 0)
        features[8, 1] = bad
        with pytest.raises(InputError, match=r"^birds: the features of image 8 hold NaN or infinity"):
            table(features, "birds")


def test_a_domain_without_images_is_refused() -> None:
    with pytest.raises(InputError, match="birds: no images"):
        write_features("birds", [])


def test_n_is_what_half_of_the_source_and_every_target_have() -> None:
    def n(source: int, *targets: int, wanted: int | None = None) -> int:
        return subsample_size("abc"[: 1 + len(targets)], [source, *targets], wanted)

    assert n(60, 12) == 12
    assert n(60, 12, 60, wanted=5) == 5
    assert n(12, 60) == 6
    assert n(2500, 2500) == 1000
    assert n(2500, 2500, wanted=1200) == 1200
    with pytest.raises(InputError, match=r"--subsample 13: b has 12; at most 12"):
        n(60, 12, wanted=13)
    with pytest.raises(InputError, match=r"a has 12, and half of them are the floor's; at most 6"):
        n(12, 60, wanted=7)
    for count in (1, 3):
        with pytest.raises(InputError, match=rf"c has {count}: too few images; at least 8 of the source"):
            n(60, 12, count)
    with pytest.raises(InputError, match="a has 7, and half of them are the floor's: too few"):
        n(7, 60)


DRAWS = SubsamplingPlan(images=10, repeats=3, permutations=50, seed=0)


def test_the_order_of_images_changes_nothing_and_the_seed_does() -> None:
    a, b = normal(40, 4, 0), normal(15, 4, 1, 0.5)
    found = compare(table(a), [table(b)], DRAWS)
    again = compare(table(a.flip(0), batch=3), [table(b[torch.randperm(15)])], DRAWS)
    assert asdict(found) == asdict(again)
    other = compare(table(a), [table(b)], SubsamplingPlan(10, 3, 50, seed=1))
    assert all(found.floor[name].draws != other.floor[name].draws for name in ("frechet", "kernel"))


def test_a_target_does_not_depend_on_those_beside_it() -> None:
    a, b, c = table(normal(40, 4, 0)), table(normal(15, 4, 1, 0.5)), table(normal(15, 4, 2, 1.0))
    both = compare(a, [b, c], DRAWS)
    assert asdict(both.targets[0]) == asdict(compare(a, [b], DRAWS).targets[0])
    assert both.targets[1].by_measure["frechet"].value > both.targets[0].by_measure["frechet"].value


def test_values_are_means_of_draws_of_different_images() -> None:
    found = compare(table(normal(40, 4, 0)), [table(normal(30, 4, 1, 0.5))], DRAWS)
    for name, one in found.targets[0].by_measure.items():
        assert len(one.draws) == 3
        assert one.value == pytest.approx(sum(one.draws) / 3)
        assert one.interval[0] <= one.value <= one.interval[1]
        assert name == "proxy_a" or len(set(one.draws)) == 3
    counted = found.targets[0].by_measure["proxy_a"]
    assert counted.predictions == 60
    assert counted.value == pytest.approx(2 - 4 * (counted.errors or 0) / 60)
    low, high = wilson(round((counted.errors or 0) / 60 * 10), 10) or (0.0, 0.0)  # half of a draw's predictions
    assert counted.interval == pytest.approx((2 - 4 * high, 2 - 4 * low))


def test_the_floor_shrinks_with_n_and_a_ratio_is_over_it() -> None:
    source, target = table(normal(400, 8, 0)), table(normal(200, 8, 1, 0.4))
    floors, ratios = [], []
    for n in (10, 40, 160):
        found = compare(source, [target], SubsamplingPlan(n, 3, 10, 0))
        for name in ("frechet", "sliced_wasserstein"):
            one, floor = found.targets[0].by_measure[name], found.floor[name]
            assert one.ratio == pytest.approx(one.value / floor.value)
            assert one.ratio_interval is not None
            assert one.ratio_interval[0] < one.ratio < one.ratio_interval[1]
        floors.append(found.floor["frechet"].value)
        ratios.append(found.targets[0].by_measure["frechet"].ratio)
    assert floors[0] > 3 * floors[1] > 9 * floors[2] * 0.9
    assert ratios == sorted(ratios), "what differs stays, what chance adds goes"


def test_measures_that_are_none_on_average_have_no_ratio() -> None:
    found = compare(table(normal(40, 4, 0)), [table(normal(15, 4, 1, 0.5))], DRAWS).targets[0].by_measure
    assert [name for name, one in found.items() if one.ratio is None] == ["kernel", "proxy_a"]


def test_a_ratio_of_one_distribution_is_about_one() -> None:
    found = compare(table(normal(200, 6, 0)), [table(normal(100, 6, 1))], SubsamplingPlan(60, 5, 200, 0))
    one = found.targets[0].by_measure["frechet"]
    assert one.ratio == pytest.approx(1.0, abs=0.35)
    assert one.ratio_interval is not None
    assert one.ratio_interval[0] < 1 < one.ratio_interval[1]
    assert found.targets[0].p_value > 0.05


def test_features_without_any_difference_have_no_ratio() -> None:
    same = table(torch.ones(40, 3, dtype=torch.float64))
    found = compare(same, [same], DRAWS)
    assert found.floor["frechet"].value == 0
    assert found.targets[0].by_measure["frechet"].ratio is None
    assert found.targets[0].p_value == 1.0


def test_intervals_cover_what_such_draws_give_about_as_often_as_they_say() -> None:
    """80 experiments of 60 and 40 images; the truth is their mean, as no other number of images has it."""
    draws, found = SubsamplingPlan(30, 2, 1, 0), []
    for k in range(80):
        a, b = normal(60, 5, 2 * k), normal(40, 5, 2 * k + 1, 0.6)
        found.append(compare(table(a, batch=60), [table(b, batch=40)], draws).targets[0].by_measure)
    for name in MEASURES:
        truth = sum(one[name].value for one in found) / len(found)
        covered = sum(one[name].interval[0] <= truth <= one[name].interval[1] for one in found)
        assert covered >= 69, name
        widths = [one[name].interval[1] - one[name].interval[0] for one in found]
        spread = float(torch.tensor([one[name].value for one in found]).std())
        assert sum(widths) / 80 < 2 * 1.96 * spread * 1.6, f"{name}: intervals that are no wider than they need be"
