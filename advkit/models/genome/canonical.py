"""One form for all genomes that mean the same network: canonical labelling of the active graph.

Colour refinement over in- and out-edges, then individualisation where it leaves nodes alike, the smallest certificate
wins (McKay and Piperno, "Practical graph isomorphism, II", 2014). A hash of each node's ancestors would be cheaper, but
confuses d, e reading the same one of two alike nodes with d, e reading one each.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from advkit.files.errors import InputError
from advkit.models.genome.genes import KERNELS, POOL_OPS, Genome, Node, active_nodes, to_json

# Refinements before a graph counts as too symmetric: a second or two. Graphs of 16 nodes need at most about a hundred;
# only a large genome made for the purpose comes near.
_MOST_REFINEMENTS = 2_000

Colours = dict[int, int]


def canonical(genome: Genome) -> Genome:
    """The representative of all genomes that mean the same network as ``genome``.

    Only active nodes, numbered from 1 so that each comes after its inputs, which are sorted; fields without an effect
    have one fixed value. Two genomes have equal representatives exactly when renaming ids, permuting nodes and inputs,
    adding inactive nodes and changing fields without an effect turns one into the other.

    Raises:
        InputError: a cycle or an unknown input; a graph that is too symmetric (more than 16 nodes and contrived).
    """
    numbers = canonical_numbering(genome)
    nodes = sorted((_plain(node, numbers) for node in active_nodes(genome)), key=lambda node: node.id)
    return replace(genome, nodes=tuple(nodes), output=numbers.get(genome.output, 0))


def genome_id(genome: Genome) -> str:
    """Sixteen hexadecimal digits that tell what ``genome`` means: of the sha256 of its canonical JSON."""
    text = json.dumps(to_json(canonical(genome)), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def canonical_numbering(genome: Genome) -> dict[int, int]:
    """Id of each active node of ``genome`` to its number in :func:`canonical`; the stem, 0 in both, is left out.

    Raises:
        InputError: as :func:`canonical`.
    """
    return _Search(active_nodes(genome)).best_numbers()


def _plain(node: Node, numbers: Mapping[int, int]) -> Node:
    """``node`` with ids replaced by ``numbers`` (0 stays) and fields without an effect at their fixed value."""
    inputs = tuple(sorted(numbers.get(name, 0) for name in node.inputs))
    node = replace(node, id=numbers[node.id], inputs=inputs, merge=node.merge if len(inputs) > 1 else "add")
    if node.op not in POOL_OPS:
        return node
    # Values that make a sensible convolution of a pooling whose operation is changed later.
    kernel = KERNELS[node.op][0]
    return replace(node, kernel=kernel, channels=32, depth=1, norm="batch", activation="relu", skip="none")


class _Search:
    """The search for the numbering with the smallest certificate."""

    def __init__(self, nodes: tuple[Node, ...]) -> None:
        self.inputs = {node.id: node.inputs for node in nodes}
        self.readers: dict[int, list[int]] = {node.id: [] for node in nodes}
        for node in nodes:
            for name in node.inputs:
                self.readers.get(name, []).append(node.id)
        alike = {node.id: 1 for node in nodes}
        self.features = {node.id: _features(_plain(node, alike)) for node in nodes}
        self.levels: dict[int, int] = {}
        for node in nodes:
            self.levels[node.id] = 1 + max((self.levels.get(name, 0) for name in node.inputs), default=0)
        self.left = _MOST_REFINEMENTS

    def best_numbers(self) -> dict[int, int]:
        _, colours = self.smallest(self.refined(self.first_colours()))
        return {name: colour + 1 for name, colour in colours.items()}

    def first_colours(self) -> Colours:
        """Nodes that differ by themselves, told apart; levels come first, so that numbers are a topological order."""
        keys: dict[int, Any] = {}
        met: Counter[Any] = Counter()
        for name, inputs in sorted(self.inputs.items()):
            kind = (self.levels[name], 0 in inputs, self.features[name])
            # Twins, alike and with the same neighbours, can be exchanged: any order gives the same result, that of ids
            # leaves a canonical form as it is.
            twins = (kind, frozenset(inputs), frozenset(self.readers[name]))
            keys[name] = (*kind, met[twins])
            met[twins] += 1
        return _ranks(keys)

    def refined(self, colours: Colours) -> Colours:
        """The coarsest refinement of ``colours`` whose classes can't be told apart by their neighbours' classes."""
        self.left -= 1
        if self.left < 0:
            raise InputError("genome: its graph is too symmetric to be compared with others; use fewer alike nodes")
        while True:
            signatures = {
                name: (
                    colour,
                    tuple(sorted(colours[other] for other in self.inputs[name] if other)),
                    tuple(sorted(colours[other] for other in self.readers[name])),
                )
                for name, colour in colours.items()
            }
            finer = _ranks(signatures)
            if len(set(finer.values())) == len(set(colours.values())):
                return colours
            colours = finer

    def smallest(self, colours: Colours) -> tuple[Any, Colours]:
        """The smallest certificate below ``colours``, and the numbering that gives it."""
        cell = self.target(colours)
        if not cell:
            return self.certificate(colours), colours
        best: tuple[Any, Colours] | None = None
        seen: list[Any] = []
        for name in cell:
            child = self.refined(_set_apart(colours, name))
            # Two leaves of equal certificates are images of each other under an automorphism, which then carries one
            # child's whole subtree onto the other's: one of them is enough.
            leaf = self.certificate(self.first_leaf(child))
            if leaf not in seen:
                seen.append(leaf)
                found = self.smallest(child)
                best = found if best is None or found[0] < best[0] else best
        assert best is not None
        return best

    def first_leaf(self, colours: Colours) -> Colours:
        """Some numbering below ``colours``."""
        while cell := self.target(colours):
            colours = self.refined(_set_apart(colours, cell[0]))
        return colours

    def target(self, colours: Colours) -> list[int]:
        """The nodes of the first colour that several have; none when all are told apart."""
        cells: dict[int, list[int]] = {}
        for name, colour in colours.items():
            cells.setdefault(colour, []).append(name)
        return cells[min((c for c, cell in cells.items() if len(cell) > 1))] if len(cells) < len(colours) else []

    def certificate(self, numbers: Colours) -> Any:
        """The edges under a numbering; a number tells the node's features already, for refinement keeps their order."""
        return sorted(
            (number, sorted(numbers.get(other, -1) for other in self.inputs[name])) for name, number in numbers.items()
        )


def _features(node: Node) -> tuple[str | int, ...]:
    return (node.op, node.kernel, node.channels, node.depth, node.stride, node.norm, node.activation, node.skip,
            node.merge)  # fmt: skip


def _ranks(keys: Mapping[int, Any]) -> Colours:
    """The number of smaller keys for each key: equal keys share a colour, and below the next one is room for each."""
    first: dict[Any, int] = {}
    for place, key in enumerate(sorted(keys.values())):
        first.setdefault(key, place)
    return {name: first[key] for name, key in keys.items()}


def _set_apart(colours: Colours, name: int) -> Colours:
    """``colours`` with ``name`` before the others of its colour."""
    return {other: c + (c == colours[name] and other != name) for other, c in colours.items()}
