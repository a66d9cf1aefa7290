"""New genomes are sound, small enough, new, and reach every corner of the space."""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advkit.evolution import variation
from advkit.evolution.offspring import DrawCounts, Space, generator, repaired, unseen_child
from advkit.models.genome import genes
from advkit.models.genome.canonical import genome_id
from advkit.models.genome.genes import Genome, active_nodes, check
from advkit.models.genome.limits import Limits, cost

seeds = st.integers(0, 2**32 - 1)
SPACE = Space(10, (3, 32, 32))


def drawn(seed: int, steps: int) -> Genome:
    """A random genome after some mutations."""
    rng = np.random.default_rng(seed)
    genome = variation.random_genome(rng)
    for _ in range(steps):
        genome = variation.mutate(rng, genome)
    return genome


@given(seeds, st.integers(0, 12))
@settings(max_examples=150, deadline=None)
def test_mutants_are_sound_graphs(seed: int, steps: int) -> None:
    check(drawn(seed, steps))


@given(seeds, seeds, st.integers(0, 6))
@settings(max_examples=150, deadline=None)
def test_crossovers_are_sound_and_keep_the_first_layers_of_the_first_parent(a: int, b: int, steps: int) -> None:
    one, two = drawn(a, steps), drawn(b, steps)
    child = variation.crossover(np.random.default_rng(a ^ b), one, two)
    check(child)
    own = {node.id: node for node in one.nodes}
    kept = [node for node in child.nodes if node.id in own]
    assert all(own[node.id] == node for node in kept)
    assert child.stem == (one.stem if active_nodes(one) and active_nodes(two) else two.stem)


def test_crossover_takes_from_both_parents() -> None:
    rng = np.random.default_rng(0)
    stems, heads, sizes = Counter[bool](), Counter[bool](), Counter[bool]()
    for seed in range(60):
        one, two = drawn(seed, 0), drawn(seed + 1000, 0)
        child = variation.crossover(rng, one, two)
        stems[child.stem == one.stem] += 1
        heads[child.head == two.head] += 1
        sizes[any(node.id > max(n.id for n in one.nodes) for node in child.nodes)] += 1
    assert stems[True] == 60
    assert heads[True] > 15
    assert sizes[True] == 60


def test_three_children_in_ten_have_two_parents(monkeypatch: pytest.MonkeyPatch) -> None:
    crossed, mutated = [], []

    def cross(rng: np.random.Generator, a: Genome, b: Genome) -> Genome:
        crossed.append((a, b))
        return a

    monkeypatch.setattr(variation, "crossover", cross)
    monkeypatch.setattr(variation, "mutate", lambda rng, genome: mutated.append(genome) or genome)
    rng, one, two = np.random.default_rng(0), drawn(1, 0), drawn(2, 0)
    told = [variation.child(rng, one, two)[1] for _ in range(1000)]
    assert 250 < len(crossed) == sum(told) < 350
    assert set(map(id, sum(crossed, ()))) == {id(one), id(two)}
    assert len(mutated) > 800, "what was not crossed, and half of what was"


@pytest.mark.parametrize("mutation", variation.MUTATIONS, ids=lambda kind: kind.__name__)
def test_every_mutation_changes_something_and_says_what_its_name_says(mutation: object) -> None:
    rng, settings_diff = np.random.default_rng(1), 0
    for seed in range(60):
        before = drawn(seed, 3)
        after = mutation(rng, before)  # type: ignore[operator]
        check(after)
        settings_diff += genome_id(before) != genome_id(after)
        if mutation is variation.add_node:
            assert len(after.nodes) == len(before.nodes) + 1
        if mutation is variation.remove_node and active_nodes(before):
            assert len(after.nodes) == len(before.nodes) - 1
        if mutation is variation.change_stem:
            assert (after.nodes, after.head) == (before.nodes, before.head)
            assert after.stem != before.stem
        if mutation is variation.change_head:
            assert (after.nodes, after.stem) == (before.nodes, before.stem)
        if mutation is variation.change_node:
            assert sum(a != b for a, b in zip(after.nodes, before.nodes, strict=True)) == (
                1 if active_nodes(before) else 0
            )
        if mutation is variation.rewire:
            assert after.stem == before.stem
            assert all(a.inputs != b.inputs or a == b for a, b in zip(after.nodes, before.nodes, strict=True)), (
                "rewiring touches inputs only"
            )
    assert settings_diff >= 30


def test_mutations_add_up_to_one() -> None:
    assert sum(variation.MUTATIONS.values()) == pytest.approx(1.0)


@pytest.mark.parametrize("mutated", [False, True])
def test_the_whole_space_is_reached(mutated: bool) -> None:
    rng = np.random.default_rng(0)
    genomes = [variation.random_genome(rng) for _ in range(300)]
    if mutated:
        genome, genomes = genomes[0], []
        for _ in range(1500):
            genome = repaired(variation.mutate(rng, genome), SPACE) or genome
            genomes.append(genome)
    assert {g.stem.kind for g in genomes} == set(genes.STEMS)
    assert {g.head.pool for g in genomes} == set(genes.POOLS)
    nodes = [node for g in genomes for node in active_nodes(g)]
    for field, values in {
        "op": genes.OPS,
        "merge": genes.MERGES,
        "norm": genes.NORMS,
        "activation": genes.ACTIVATIONS,
        "skip": genes.SKIPS,
        "stride": genes.STRIDES,
        "depth": range(1, genes.MAX_DEPTH + 1),
        "channels": variation.CHANNELS,
    }.items():
        assert {getattr(node, field) for node in nodes} >= set(values), field
    assert {(node.op, node.kernel) for node in nodes if node.op == "conv"} == {("conv", k) for k in (1, 3, 5, 7)}
    assert any(len(node.inputs) > 1 for node in nodes)
    assert len({genome_id(g) for g in genomes}) > 250


