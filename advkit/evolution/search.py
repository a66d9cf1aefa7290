"""The search itself: generations of candidates, rung by rung; evolution and random search under one accounting.

It knows neither networks nor processes: ``measure`` is asked for the results of trainings, and the same answers lead
to the same proposals. Every generation draws from a generator of its own, so nothing depends on the order in which
results arrive.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from advkit.evolution import selection
from advkit.evolution.offspring import DrawCounts, Proposal, Space, generator, unseen_child
from advkit.evolution.params import SearchParams
from advkit.evolution.variation import child, random_genome
from advkit.models.genome.genes import Genome

Record = dict[str, Any]
Measure = Callable[[Sequence[Proposal], int, int], list[Record]]


@dataclass(frozen=True)
class Individual:
    """A candidate that was trained to full length.

    Attributes:
        child: what it is.
        record: what was measured (see :func:`advkit.evolution.candidate.evaluate`).
        generation: in which it was proposed, from 0.
    """

    child: Proposal
    record: Record
    generation: int

    @property
    def accuracy(self) -> float:
        """On the validation images, in [0, 1]."""
        return accuracy(self.record)

    @property
    def transfer(self) -> float | None:
        """T_cond from R on the validation images; None when no image counts."""
        return transfer(self.record)


def accuracy(record: Record) -> float:
    """Validation accuracy of a record; 0 for a failed training."""
    correct, total = record.get("validation") or (0, 1)
    return float(correct / total)


def transfer(record: Record) -> float | None:
    """T_cond of a record; None for a failed training, or when no image counts."""
    fooled, total = record.get("cond") or (0, 0)
    return float(fooled / total) if total else None


@dataclass
class Result:
    """What a search found.

    Attributes:
        members: every candidate trained to full length that did not fail, in the order of proposal.
        population: positions in ``members`` of the next parents.
        counts: what became of the draws.
        failed: trainings that diverged, died or took too long.
        trainings: how many there were, at each rung.
        generations: how many are done.
    """

    members: list[Individual] = field(default_factory=list)
    population: list[int] = field(default_factory=list)
    counts: DrawCounts = field(default_factory=DrawCounts)
    failed: int = 0
    trainings: list[int] = field(default_factory=list)
    generations: int = 0


def objectives(records: Sequence[Record], params: SearchParams, floor: float | None) -> tuple[np.ndarray, np.ndarray]:
    """(N, M) objectives to be minimised and (N,) violations of the accuracy floor; +inf for failed trainings.

    A candidate for which no image counts (it gets none of them right) has failed too.
    """
    columns = 1 if params.objective == "scalar" else 2
    values = np.full((len(records), columns), np.inf)
    violations = np.zeros(len(records))
    for row, record in enumerate(records):
        rate, correct = transfer(record), accuracy(record)
        if rate is not None:
            values[row] = [rate - correct] if columns == 1 else [rate, -correct]
        violations[row] = max(0.0, floor - correct) if floor is not None else 0.0
    return values, violations


def run(
    params: SearchParams,
    space: Space,
    first: Sequence[Genome],
    floors: Sequence[float | None],
    measure: Measure,
    after: Callable[[Result], None] = lambda result: None,
) -> Result:
    """Search.

    Args:
        params: settings.
        space: what a candidate must fit.
        first: genomes that the first generation begins with; the rest of it is random.
        floors: accuracy floor of each rung, None for none.
        measure: (children, rung, generation) to their records, in the order of the children.
        after: told the state after every generation.
    """
    result = Result(trainings=[0] * params.rungs)
    seen: set[str] = set()
    for generation in range(params.generations):
        children = _propose(params, space, first if generation == 0 else (), floors[-1], result, seen, generation)
        if not children:  # nothing new is left in the space
            break
        for rung in range(params.rungs):
            records = measure(children, rung, generation)
            result.trainings[rung] += len(children)
            result.failed += sum(record["error"] is not None for record in records)
            if rung + 1 < params.rungs:
                kept = selection.survivors(*objectives(records, params, floors[rung]), params.rung_size(rung + 1))
                children = [children[place] for place in sorted(kept.tolist()) if transfer(records[place]) is not None]
        sound = [(c, r) for c, r in zip(children, records, strict=True) if transfer(r) is not None]
        start = len(result.members)
        result.members += [Individual(c, r, generation) for c, r in sound]
        result.population = _select(params, floors[-1], result, range(start, len(result.members)))
        result.generations = generation + 1
        after(result)
    return result


def _propose(
    params: SearchParams,
    space: Space,
    first: Sequence[Genome],
    floor: float | None,
    result: Result,
    seen: set[str],
    generation: int,
) -> list[Proposal]:
    rng = generator(params.seed, generation)
    given = list(first)
    reproducing = params.search == "evolution" and len(result.population) >= 2
    parents = [result.members[place] for place in result.population]
    if reproducing:
        ranks, crowd = selection.ranking(*objectives([member.record for member in parents], params, floor))

    def make() -> tuple[Genome, Sequence[str]]:
        if given:
            return given.pop(0), ()
        if not reproducing:
            return random_genome(rng), ()
        a, b = (parents[place] for place in selection.tournament(rng, ranks, crowd, 2, 2).tolist())
        genome, both = child(rng, a.child.genome, b.child.genome)
        return genome, (a.child.id, b.child.id) if both else (a.child.id,)

    children = []
    for _ in range(params.offspring):
        found = unseen_child(make, space, seen, result.counts)
        if found is None and reproducing:  # the population is all alike
            found = unseen_child(lambda: (random_genome(rng), ()), space, seen, result.counts)
        if found is not None:
            children.append(found)
    return children


def _select(params: SearchParams, floor: float | None, result: Result, new: range) -> list[int]:
    pool = [*result.population, *new]
    if params.ageing:
        kept = selection.youngest([result.members[place].generation for place in pool], params.population)
    else:
        records = [result.members[place].record for place in pool]
        kept = selection.survivors(*objectives(records, params, floor), params.population)
    return sorted(pool[place] for place in kept.tolist())


def front(result: Result, params: SearchParams, floor: float | None) -> list[Individual]:
    """The members that no other beats, by T_cond."""
    if not result.members:
        return []
    found = selection.pareto(*objectives([m.record for m in result.members], params, floor))
    return [result.members[place] for place in found.tolist()]


def hypervolume(records: Sequence[Record]) -> float:
    """Area, in [0, 1], that a front dominates: 1 were accuracy 1 at a T_cond of 0."""
    values = [[transfer(record), -accuracy(record)] for record in records]
    return selection.hypervolume_2d(np.array(values, dtype=float).reshape(-1, 2), (1.0, 0.0))


def finalists(
    result: Result, params: SearchParams, floor: float | None, count: int, *, among: Sequence[Individual] | None = None
) -> list[Individual]:
    """The members to be retrained: of those above the floor the ``count`` with the lowest T_cond.

    Where fewer than ``count`` reach the floor, those that miss it least come next.

    Args:
        result: of the search.
        params, floor: as for :func:`objectives`.
        count: how many.
        among: whom to choose from; None for all members.
    """
    members = result.members if among is None else list(among)
    _, violations = objectives([member.record for member in members], params, floor)
    rates = [member.transfer or 0.0 for member in members]
    order = sorted(range(len(members)), key=lambda place: (violations[place], rates[place], -members[place].accuracy))
    return [members[place] for place in order[:count]]
