"""The canonical form: equal for genomes that mean the same, different for all others."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace

import networkx
import pytest
from genomes import disguised, genome, genomes, node
from hypothesis import given, settings
from hypothesis import strategies as st

from advkit.files.errors import InputError
from advkit.models.genome.canonical import canonical, canonical_numbering, genome_id
from advkit.models.genome.genes import Genome, active_nodes, check


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_names_orders_idle_nodes_and_idle_fields_mean_nothing(data):
    found = data.draw(genomes(most_nodes=6))
    other = data.draw(disguised(found))
    assert canonical(other) == canonical(found)
    assert genome_id(other) == genome_id(found)


@settings(max_examples=150, deadline=None)
@given(genomes(most_nodes=8))
def test_it_is_the_same_graph_in_a_fixed_form(found):
    """Renamed by ``canonical_numbering``, active nodes are the canonical form's: equal ids mean isomorphic graphs."""
    form, numbers = canonical(found), canonical_numbering(found)
    check(form)
    assert canonical(form) == form
    assert canonical_numbering(form) == {node.id: node.id for node in form.nodes}
    assert [node.id for node in form.nodes] == list(range(1, len(active_nodes(found)) + 1))
    for one in active_nodes(found):
        new = form.nodes[numbers[one.id] - 1]
        assert list(new.inputs) == sorted(numbers.get(name, 0) for name in one.inputs)
        assert max(new.inputs) < new.id
        if "pool" not in one.op:
            merge = one.merge if len(one.inputs) > 1 else "add"
            assert replace(new, id=one.id, inputs=one.inputs) == replace(one, merge=merge)
        else:
            assert (new.op, new.stride) == (one.op, one.stride)
    assert (form.stem, form.head, form.output) == (found.stem, found.head, numbers.get(found.output, 0))


def test_twins_keep_the_order_of_their_ids_however_the_nodes_stand():
    twins = [node(1, (0,)), node(2, (1,)), node(3, (1,)), node(4, (0, 2, 3)), node(5, (4,))]
    for nodes in itertools.permutations(twins[:4]):
        found = genome(*nodes, twins[4])
        assert canonical_numbering(found) == {number: number for number in range(1, 6)}


@settings(deadline=None)
@given(genomes(most_nodes=4), st.data())
def test_every_field_with_an_effect_tells_genomes_apart(found, data):
    changes = [replace(found, stem=replace(found.stem, channels=found.stem.channels + 1)),
               replace(found, head=replace(found.head, hidden=found.head.hidden + 1))]  # fmt: skip
    for one in active_nodes(found):
        others = [node for node in found.nodes if node is not one]
        fields = [("stride", 3 - one.stride)]
        if "pool" not in one.op:
            fields += [("channels", one.channels + 1), ("depth", one.depth % 3 + 1)]
            fields += [("norm", "none" if one.norm != "none" else "group"), ("skip", _other(one.skip))]
            fields += [("activation", "silu" if one.activation != "silu" else "gelu")]
        if len(one.inputs) > 1:
            fields.append(("merge", "add" if one.merge == "concat" else "concat"))
        changes += [replace(found, nodes=(*others, replace(one, **{name: value}))) for name, value in fields]
    changed = data.draw(st.sampled_from(changes))
    assert genome_id(changed) != genome_id(found)


def _other(skip: str) -> str:
    return {"none": "dense", "dense": "residual", "residual": "none"}[skip]


def every_graph(nodes: int, kinds: tuple[int, ...]) -> list[Genome]:
    """Every graph of so many nodes in topological order, each of one of ``kinds`` (as kernels); the last is output."""
    choices = []
    for place in range(1, nodes + 1):
        subsets = [s for k in range(1, place + 1) for s in itertools.combinations(range(place), k)]
        choices.append([node(place, inputs, kernel=kind) for inputs in subsets for kind in kinds])
    return [genome(*chosen) for chosen in itertools.product(*choices)]


def by_brute_force(found: Genome) -> tuple:
    """The smallest description of the active graph over all orders of its nodes."""
    active = active_nodes(found)
    descriptions = []
    for names in itertools.permutations(range(1, len(active) + 1)):
        new = {0: 0} | {node.id: name for node, name in zip(active, names, strict=True)}
        edges = sorted((new[n.id], n.kernel, n.merge if len(n.inputs) > 1 else "", sorted(new[i] for i in n.inputs))
                       for n in active)  # fmt: skip
        descriptions.append((new[found.output], repr(edges)))
    return min(descriptions)


