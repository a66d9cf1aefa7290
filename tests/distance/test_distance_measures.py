"""Kernel, sliced Wasserstein and proxy-A distances against direct sums, closed forms and definitions."""

from __future__ import annotations

import itertools

import pytest
import scipy.stats
import torch
from torch import Tensor

from advkit.distance.kernel import kernel, kernel_distance, permutation_test
from advkit.distance.measures import HEADLINE, MEASURES
from advkit.distance.proxy_a import proxy_a
from advkit.distance.sliced_wasserstein import sliced_wasserstein


def normal(n: int, d: int, seed: int, shift: float = 0.0) -> Tensor:
    return shift + torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_kernel_distance_is_the_mean_over_pairs_of_different_images() -> None:
    a, b = normal(4, 3, 0), normal(5, 3, 1, 0.5)

    def k(x: Tensor, y: Tensor) -> float:
        return float(x @ y / 3 + 1) ** 3

    def within(rows: Tensor) -> float:
        pairs = list(itertools.permutations(rows, 2))
        return sum(k(x, y) for x, y in pairs) / len(pairs)

    across = sum(k(x, y) for x, y in itertools.product(a, b)) / 20
    assert kernel_distance(a, b) == pytest.approx(within(a) + within(b) - 2 * across, rel=1e-12)


def test_the_kernel_distance_has_no_bias() -> None:
    values = torch.tensor([kernel_distance(normal(6, 4, 2 * k), normal(6, 4, 2 * k + 1)) for k in range(400)])
    assert abs(float(values.mean())) < 3 * float(values.std()) / 20
    assert (values < 0).sum() > 100


def test_p_values_are_uniform_where_nothing_differs() -> None:
    """Kolmogorov-Smirnov over 200 pairs of samples."""
    found = [permutation_test(normal(10, 3, 2 * k), normal(8, 3, 2 * k + 1), 199, seed=k)[1] for k in range(200)]
    assert scipy.stats.kstest(found, "uniform").pvalue > 0.05
    assert min(found) >= 1 / 200


def test_the_p_value_of_domains_apart_is_the_least_there_is() -> None:
    assert permutation_test(normal(20, 3, 0), normal(20, 3, 1, 2.0), 99, seed=0) == (0, 0.01)


def test_equal_features_are_as_far_apart_in_every_grouping() -> None:
    same = torch.ones(6, 3)
    assert permutation_test(same, same, 50, seed=0) == (50, 1.0)


def test_a_permutation_is_judged_by_the_distance_of_its_groups() -> None:
    """All groupings of six images, one by one."""
    a, b = normal(3, 2, 0), normal(3, 2, 1, 1.0)
    both, value = torch.cat([a, b]), kernel_distance(a, b)
    others = [
        kernel_distance(both[list(chosen)], both[[k for k in range(6) if k not in chosen]])
        for chosen in itertools.combinations(range(6), 3)
    ]
    share = sum(other >= value - 1e-9 for other in others) / len(others)
    reached, p_value = permutation_test(a, b, 4000, seed=0)
    assert reached / 4000 == pytest.approx(share, abs=0.03)
    assert p_value == (reached + 1) / 4001


def test_sliced_wasserstein_of_one_feature_matches_sorted_images() -> None:
    a, b = torch.tensor([[3.0], [0.0], [1.0]]), torch.tensor([[2.0], [2.0], [7.0]])
    assert sliced_wasserstein(a, b).value == pytest.approx((2**2 + 1**2 + 4**2) / 3)


def test_sliced_wasserstein_of_a_shift_is_its_part_along_each_direction() -> None:
    a = normal(30, 40, 0)
    shift = torch.zeros(40, dtype=torch.float64)
    shift[3] = 2.0
    values = [sliced_wasserstein(a, a + shift, seed).value for seed in range(20)]
    assert sum(values) / 20 == pytest.approx(4.0 / 40, rel=0.1), "over all directions, |shift|² / d"
    assert len(set(values)) == 20, "the directions are the seed's"


def test_sliced_wasserstein_asks_for_as_many_images() -> None:
    with pytest.raises(ValueError, match="as many"):
        sliced_wasserstein(normal(5, 3, 0), normal(6, 3, 1))


