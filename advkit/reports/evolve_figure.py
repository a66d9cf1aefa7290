"""The two figures of ``evolve``: accuracy against T_cond, and the evolved graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from advkit.evolution.search_run import SearchRun
from advkit.reports.evolve import Candidate, EvolveResult, Measured


def draw_front(path: Path, search_run: SearchRun, result: EvolveResult) -> None:
    """Candidates and front of this run, fronts of others, R' and the hand-made: all at a candidate's budget."""
    from advkit.figures import front
    from advkit.figures.front import Group, Point

    def point(measured: Measured | None, label: str = "") -> Point:
        if measured is None:
            return Point(None, None, label=label)
        bars = (measured.accuracy.interval, measured.cond.interval) if label else (None, None)
        return Point(measured.accuracy.rate, measured.cond.rate, *bars, label)

    chosen = result.chosen.id if result.chosen is not None else None

    def points(candidates: Sequence[Candidate]) -> list[Point]:
        return [point(one.measured) for one in candidates]

    def hand(wanted: Callable[[str], bool]) -> list[Point]:
        return [point(one.measured, one.name) for one in result.baselines if wanted(one.name)]

    found = {one.id for one in result.front}
    e = [point(one.measured, "E") for one in result.members if one.id == chosen]
    groups = [
        Group(result.search, points([one for one in result.members if one.id not in found]), "candidates"),
        Group(f"front of {result.search}", points(result.front), "front"),
        Group("of these, E", e, "chosen"),
        *(Group(f"front of {other.search}", points(other.front), "random-front") for other in result.others),
        Group("R's architecture", hand(lambda name: name == search_run.own.name), "reference"),
        Group("made by hand", hand(lambda name: name != search_run.own.name), "control"),
    ]
    images = next((one.measured.accuracy.total for one in result.members if one.measured is not None), 0)
    front.draw(
        path,
        [group for group in groups if group.points],
        title=f"Candidates for R = {search_run.reference.spec.ref.rpartition('/')[2]}",
        floor=result.floors[-1],
        axes=("validation accuracy", "T_cond from R"),
        note=f"{images} validation images; the search cost {result.cost:g} full-length candidate trainings.",
    )


def draw_architecture(path: Path, search_run: SearchRun, result: EvolveResult) -> None:
    """E as a graph, with the size of every map: a picture, or Graphviz DOT."""
    from advkit.figures import architecture
    from advkit.models.genome.genes import from_json
    from advkit.models.genome.shapes import plan_shapes, side

    chosen = result.chosen
    assert chosen is not None
    note = f"{chosen.parameters:,} parameters, {chosen.multiply_adds:,} multiply-adds."
    channels, height, width = search_run.reference.spec.input_size
    genome = from_json(chosen.genome)
    maps = plan_shapes(genome, search_run.reference.spec.num_classes, channels).maps
    shapes = {k: (one.channels, side(height, one.halvings), side(width, one.halvings)) for k, one in maps.items()}
    architecture.draw(path, genome, title=f"E {chosen.id}", note=note, shapes=shapes)
