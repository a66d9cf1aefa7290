"""New genomes: drawn at random, changed a little, or made of two.

Every function takes a ``numpy`` generator and nothing else that is random. What comes out is sound as a graph; whether
it keeps the limits is for :mod:`advkit.evolution.offspring` to see.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from advkit.models.genome import genes
from advkit.models.genome.genes import Genome, Head, Node, Stem, active_nodes

CHANNELS = (16, 24, 32, 48, 64, 96, 128)
HIDDEN = (0, 0, 0, 64, 128)  # a plain linear classifier is what most networks have
_MOST_INPUTS = 3
_CROSSOVER = 0.3  # part of the children that have two parents
_NODE_GENES = ("op", "kernel", "channels", "depth", "stride", "norm", "activation", "skip")
_NODES = (1, 8)  # nodes of a random genome, at least and at most

T = TypeVar("T")
Rng = np.random.Generator


def _pick(rng: Rng, choices: Sequence[T]) -> T:
    return choices[int(rng.integers(len(choices)))]


def _other(rng: Rng, choices: Sequence[T], present: T) -> T:
    left = [choice for choice in choices if choice != present]
    return _pick(rng, left) if left else present


def random_genome(rng: Rng) -> Genome:
    """A genome drawn from the whole space: stem, one to eight nodes in a random acyclic graph, head.

    A node mostly reads the one before it, so that nets are deep rather than wide; the last one also reads nodes that
    nobody else does, so that few are inactive.
    """
    nodes: list[Node] = []
    count = int(rng.integers(_NODES[0], _NODES[1] + 1))
    for name in range(1, count + 1):
        before = list(range(name))
        inputs = {before[-1] if rng.random() < 0.7 else _pick(rng, before)}
        inputs |= {one for one in before if rng.random() < 0.3 / name}
        if name == count:
            inputs |= set(before[1:]) - {source for node in nodes for source in node.inputs}
        nearest_first = sorted(inputs, reverse=True)[:_MOST_INPUTS]
        nodes.append(_random_node(rng, name, tuple(sorted(nearest_first))))
    return Genome(_random_stem(rng), tuple(nodes), _random_head(rng), nodes[-1].id)


def _random_stem(rng: Rng) -> Stem:
    return Stem(_pick(rng, genes.STEMS), _pick(rng, CHANNELS), _norm(rng), _pick(rng, genes.ACTIVATIONS))


def _random_head(rng: Rng) -> Head:
    return Head(_pick(rng, genes.POOLS), _pick(rng, HIDDEN))


def _norm(rng: Rng) -> str:
    return str(rng.choice(genes.NORMS, p=(0.6, 0.25, 0.15)))  # norm-free nets seldom train in a short run


def _random_node(rng: Rng, name: int, inputs: tuple[int, ...]) -> Node:
    op = _pick(rng, genes.OPS)
    return Node(
        id=name,
        inputs=inputs,
        merge=_pick(rng, genes.MERGES),
        op=op,
        kernel=_pick(rng, genes.KERNELS[op]),
        channels=_pick(rng, CHANNELS),
        depth=int(rng.integers(1, genes.MAX_DEPTH + 1)),
        stride=2 if rng.random() < 0.35 else 1,
        norm=_norm(rng),
        activation=_pick(rng, genes.ACTIVATIONS),
        skip=_pick(rng, genes.SKIPS),
    )


def _fresh(genome: Genome) -> int:
    return max((node.id for node in genome.nodes), default=0) + 1


def with_node(genome: Genome, settings_diff: Node) -> Genome:
    """``genome`` with ``changed`` in place of the node of that id."""
    return replace(genome, nodes=tuple(settings_diff if node.id == settings_diff.id else node for node in genome.nodes))


def _below(genome: Genome, name: int) -> set[int]:
    """Ids of the nodes that depend on ``name``, and itself."""
    found = {name}
    for node in active_nodes(genome):
        if found & set(node.inputs):
            found.add(node.id)
    return found


def add_node(rng: Rng, genome: Genome) -> Genome:
    """A new node on one edge of the active graph, between a node (or the output) and one of its inputs."""
    edges = [(source, node.id) for node in active_nodes(genome) for source in node.inputs] + [(genome.output, -1)]
    source, reader = _pick(rng, edges)
    new = _random_node(rng, _fresh(genome), (source,))
    grown = replace(genome, nodes=(*genome.nodes, new))
    if reader == -1:
        return replace(grown, output=new.id)
    old = next(node for node in genome.nodes if node.id == reader)
    inputs = tuple(new.id if name == source else name for name in old.inputs)
    return with_node(grown, replace(old, inputs=inputs))


def remove_node(rng: Rng, genome: Genome) -> Genome:
    """One active node less; its readers read what it read."""
    active = active_nodes(genome)
    if not active:
        return genome
    gone = _pick(rng, active)
    nodes = []
    for node in genome.nodes:
        if node.id != gone.id:
            kept = [name for name in node.inputs if name != gone.id]
            taken = [name for name in gone.inputs if name not in kept] if gone.id in node.inputs else []
            nodes.append(replace(node, inputs=tuple((kept + taken)[:_MOST_INPUTS])))
    output = _pick(rng, gone.inputs) if genome.output == gone.id else genome.output
    return replace(genome, nodes=tuple(nodes), output=output)


def rewire(rng: Rng, genome: Genome) -> Genome:
    """One input of one active node added, dropped or exchanged."""
    active = active_nodes(genome)
    if not active:
        return genome
    node = _pick(rng, active)
    below = _below(genome, node.id)
    free = [n for n in (0, *(other.id for other in active)) if n not in below and n not in node.inputs]
    inputs = list(node.inputs)
    drop = len(inputs) > 1 and rng.random() < 0.5
    if drop or (free and len(inputs) >= _MOST_INPUTS):
        inputs.remove(_pick(rng, inputs))
    if free and not (drop and rng.random() < 0.5) and len(inputs) < _MOST_INPUTS:
        inputs.append(_pick(rng, free))
    return with_node(genome, replace(node, inputs=tuple(inputs)))


def change_node(rng: Rng, genome: Genome) -> Genome:
    """One gene of one active node takes another value; a new kind of operation brings a kernel of its own."""
    active = active_nodes(genome)
    if not active:
        return genome
    node = _pick(rng, active)
    used = ["op", "stride"] if node.op in genes.POOL_OPS else list(_NODE_GENES)
    gene = _pick(rng, [*used, "merge"] if len(node.inputs) > 1 else used)
    if gene == "op":
        op = _other(rng, genes.OPS, node.op)
        kernel = node.kernel if node.kernel in genes.KERNELS[op] else _pick(rng, genes.KERNELS[op])
        return with_node(genome, replace(node, op=op, kernel=kernel))
    choices: dict[str, Sequence[object]] = {
        "kernel": genes.KERNELS[node.op],
        "channels": CHANNELS,
        "depth": range(1, genes.MAX_DEPTH + 1),
        "stride": genes.STRIDES,
        "norm": genes.NORMS,
        "activation": genes.ACTIVATIONS,
        "skip": genes.SKIPS,
        "merge": genes.MERGES,
    }
    return with_node(genome, replace(node, **{gene: _other(rng, choices[gene], getattr(node, gene))}))


def change_stem(rng: Rng, genome: Genome) -> Genome:
    """Another kind, width, norm or activation of the stem."""
    gene = _pick(rng, ("kind", "kind", "channels", "norm", "activation"))
    choices = {"kind": genes.STEMS, "channels": CHANNELS, "norm": genes.NORMS, "activation": genes.ACTIVATIONS}
    value = _other(rng, choices[gene], getattr(genome.stem, gene))
    return replace(genome, stem=replace(genome.stem, **{gene: value}))


def change_head(rng: Rng, genome: Genome) -> Genome:
    """Another pooling, or another hidden layer, of the head."""
    if rng.random() < 0.5:
        return replace(genome, head=replace(genome.head, pool=_other(rng, genes.POOLS, genome.head.pool)))
    return replace(genome, head=replace(genome.head, hidden=_other(rng, HIDDEN, genome.head.hidden)))


# What a mutation may be, and how often.
MUTATIONS: dict[Callable[[Rng, Genome], Genome], float] = {
    change_node: 0.4,
    add_node: 0.15,
    remove_node: 0.12,
    rewire: 0.13,
    change_stem: 0.15,
    change_head: 0.05,
}


def mutate(rng: Rng, genome: Genome) -> Genome:
    """One mutation, and another with probability 1/3, and so on."""
    kinds = list(MUTATIONS)
    while True:
        genome = kinds[int(rng.choice(len(kinds), p=list(MUTATIONS.values())))](rng, genome)
        if rng.random() > 1 / 3:
            return genome


def crossover(rng: Rng, a: Genome, b: Genome) -> Genome:
    """The first layers of ``a``, then the last ones of ``b``; ids of ``a`` stay, so that its weights can.

    Both active graphs are cut in some topological order. Nodes of ``b`` that read something before the cut read the
    last node of ``a`` before its cut instead. The head is that of either.
    """
    front, back = active_nodes(a), active_nodes(b)
    if not front or not back:
        return replace(a, stem=b.stem)
    kept = front[: int(rng.integers(0, len(front) + 1))]
    joint = kept[-1].id if kept else 0
    rest = back[int(rng.integers(0, len(back))) :]
    names = {node.id: _fresh(a) + place for place, node in enumerate(rest)}
    taken = [
        replace(node, id=names[node.id], inputs=tuple(dict.fromkeys(names.get(name, joint) for name in node.inputs)))
        for node in rest
    ]
    return Genome(a.stem, (*kept, *taken), _pick(rng, (a.head, b.head)), names[b.output])


def child(rng: Rng, a: Genome, b: Genome) -> tuple[Genome, bool]:
    """A crossover, mutated half of the time, or a mutation of ``a``; and whether ``b`` had a part in it."""
    if rng.random() < _CROSSOVER:
        both = crossover(rng, a, b)
        return mutate(rng, both) if rng.random() < 0.5 else both, True
    return mutate(rng, a), False