def test_proxy_a_of_domains_that_a_line_parts_is_two() -> None:
    found = proxy_a(normal(20, 3, 0), normal(20, 3, 1, 50.0))
    assert (found.value, found.errors, found.predictions) == (2.0, 0, 40)


def test_proxy_a_of_one_distribution_is_about_none() -> None:
    values = torch.tensor([proxy_a(normal(30, 5, 2 * k), normal(30, 5, 2 * k + 1)).value for k in range(60)])
    assert abs(float(values.mean())) < 0.15


def test_proxy_a_does_not_depend_on_the_units_of_the_features() -> None:
    a, b = normal(24, 6, 0), normal(24, 6, 1, 0.4)
    units = torch.tensor([1e-6, 1.0, 1e6, 3.0, 1.0, 40.0])
    assert proxy_a(a * units + 5, b * units + 5).errors == proxy_a(a, b).errors
    constant = torch.full((24, 1), 7.0)
    assert proxy_a(torch.cat([a, constant], 1), torch.cat([b, constant], 1)).value >= 0.3, "constant ones say nothing"


def test_proxy_a_is_of_images_that_the_classifier_did_not_see() -> None:
    """With more features than images a line parts any two sets that it is trained on."""
    values = [proxy_a(normal(12, 200, 2 * k), normal(12, 200, 2 * k + 1)).value for k in range(20)]
    assert abs(sum(values) / 20) < 0.3


@pytest.mark.parametrize("name", MEASURES)
def test_a_measure_is_symmetric_and_near_nothing_for_itself(name: str) -> None:
    a, b = normal(20, 5, 0), normal(20, 5, 1, 0.7)
    estimate = MEASURES[name].estimate
    there, back = estimate(a, b, 0), estimate(b, a, 0)
    assert there.value == pytest.approx(back.value, rel=1e-9)
    assert there.influence_a == pytest.approx(back.influence_b, rel=1e-6, abs=1e-9)
    assert there.value > estimate(a, a, 0).value
    if MEASURES[name].never_negative:
        assert 0 <= estimate(a, a, 0).value < 1e-9


@pytest.mark.parametrize("name", [name for name in MEASURES if name != "proxy_a"])  # whose folds are of places
def test_the_order_of_images_does_not_matter(name: str) -> None:
    a, b = normal(15, 5, 0), normal(15, 5, 1, 0.7)
    turned = torch.randperm(15, generator=torch.Generator().manual_seed(0))
    found, other = (MEASURES[name].estimate(one, b, 0) for one in (a, a[turned]))
    assert other.value == pytest.approx(found.value, rel=1e-9)
    assert other.influence_a == pytest.approx(found.influence_a[turned], rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize(("n", "d", "shift"), [(40, 10, 0.5), (24, 100, 0.3)])
def test_the_influence_tells_how_much_a_distance_varies(name: str, n: int, d: int, shift: float) -> None:
    """Its sum of squares against the variance over 60 pairs of samples; proxy-A's, whose classifiers vary too, less."""
    scale = torch.logspace(0, -1, d, dtype=torch.float64)
    values, said = [], []
    for k in range(60):
        one = MEASURES[name].estimate(normal(n, d, 2 * k) * scale, normal(n, d, 2 * k + 1, shift) * 1.2 * scale, 0)
        values.append(one.value)
        said.append(float(one.influence_a.square().sum() + one.influence_b.square().sum()) / n**2)
    ratio = (sum(said) / 60 / float(torch.tensor(values).var())) ** 0.5
    assert (0.55 if name == "proxy_a" else 0.75) < ratio < 1.5


def test_the_headline_is_one_of_the_measures_that_have_a_floor() -> None:
    assert MEASURES[HEADLINE].never_negative
    assert kernel(normal(4, 2, 0), normal(4, 2, 1)).errors is None


def test_proxy_a_by_features_and_by_images_is_the_same_classifier() -> None:
    """Ridge regression has two forms; features that repeat one another lead from one to the other."""
    a, b = normal(20, 6, 0), normal(20, 6, 1, 0.5)
    many_a, many_b = (torch.cat([one] * 10, 1) for one in (a, b))
    assert proxy_a(many_a, many_b).errors == proxy_a(a, b).errors
