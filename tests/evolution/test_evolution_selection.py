"""Selection: pymoo's results on random populations, hand cases, and what holds for any population."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advkit.evolution.selection import (
    crowding,
    fronts,
    hypervolume_2d,
    pareto,
    ranking,
    survivors,
    tournament,
    youngest,
)

INF = float("inf")


def population(seed: int, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Objectives and violations of 1 to 60 candidates: smooth, or on a coarse grid with many equal ones."""
    rng = np.random.default_rng(seed)
    count, aims = int(rng.integers(1, 61)), int(rng.integers(1, 4))
    values = rng.normal(size=(count, aims))
    if kind == "grid":
        values = np.round(2 * values) / 2
    elif kind == "copies":
        values = values[rng.integers(0, count, count) // 3]
    return values, np.where(rng.random(count) < 0.5, rng.random(count), -rng.random(count))


@pytest.mark.parametrize("kind", ["smooth", "grid", "copies"])
def test_fronts_and_crowding_are_those_of_pymoo(kind: str) -> None:
    from pymoo.operators.survival.rank_and_crowding.metrics import calc_crowding_distance
    from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

    for seed in range(80):
        values, _ = population(seed, kind)
        ours = fronts(values, np.zeros(len(values)))
        peers = NonDominatedSorting().do(values)
        assert [front.tolist() for front in ours] == [sorted(front) for front in peers], seed
        for front in ours:
            if len(front) > 2 and (np.ptp(values[front], axis=0) > 0).all():
                mean = calc_crowding_distance(values[front])  # pymoo divides the sum by the number of objectives
                np.testing.assert_allclose(crowding(values[front]), mean * values.shape[1])


@pytest.mark.parametrize("kind", ["smooth", "grid", "copies"])
@pytest.mark.parametrize("constrained", [False, True])
def test_survivors_are_those_of_pymoo(kind: str, constrained: bool) -> None:
    """Up to the order of ties, which pymoo shuffles: the survivors' fronts, crowding distances and violations."""
    from pymoo.core.population import Population
    from pymoo.core.problem import Problem
    from pymoo.operators.survival.rank_and_crowding import RankAndCrowding

    for seed in range(50):
        values, misses = population(seed, kind)
        misses = np.maximum(misses, 0) if constrained else np.zeros(len(misses))
        problem = Problem(n_var=1, n_obj=values.shape[1], n_ieq_constr=int(constrained))
        people = Population.new("X", np.arange(float(len(values)))[:, None])
        people.set("F", values)
        people.set("G", misses[:, None] if constrained else np.zeros((len(values), 0)))
        count = seed % len(values) + 1
        peers = RankAndCrowding().do(problem, people, n_survive=count, random_state=np.random.default_rng(seed))
        ranks, spread = ranking(values, misses)
        for front in fronts(values, misses):  # pymoo: a front of two has ends only, even a flat one
            spread[front] = spread[front] if len(front) > 2 and (np.ptp(values[front], axis=0) > 0).all() else 0
        places = np.column_stack([ranks, spread, misses]).round(9).tolist()
        assert sorted(places[i] for i in survivors(values, misses, count)) == sorted(
            places[int(i)] for i in peers.get("X")[:, 0]
        ), seed


def test_hypervolume_is_that_of_pymoo() -> None:
    from pymoo.indicators.hv import HV

    for seed in range(100):
        rng = np.random.default_rng(seed)
        values = rng.random((seed % 30 + 1, 2)).round(1 + seed % 3)
        corner = np.array([0.8, 0.9])
        assert hypervolume_2d(values, corner) == pytest.approx(HV(ref_point=corner)(values), abs=1e-12)


def test_hand_made_fronts_under_constraints() -> None:
    values = [[1, 4], [2, 3], [2, 4], [0, 0], [0, 0], [9, 9], [INF, INF], [0, 9]]
    misses = [0, -1, 0, 0.2, 0.1, 0.1, 0, 0.2]
    found = [front.tolist() for front in fronts(values, misses)]
    assert found == [[0, 1], [2], [4], [5], [3], [7], [6]]
    assert survivors(values, misses, 4).tolist() == [0, 1, 2, 4]
    assert pareto(values, misses).tolist() == [0, 1]
    assert pareto(values[3:], misses[3:]).tolist() == [1]
    assert pareto([[3, 1], [1, 3], [1, 3], [2, 2]], [0] * 4).tolist() == [1, 2, 3, 0]


def test_the_most_crowded_of_the_split_front_goes() -> None:
    front = [[0, 10], [4, 6], [5, 5], [5.5, 4.5], [10, 0]]
    assert crowding(front).tolist() == pytest.approx([INF, 1.0, 0.3, 1.0, INF])
    assert survivors(front, [0] * 5, 4).tolist() == [0, 1, 3, 4]
    assert survivors(front, [0] * 5, 3).tolist() == [0, 1, 4]  # a tie: the position decides
    assert survivors(front, [0] * 5, 0).tolist() == []
    assert survivors(front, [0] * 5, 9).tolist() == [0, 1, 2, 3, 4]


def test_crowding_of_flat_fronts_is_no_nan() -> None:
    assert crowding([[1, 1]] * 4).tolist() == [0, 0, 0, 0]
    assert crowding([[1, 7], [2, 7], [3, 7]]).tolist() == [INF, 1, INF]  # the flat objective adds nothing
    assert crowding([[1, 2]]).tolist() == [0]
    assert crowding(np.zeros((0, 2))).tolist() == []
    assert crowding([[INF, INF], [0, 1], [1, 0], [0.5, 0.5]]).tolist() == [0, INF, INF, 2]


@pytest.mark.parametrize("misses", [[0, 0, 0, 0], [3, 0, 0, INF]])
def test_failed_candidates_are_last_whatever_their_violation(misses: list[float]) -> None:
    values = [[5, 5], [INF, INF], [INF, 1], [9, 9]]
    order = survivors(values, misses, 4)
    assert order.tolist() == [0, 3, 2, 1]
    ranks, spread = ranking(values, misses)
    assert ranks.tolist() == [0, 3, 2, 1]
    assert not np.isnan(spread).any()
    assert pareto([[INF, INF], [INF, INF]], [0, 0]).tolist() == []
    assert hypervolume_2d([[INF, INF], [0, 0]], (1, 2)) == 2


def test_hypervolume_by_hand() -> None:
    assert hypervolume_2d([[1, 3], [2, 2], [3, 1], [3, 3]], (4, 4)) == 3 + 2 + 1
    assert hypervolume_2d([[4, 0], [0, 5]], (4, 4)) == 0
    assert hypervolume_2d(np.zeros((0, 2)), (4, 4)) == 0


def test_the_oldest_die() -> None:
    assert youngest([5, 1, 9, 3], 2).tolist() == [0, 2]
    assert youngest([1, 1, 1], 2).tolist() == [1, 2]
    assert youngest([1, 2, 3], 4).tolist() == [0, 1, 2]
    assert youngest([1, 2], 0).tolist() == []


def test_tournaments_press_for_the_best_and_favour_no_position() -> None:
    ranks, spread = [2, 0, 1, 0, INF], [1, 2, INF, 2, 0]
    rng = np.random.default_rng(1)
    assert set(tournament(rng, ranks, spread, 5, 200)) == {1, 3}
    counts = np.bincount(tournament(rng, ranks, spread, 5, 4000), minlength=5)
    assert abs(counts[1] - 2000) < 150  # five standard deviations
    pairs = np.bincount(tournament(rng, ranks, spread, 2, 10_000), minlength=5) / 10_000
    # Of the 10 pairs the last wins none, the first one, the third two; the two equal ones share the other seven.
    np.testing.assert_allclose(pairs, [0.1, 0.35, 0.2, 0.35, 0], atol=0.025)
    assert set(tournament(rng, [0, 0], [1, 2], 2, 50)) == {1}  # crowding decides, the larger wins
    assert set(tournament(rng, [0, 0], None, 2, 50)) == {0, 1}
    evenly = np.bincount(tournament(rng, ranks, spread, 1, 10_000), minlength=5) / 10_000
    np.testing.assert_allclose(evenly, 0.2, atol=0.02)
    assert tournament(rng, ranks, spread, 2, 0).tolist() == []
    assert tournament(rng, [7], None, 3, 2).tolist() == [0, 0]
    again = [tournament(np.random.default_rng(3), ranks, spread, 2, 9).tolist() for _ in range(2)]
    assert again[0] == again[1]


numbers = st.one_of(st.integers(0, 4).map(float), st.floats(-1e6, 1e6), st.just(INF))
rows = st.integers(1, 3).flatmap(
    lambda aims: st.lists(st.tuples(st.lists(numbers, min_size=aims, max_size=aims), st.sampled_from([-1, 0, 1, 2])))
)


@settings(max_examples=300, deadline=None)
@given(rows, st.integers(0, 30), st.randoms(use_true_random=False))
def test_what_holds_for_any_population(people: list, count: int, random) -> None:
    values = np.array([row for row, _ in people]).reshape(len(people), -1 if people else 2)
    misses = np.array([miss for _, miss in people], dtype=float)
    sorted_fronts = fronts(values, misses)
    assert sorted(np.concatenate([*sorted_fronts, np.zeros(0, int)])) == list(range(len(people)))
    kept = survivors(values, misses, count)
    dropped = sorted(set(range(len(people))) - set(kept.tolist()))
    assert len(set(kept.tolist())) == len(kept) == min(count, len(people))
    ranks, spread = ranking(values, misses)
    assert not np.isnan(spread).any()
    if dropped and len(kept):
        assert ranks[kept].max() <= ranks[dropped].min()  # no survivor stands behind anyone who was dropped
    for front in sorted_fronts:
        beaten = [beats(people[i], people[j]) for i in front for j in front]
        assert not any(beaten)
    for better, worse in itertools.pairwise(sorted_fronts):
        assert all(any(beats(people[i], people[j]) for i in better) for j in worse)

    shuffled = list(range(len(people)))
    random.shuffle(shuffled)
    moved_ranks, _ = ranking(values[shuffled], misses[shuffled])
    assert moved_ranks.tolist() == ranks[shuffled].tolist()
    moved = survivors(values[shuffled], misses[shuffled], count)
    assert sorted(ranks[kept]) == sorted(moved_ranks[moved])


def beats(one: tuple[list[float], int], other: tuple[list[float], int]) -> bool:
    """Constrained domination, word by word."""
    (a, a_miss), (b, b_miss) = one, other
    if (INF in a) != (INF in b):
        return INF in b
    if max(a_miss, 0) != max(b_miss, 0):
        return max(a_miss, 0) < max(b_miss, 0)
    return a != b and all(x <= y for x, y in zip(a, b, strict=True))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=25, unique=True), st.randoms())