@given(seeds, st.integers(0, 20))
@settings(max_examples=80, deadline=None)
def test_repair_keeps_the_limits_or_gives_up(seed: int, steps: int) -> None:
    space = Space(10, (3, 32, 32), Limits(max_parameters=100_000, max_multiply_adds=5_000_000, max_depth=8))
    genome = drawn(seed, steps)
    found = repaired(genome, space)
    if found is not None:
        assert space.fault(found) is None
        spent = cost(found, 10, (3, 32, 32))
        assert spent.parameters <= 100_000
        assert spent.multiply_adds <= 5_000_000
        assert spent.depth <= 8
    if space.fault(genome) is None:
        assert found == replace(genome, nodes=active_nodes(genome)), "nothing but inactive nodes goes"


def test_random_genomes_branch_and_merge() -> None:
    rng, chains, branched, sizes = np.random.default_rng(2), 0, 0, Counter[int]()
    for _ in range(400):
        active = active_nodes(variation.random_genome(rng))
        readers = Counter(source for node in active for source in node.inputs)
        sizes[len(active)] += 1
        chains += all(len(node.inputs) == 1 for node in active)
        # Two nodes that read the same and don't read each other: parallel branches.
        branched += any(
            set(a.inputs) & set(b.inputs) and a.id not in b.inputs and b.id not in a.inputs
            for a in active
            for b in active
            if a.id < b.id
        )
        assert not active or max(readers.values()) >= 1
    assert chains > 40
    assert branched > 100
    assert set(sizes) >= set(range(1, 9))


def test_repair_mends_most_of_what_is_too_large() -> None:
    space = Space(10, (3, 32, 32), Limits(max_multiply_adds=20_000_000))
    broken = [genome for genome in (drawn(seed, 0) for seed in range(300)) if space.fault(genome) is not None]
    assert len(broken) > 50
    assert sum(repaired(genome, space) is not None for genome in broken) > 0.8 * len(broken)


def test_a_graph_too_wide_for_any_network_is_invalid_not_an_end() -> None:
    """Pools that concatenate double the channels, and cost neither parameters nor multiply-adds."""
    template = next(node for node in drawn(3, 0).nodes)
    nodes = [replace(template, id=1, inputs=(0,), op="conv", kernel=3, channels=128, stride=1)]
    for name in range(2, 14):
        inputs = tuple(range(max(1, name - 3), name))
        nodes.append(replace(template, id=name, inputs=inputs, merge="concat", op="max-pool", kernel=3, stride=1))
    wide = replace(drawn(3, 0), nodes=tuple(nodes), output=13)
    assert "channels" in str(SPACE.fault(wide))
    assert repaired(wide, SPACE) is None
    counts = DrawCounts()
    assert unseen_child(lambda: (wide, ()), SPACE, set(), counts) is None
    assert counts.invalid == counts.drawn > 50


def test_what_was_mended_is_counted() -> None:
    space = Space(10, (3, 32, 32), Limits(max_multiply_adds=20_000_000))
    genomes = [drawn(seed, 0) for seed in range(60)]
    expected = sum(space.fault(g) is not None and repaired(g, space) is not None for g in genomes)
    counts, seen = DrawCounts(), set[str]()
    for genome in genomes:
        given_ones = iter([genome])
        with contextlib.suppress(StopIteration):
            unseen_child(lambda ones=given_ones: (next(ones), ()), space, seen, counts)  # type: ignore[misc]
    assert counts.repaired == expected > 5


def test_children_are_new_and_counted() -> None:
    rng, seen, counts = generator(3, 0), set[str](), DrawCounts()
    given_ones = [drawn(seed, 0) for seed in (1, 1, 2)]

    def make() -> tuple[Genome, tuple[str, ...]]:
        return (given_ones.pop(0) if given_ones else variation.random_genome(rng)), ()

    found = [unseen_child(make, SPACE, seen, counts) for _ in range(20)]
    children = [child for child in found if child is not None]
    assert len(children) == 20
    assert len({child.id for child in children}) == 20
    assert seen == {child.id for child in children}
    assert counts.duplicates >= 1
    assert counts.drawn == 20 + counts.duplicates + counts.invalid
    for child in children:
        assert child.id == genome_id(child.genome)
        assert SPACE.fault(child.genome) is None


def test_an_exhausted_space_is_said() -> None:
    genome, seen = drawn(1, 0), set[str]()
    unseen_child(lambda: (genome, ()), SPACE, seen, DrawCounts())
    counts = DrawCounts()
    assert unseen_child(lambda: (genome, ()), SPACE, seen, counts) is None
    assert counts.duplicates == counts.drawn > 50


def test_generations_draw_from_generators_of_their_own() -> None:
    assert generator(1, 2).integers(2**60) == generator(1, 2).integers(2**60)
    assert generator(1, 2).integers(2**60) != generator(1, 3).integers(2**60)
    assert generator(1, 2).integers(2**60) != generator(2, 2).integers(2**60)
