"""The search on problems whose answers are known, without a network in sight."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from advkit.evolution import search
from advkit.evolution.offspring import Proposal, Space
from advkit.evolution.params import SearchParams, seed_of
from advkit.evolution.variation import random_genome
from advkit.models.genome.genes import Genome, active_nodes

SPACE = Space(10, (3, 32, 32))
PARAMS = SearchParams(budget=64, population=8, offspring=8, rungs=1)


def record(correct: int, fooled: int, total: int = 1000) -> dict[str, Any]:
    return {"error": None, "validation": [correct, 1000], "cond": [fooled, total]}


def planted(genome: Genome) -> float:
    """How much of a hidden architecture ``genome`` has, in [0, 1]: a 7x7 stem, SiLU, grouped and wide, no skip."""
    active = active_nodes(genome)
    points = [genome.stem.kind == "conv7s2", genome.stem.activation == "silu", genome.head.pool == "both"]
    points += [len(active) == 3, bool(active)]
    for node in active[:3]:
        points += [node.op == "grouped", node.channels == 96, node.skip == "none", node.activation == "silu"]
    return sum(points) / 17


def by_plant(children: Sequence[Proposal], rung: int, generation: int) -> list[dict[str, Any]]:
    return [record(900, round(1000 * (1 - planted(child.genome)))) for child in children]


def best(result: search.Result) -> float:
    return max(planted(member.child.genome) for member in result.members)


def run(params: SearchParams, measure: Callable[..., Any] = by_plant, floors: Any = None) -> search.Result:
    return search.run(params, SPACE, (), floors or [None] * params.rungs, measure)


@pytest.mark.slow
def test_evolution_beats_random_search_on_a_planted_problem_at_the_same_budget() -> None:
    params = replace(PARAMS, budget=240)
    evolved, random = [], []
    for seed in range(10):
        results = [run(replace(params, search=kind, seed=seed)) for kind in ("evolution", "random")]
        assert results[0].trainings == results[1].trainings == [240]
        evolved.append(best(results[0]))
        random.append(best(results[1]))
    assert sum(a > b for a, b in zip(evolved, random, strict=True)) >= 9
    assert sum(evolved) / 10 > sum(random) / 10 + 0.1


def test_selection_that_looks_the_wrong_way_finds_less() -> None:
    """The oracle above can fail: turned round, the same search is no better than chance."""

    def wrong(children: Sequence[Proposal], rung: int, generation: int) -> list[dict[str, Any]]:
        return [record(900, round(1000 * planted(child.genome))) for child in children]

    params = replace(PARAMS, budget=160)
    assert best(run(params, wrong)) < best(run(params)) - 0.2


@pytest.mark.parametrize("change", [{}, {"ageing": True}, {"objective": "scalar"}, {"search": "random"}])
def test_the_same_seed_proposes_the_same_and_another_something_else(change: dict[str, Any]) -> None:
    params = replace(PARAMS, **change)

    def ids(seed: int) -> list[str]:
        return [member.child.id for member in run(replace(params, seed=seed)).members]

    assert ids(1) == ids(1)
    assert len(set(ids(1))) == 64, "nothing is trained twice"
    assert set(ids(1)) != set(ids(2))


def member(name: str, correct: int, fooled: int, generation: int = 0) -> search.Individual:
    """Candidate ``name``: a graph of its own, so that children tell their parents."""
    genome = random_genome(np.random.default_rng(sum(map(ord, name))))
    return search.Individual(Proposal(name, genome), record(correct, fooled), generation)


@pytest.mark.parametrize(
    ("members", "floor", "loser"),
    [
        ([("a", 900, 100), ("b", 800, 200), ("c", 700, 300), ("d", 600, 400)], None, "d"),  # four fronts
        ([("a", 900, 400), ("b", 700, 310), ("c", 690, 300), ("d", 500, 100)], None, "b"),  # one front: b is crowded
        ([("a", 900, 400), ("b", 890, 410), ("c", 880, 420), ("d", 100, 1)], 0.5, "d"),  # T_cond below the floor
        ([("a", 900, 400), ("b", 400, 100), ("c", 300, 90), ("d", 200, 80)], 0.5, "d"),  # all but a miss it, d most
    ],
)
def test_the_worst_of_the_population_never_breeds(
    members: list[tuple[str, int, int]], floor: float | None, loser: str
) -> None:
    """Of two different contestants the better one does."""
    found = search.Result(members=[member(*one) for one in members], population=[0, 1, 2, 3])
    params = replace(PARAMS, offspring=200)
    children = search._propose(params, SPACE, (), floor, found, set(), 1)
    parents = [name for child in children for name in child.parents]
    assert len(parents) > 200
    assert set(parents) == set("abcd") - {loser}


def test_objectives_are_transfer_and_accuracy_and_violations_what_is_missing() -> None:
    records = [record(900, 200), record(600, 100), {"error": "no"}]
    values, misses = search.objectives(records, PARAMS, 0.8)
    assert values.tolist() == [[0.2, -0.9], [0.1, -0.6], [float("inf")] * 2]
    assert misses.tolist() == pytest.approx([0.0, 0.2, 0.8])
    scalar = search.objectives(records, replace(PARAMS, objective="scalar"), None)
    assert scalar[0][:2, 0].tolist() == pytest.approx([-0.7, -0.5])
    assert not scalar[1].any()


def test_of_those_that_miss_the_floor_the_nearest_stay() -> None:
    """However little the others transfer."""
    rights = [100, 200, 300, 400, 500, 600, 650, 660]

    def measure(children: Sequence[Proposal], rung: int, generation: int) -> list[dict[str, Any]]:
        return [record(correct, correct) for correct in rights]

    params = replace(PARAMS, population=2, budget=8)
    result = run(params, measure, [0.9])
    assert [result.members[place].accuracy for place in result.population] == [0.65, 0.66]
    assert [one.accuracy for one in search.finalists(result, params, 0.9, 2)] == [0.66, 0.65]


def test_of_equal_finalists_the_more_accurate() -> None:
    found = search.Result(members=[member("a", 700, 100), member("b", 900, 100), member("c", 800, 100)])
    assert [one.child.id for one in search.finalists(found, PARAMS, None, 2)] == ["b", "c"]


def test_the_front_holds_all_that_nothing_beats() -> None:
    found = search.Result(
        members=[member("a", 700, 100), member("b", 900, 300), member("c", 800, 200), member("d", 800, 201)]
    )
    front = search.front(found, PARAMS, None)
    assert [one.child.id for one in front] == ["a", "c", "b"]
    records = [one.record for one in front]
    assert search.hypervolume(records) == pytest.approx(0.7 * 0.9 + 0.1 * 0.8 + 0.1 * 0.7)
    assert search.hypervolume([]) == 0.0


def test_rungs_cost_what_they_say_and_drop_the_hopeless() -> None:
    params = replace(PARAMS, offspring=9, rungs=3, budget=9)
    assert [params.rung_size(rung) for rung in range(3)] == [9, 3, 1]
    assert [params.rung_fraction(rung) for rung in range(3)] == pytest.approx([1 / 9, 1 / 3, 1.0])
    assert params.generation_cost == pytest.approx(3.0)
    assert params.generations == 3
    asked: list[tuple[int, list[float]]] = []

    def measure(children: Sequence[Proposal], rung: int, generation: int) -> list[dict[str, Any]]:
        asked.append((rung, [planted(child.genome) for child in children]))
        return by_plant(children, rung, generation)

    result = run(params, measure)
    assert result.trainings == [27, 9, 3]
    for first, second, third in zip(asked[0::3], asked[1::3], asked[2::3], strict=True):
        assert [first[0], second[0], third[0]] == [0, 1, 2]
        assert sorted(second[1]) == sorted(first[1])[-3:]
        assert third[1] == [max(second[1])]


@pytest.mark.parametrize(("floors", "survivor"), [((None, 0.8), 0), ((0.5, 0.8), 1), ((0.8, 0.8), 2)])
def test_each_rung_drops_by_its_own_floor(floors: tuple[float | None, float], survivor: int) -> None:
    """Scores T_cond - accuracy of -0.48, -0.4 and -0.3: the better, the less accurate."""
    known = [record(480, 0), record(600, 200), record(900, 600)]
    first: list[str] = []
    went_on: list[str] = []

    def measure(children: Sequence[Proposal], rung: int, generation: int) -> list[dict[str, Any]]:
        (went_on if rung else first).extend(child.id for child in children)
        return known if not rung else [record(900, 100) for _ in children]

    run(SearchParams(budget=1, offspring=3, population=2, rungs=2, objective="scalar"), measure, list(floors))
    assert went_on == [first[survivor]]


def test_one_in_three_goes_on_rounded_up() -> None:
    params = SearchParams(offspring=12, rungs=3)
    assert [params.rung_size(rung) for rung in range(3)] == [12, 4, 2]
    assert [params.rung_fraction(rung) for rung in range(3)] == pytest.approx([1 / 9, 1 / 3, 1])


def test_the_floor_rules_out_what_transfers_little_because_it_knows_little() -> None:
    def measure(children: Sequence[Proposal], rung: int, generation: int) -> list[dict[str, Any]]:
        return [record(100, 0) if planted(c.genome) < 0.3 else record(800, 400) for c in children]

    with_floor, without = run(PARAMS, measure, [0.7]), run(PARAMS, measure)
    chosen = search.finalists(with_floor, PARAMS, 0.7, 3)
    assert all(member.accuracy == 0.8 for member in chosen)
    assert all(member.accuracy == 0.8 for member in search.front(with_floor, PARAMS, 0.7))
    assert search.finalists(without, PARAMS, None, 1)[0].accuracy == 0.1
    population = [with_floor.members[place].accuracy for place in with_floor.population]
    assert population.count(0.8) > len(population) / 2


def test_failures_rank_last_and_are_counted() -> None:
    def measure(children: Sequence[Proposal], rung: int, generation: int) -> list[dict[str, Any]]:
        failed = {"error": "timed out after 1 s"}
        return [failed if k % 2 else record(900, 100 * k) for k, _ in enumerate(children)]

    result = run(PARAMS, measure)
    assert result.failed == 32
    assert len(result.members) == 32
    two = replace(PARAMS, rungs=2, offspring=9, budget=60)
    asked: list[int] = []

    def first_rung(children: Sequence[Proposal], rung: int, generation: int) -> list[dict[str, Any]]:
        asked.append(len(children))
        return [{"error": "worker died"} if rung == 0 and k < 6 else record(900, k) for k, _ in enumerate(children)]

    assert run(two, first_rung).failed == 6 * two.generations
    assert set(asked) == {9, 3}


def test_when_everything_fails_there_is_a_result_all_the_same() -> None:
    result = run(PARAMS, lambda children, rung, generation: [{"error": "no"} for _ in children])
    assert result.members == []
    assert search.front(result, PARAMS, None) == []
    assert search.finalists(result, PARAMS, None, 2) == []


def test_ageing_lets_the_oldest_go() -> None:
    def good_only_at_first(children: Sequence[Proposal], rung: int, generation: int) -> list[dict[str, Any]]:
        return [record(900, 100 if generation == 0 else 800) for _ in children]

    kept, youngest = (run(replace(PARAMS, ageing=old), good_only_at_first) for old in (False, True))
    assert {kept.members[place].generation for place in kept.population} == {0}
    assert {youngest.members[place].generation for place in youngest.population} == {PARAMS.generations - 1}


def test_the_front_is_sorted_and_undominated() -> None:
    def measure(children: Sequence[Proposal], rung: int, generation: int) -> list[dict[str, Any]]:
        return [record(500 + (37 * k + 11 * generation) % 400, (53 * k + 7) % 300) for k, _ in enumerate(children)]

    result = run(PARAMS, measure)
    members = search.front(result, PARAMS, None)
    pairs = [(member.transfer, member.accuracy) for member in members]
    assert pairs == sorted(pairs)
    for other in result.members:
        for rate, correct in pairs:
            assert not (other.transfer < rate and other.accuracy >= correct)  # type: ignore[operator]
    scalar = run(replace(PARAMS, objective="scalar"), measure)
    top = search.front(scalar, replace(PARAMS, objective="scalar"), None)
    gain = max(m.accuracy - (m.transfer or 0) for m in scalar.members)
    assert all(m.accuracy - (m.transfer or 0) == pytest.approx(gain) for m in top)


def test_given_genomes_begin_the_first_generation() -> None:
    first = [member.child.genome for member in run(replace(PARAMS, seed=9)).members[:3]]
    result = search.run(PARAMS, SPACE, first, [None], by_plant)
    assert [member.child.genome for member in result.members[:3]] == first


def test_an_exhausted_space_ends_the_search_early(monkeypatch: pytest.MonkeyPatch) -> None:
    genomes = [member.child.genome for member in run(PARAMS).members[:11]]
    monkeypatch.setattr(search, "random_genome", lambda rng: genomes[int(rng.integers(len(genomes)))])
    monkeypatch.setattr(search, "child", lambda rng, a, b: (a, False))
    result = run(PARAMS)
    assert 8 < len(result.members) <= 11
    assert result.generations < PARAMS.generations
    assert len({member.child.id for member in result.members}) == len(result.members)
    assert PARAMS.cost_of(result.trainings) == len(result.members) < PARAMS.cost


def test_what_failed_does_not_go_on() -> None:
    asked: list[int] = []

    def measure(children: Sequence[Proposal], rung: int, generation: int) -> list[dict[str, Any]]:
        asked.append(len(children))
        return [{"error": "timed out"} if rung == 0 and k else record(900, 100) for k, _ in enumerate(children)]

    result = run(replace(PARAMS, rungs=2, offspring=9, budget=6), measure)
    assert asked == [9, 1]
    assert (result.trainings, result.failed) == ([9, 1], 8)
    assert run(replace(PARAMS, rungs=2, offspring=9, budget=6), lambda c, r, g: [{"error": "no"}] * len(c)).failed == 9


def test_a_child_names_those_that_it_has_genes_of() -> None:
    result = run(replace(PARAMS, budget=400, population=20, offspring=40))
    bred = [one for one in result.members if one.child.parents]
    assert len(bred) > 300
    assert 0.2 < sum(len(one.child.parents) == 2 for one in bred) / len(bred) < 0.4
    genomes = {one.child.id: one.child.genome for one in result.members}
    for one in bred:
        if len(one.child.parents) == 1:  # a mutant keeps some of its parent's nodes, stem or head
            parent = genomes[one.child.parents[0]]
            kept = {node.id for node in parent.nodes} & {node.id for node in one.child.genome.nodes}
            assert kept or parent.stem == one.child.genome.stem or parent.head == one.child.genome.head


def test_without_finalists_e_is_of_the_front() -> None:
    """The front of the scalar objective need not hold the lowest T_cond."""
    params = replace(PARAMS, objective="scalar")
    found = search.Result(members=[member("a", 900, 100), member("b", 300, 50)])
    front = search.front(found, params, None)
    assert [one.child.id for one in front] == ["a"]
    assert search.finalists(found, params, None, 1)[0].child.id == "b"
    assert search.finalists(found, params, None, 1, among=front)[0].child.id == "a"


def test_a_candidates_seed_is_its_own() -> None:
    assert seed_of(1, "a") == seed_of(1, "a")
    assert len({seed_of(run_seed, name) for run_seed in (0, 1) for name in ("a", "b")}) == 4
    assert 0 <= seed_of(0, "a") < 2**48
