"""Candidates that keep the limits and that nobody has seen before; what was mended or thrown away is counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from advkit.evolution.variation import with_node
from advkit.files.errors import InputError
from advkit.models.genome.canonical import genome_id
from advkit.models.genome.genes import Genome, active_nodes
from advkit.models.genome.limits import Limits, cost, why_invalid

_TRIES = 200  # draws for one child before the search space counts as exhausted
_REPAIRS = 30


@dataclass
class DrawCounts:
    """What became of the draws.

    Attributes:
        drawn: genomes made.
        repaired: those that broke a limit and were mended.
        invalid: those that could not be mended.
        duplicates: those whose active graph had been proposed before.
    """

    drawn: int = 0
    repaired: int = 0
    invalid: int = 0
    duplicates: int = 0


@dataclass(frozen=True)
class Space:
    """What a candidate must fit.

    Attributes:
        num_classes, input_size: of the reference.
        limits: see :class:`advkit.models.genome.limits.Limits`.
    """

    num_classes: int
    input_size: tuple[int, int, int]
    limits: Limits = field(default_factory=Limits)

    def fault(self, genome: Genome) -> str | None:
        """Why ``genome`` does not fit; None when it does."""
        return why_invalid(genome, self.num_classes, self.input_size, self.limits)


def repaired(genome: Genome, space: Space) -> Genome | None:
    """``genome``, or a smaller relative of it that keeps the limits; None when thirty cuts don't get there.

    Inactive nodes are dropped: nothing would ever wake them again.
    """
    genome = replace(genome, nodes=active_nodes(genome))
    for _ in range(_REPAIRS):
        if space.fault(genome) is None:
            return genome
        smaller = _cut(genome, space)
        if smaller == genome:
            return None
        genome = smaller
    return None


def _cut(genome: Genome, space: Space) -> Genome:
    """One step towards the limit that is broken worst."""
    try:
        found = cost(genome, space.num_classes, space.input_size)
    except InputError:  # no graph that a network could be made of
        return genome
    limits, active = space.limits, active_nodes(genome)
    if found.smallest_map < limits.min_map:
        strided = [node for node in active if node.stride == 2]
        return with_node(genome, replace(strided[-1], stride=1)) if strided else genome
    if found.depth > limits.max_depth:
        deepest = max(active, key=lambda node: node.depth)
        return with_node(genome, replace(deepest, depth=deepest.depth - 1)) if deepest.depth > 1 else genome
    if found.parameters > limits.max_parameters or found.multiply_adds > limits.max_multiply_adds:
        widest = max(active, key=lambda node: node.channels * node.depth, default=None)
        if widest is not None and widest.depth > 1:
            return with_node(genome, replace(widest, depth=widest.depth - 1))
        if widest is not None and widest.channels > genome.stem.channels and widest.channels > 16:
            return with_node(genome, replace(widest, channels=widest.channels // 2))
        if genome.stem.channels > 16:
            return replace(genome, stem=replace(genome.stem, channels=genome.stem.channels // 2))
    return genome


def unseen_child(
    make: Callable[[], tuple[Genome, Sequence[str]]], space: Space, seen: set[str], counts: DrawCounts
) -> Proposal | None:
    """A new candidate that fits, its id added to ``seen``; None when many draws gave nothing new.

    Args:
        make: draws a genome and names its parents.
        space: what it must fit.
        seen: ids of all candidates proposed so far.
        counts: kept up to date.
    """
    for _ in range(_TRIES):
        genome, parents = make()
        counts.drawn += 1
        fitting = repaired(genome, space)
        if fitting is None:
            counts.invalid += 1
            continue
        counts.repaired += fitting != replace(genome, nodes=active_nodes(genome))
        name = genome_id(fitting)
        if name in seen:
            counts.duplicates += 1
            continue
        seen.add(name)
        return Proposal(name, fitting, tuple(parents))
    return None


@dataclass(frozen=True)
class Proposal:
    """A candidate before anything is known of it.

    Attributes:
        id: of its active graph.
        genome: with the ids of its parent's nodes where they were kept.
        parents: ids; empty for one drawn at random.
    """

    id: str
    genome: Genome
    parents: tuple[str, ...] = ()


def generator(seed: int, generation: int) -> np.random.Generator:
    """The randomness of one generation: a function of the run's seed and its number alone."""
    return np.random.default_rng([seed & (2**63 - 1), generation])