@pytest.mark.parametrize(("nodes", "kinds"), [(1, (1, 3)), (2, (1, 3, 5)), (3, (1, 3)), (4, (3,))])
def test_as_many_ids_as_there_are_graphs(nodes, kinds):
    """Every small graph, against the minimum over all permutations."""
    ids: dict[tuple, set[str]] = {}
    for found in every_graph(nodes, kinds):
        ids.setdefault(by_brute_force(found), set()).add(genome_id(found))
    assert all(len(same) == 1 for same in ids.values())
    assert len(set.union(*ids.values())) == len(ids) > 1


def test_two_that_a_hash_of_ancestors_confuses():
    a, b, last = node(1, (0,)), node(2, (0,)), node(5, (1, 2, 3, 4), merge="concat")
    shared = genome(a, b, node(3, (1,)), node(4, (1,)), last)
    apart = genome(a, b, node(3, (1,)), node(4, (2,)), last)
    assert genome_id(shared) != genome_id(apart)
    assert genome_id(apart) == genome_id(genome(a, b, node(3, (2,)), node(4, (1,)), last))


def rings(*lengths: int) -> Genome:
    """Two rows of nodes; each of the second reads two neighbours of the first, which closes rings of ``lengths``."""
    pairs = []
    for length in lengths:
        start = len(pairs)
        pairs += [(start + k, start + (k + 1) % length) for k in range(length)]
    size = len(pairs)
    lower = [node(k + 1, (0,)) for k in range(size)]
    upper = [node(size + k + 1, (a + 1, b + 1)) for k, (a, b) in enumerate(pairs)]
    return genome(*lower, *upper, node(2 * size + 1, tuple(n.id for n in upper)))


def test_two_that_colour_refinement_confuses():
    """One ring of six and two rings of three look alike from every node."""
    assert len({genome_id(rings(*lengths)) for lengths in ([6], [3, 3], [7], [3, 4], [8], [4, 4], [3, 5])}) == 7
    assert genome_id(rings(3, 4)) == genome_id(rings(4, 3))


@st.composite
def alike(draw: st.DrawFn) -> Genome:
    """Rows of nodes of one kind that read two of the row below: as symmetric as random graphs get."""
    rows, width = draw(st.integers(1, 3)), draw(st.integers(2, 4))
    pairs = list(itertools.combinations(range(width), 2))
    nodes = [node(k + 1, (0,)) for k in range(width)]
    for row in range(1, rows):
        for k in range(width):
            a, b = draw(st.sampled_from(pairs))
            below = (row - 1) * width + 1
            nodes.append(node(row * width + k + 1, (below + a, below + b)))
    return genome(*nodes, node(99, tuple(n.id for n in nodes[-width:])))


@settings(max_examples=200, deadline=None)
@given(alike(), alike(), st.data())
def test_ids_agree_with_networkx(one, other, data):
    graphs = []
    for found in (one, other):
        graph = networkx.DiGraph()
        graph.add_edges_from((name, n.id) for n in active_nodes(found) for name in n.inputs)
        graphs.append(graph)
    same = networkx.is_isomorphic(*graphs)
    assert (genome_id(one) == genome_id(other)) == same
    assert genome_id(data.draw(disguised(one))) == genome_id(one)


@pytest.mark.parametrize(
    "found",
    [
        genome(*[node(k + 1, (0,)) for k in range(63)], node(64, tuple(range(1, 64)))),
        genome(*[node(k + 1, (k,)) for k in range(64)]),
        genome(*[node(k + 1, (0,)) for k in range(7)], *[node(k + 8, (k + 1,)) for k in range(7)],
               node(15, tuple(range(8, 15)))),
        genome(*[node(k + 1, (0,)) for k in range(8)], *[node(k + 9, tuple(set(range(1, 9)) - {k + 1}))
               for k in range(8)], node(17, tuple(range(9, 17)))),
        rings(8),
        rings(3, 3, 3),
    ],
    ids=["twins", "chain", "pairs", "all-but-one", "ring", "rings"],
)  # fmt: skip
def test_symmetry_does_not_blow_up(found):
    start = time.process_time()
    genome_id(found)
    assert time.process_time() - start < 1.0


def test_a_graph_made_to_be_hard_is_refused():
    """Points and lines of the projective plane of order 5: 62 nodes, 372,000 symmetries."""
    lines = [tuple((k + d) % 31 + 1 for d in (0, 1, 3, 8, 12, 18)) for k in range(31)]
    found = genome(*[node(k + 1, (0,)) for k in range(31)], *[node(k + 32, line) for k, line in enumerate(lines)],
                   node(63, tuple(range(32, 63))))  # fmt: skip
    with pytest.raises(InputError, match="too symmetric"):
        genome_id(found)


def test_ids_stay():
    """Run directories and reports name them: a change here orphans those of earlier versions."""
    assert genome_id(genome()) == "0d569a22219683bc"
    assert genome_id(genome(node(5, (0,)))) == "129a541ad816ca2f"