def test_distinct_candidates_survive_wherever_they_stand(points: list, random) -> None:
    values = np.array(points)
    if any(len(set(column)) < len(column) for column in values.T):
        return
    shuffled = list(range(len(points)))
    random.shuffle(shuffled)
    ranks, spread = ranking(values, np.zeros(len(values)))
    order = np.lexsort((-spread, ranks))
    count = len(points) // 2
    last, next_ = order[max(count - 1, 0)], order[count]
    if ranks[last] != ranks[next_] or spread[last] > spread[next_] + 1e-9:  # else a tie, which position decides
        kept = {points[i] for i in survivors(values, np.zeros(len(values)), count)}
        assert kept == {points[shuffled[i]] for i in survivors(values[shuffled], np.zeros(len(values)), count)}
        assert kept == {points[i] for i in order[:count]}
    volume = hypervolume_2d(values, (2, 2))
    assert volume == pytest.approx(hypervolume_2d(values[shuffled], (2, 2)))
    assert volume == pytest.approx(hypervolume_2d(values[pareto(values, np.zeros(len(values)))], (2, 2)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fronts([[0.0, float("nan")]], [0]), "NaN"),
        (lambda: fronts([[0.0, -INF]], [0]), "NaN or −inf"),
        (lambda: fronts([[0.0, 1.0]], [float("nan")]), "NaN"),
        (lambda: fronts([[0.0, 1.0]], [0, 0]), r"are not \(N, M\) and \(N\)"),
        (lambda: crowding([0.0, 1.0]), r"are not \(N, M\)"),
        (lambda: survivors([[0.0]], [0], -1), "count is -1; it is at least 0"),
        (lambda: youngest([0, 1], -1), "count is -1"),
        (lambda: youngest([0, float("nan")], 1), "births"),
        (lambda: hypervolume_2d([[0.0, 1.0, 2.0]], (1, 1)), r"not \(N, 2\)"),
        (lambda: hypervolume_2d([[0.0, 1.0]], (1, INF)), "2 finite numbers"),
        (lambda: tournament(np.random.default_rng(0), [], None, 2, 1), "above 0"),
        (lambda: tournament(np.random.default_rng(0), [0, 1], [0], 2, 1), "above 0"),
        (lambda: tournament(np.random.default_rng(0), [0, 1], None, 0, 1), "size is 0; it is at least 1"),
        (lambda: tournament(np.random.default_rng(0), [0, 1], None, 2, -1), "draws is -1"),
        (lambda: tournament(np.random.default_rng(0), [float("nan")], None, 2, 1), "NaN"),
    ],
)
def test_what_cannot_be_sorted_is_said(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
