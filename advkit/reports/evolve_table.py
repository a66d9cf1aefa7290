"""``evolve`` for people: the plan of a dry run, and the table at the end of a run."""

from __future__ import annotations

from advkit.evolution.search import Record
from advkit.evolution.search_run import SearchRun
from advkit.files.streams import duration
from advkit.reports.evolve import EvolveResult, Measured
from advkit.reports.rates import Rate


def plan(search_run: SearchRun, record: Record) -> list[str]:
    """What a run would do, and how long from one measured candidate."""
    params, finalists = search_run.params, search_run.request.finalists
    rungs = ", ".join(
        f"{params.rung_size(rung)} on {params.length(search_run.spec.images, rung)} images"
        for rung in range(params.rungs)
    )
    final = search_run.recipe.params
    lines = [
        f"{params.search}: {params.generations} generations of {params.offspring} candidates ({rungs}), "
        f"{search_run.spec.epochs} epochs each",
        f"{params.cost:g} of {params.budget} full-length candidate trainings, and "
        f"{params.rungs + len(search_run.others)} trainings of hand-made networks",
        f"then {finalists} finalists from scratch: {final.epochs} epochs on "
        f"{len(search_run.images)} images less {100 * search_run.recipe.validation:g} % held out",
    ]
    if record["error"] is not None:
        return [*lines, f"the candidate that was tried failed: {record['error']}"]
    measuring = float(record["seconds"]) - float(record["training_seconds"])
    one = float(record["training_seconds"]) / params.rung_fraction(0) + measuring
    images = search_run.spec.images * search_run.spec.epochs
    last = one * final.epochs * len(search_run.images) * (1 - search_run.recipe.validation) / images
    floors = sum(params.rung_fraction(rung) for rung in range(params.rungs))
    total = one * (params.cost + floors + len(search_run.others)) + last * finalists
    return [
        *lines,
        f"one candidate took {float(record['seconds']):.1f} s at the first rung: about {duration(total)} of one "
        f"worker's time, give or take a factor of two for networks of other sizes",
    ]


def table(result: EvolveResult) -> list[str]:
    """Lines of at most 80 characters."""
    lines = [
        f"{result.search}: {result.generations} generations, {'+'.join(map(str, result.trainings))} trainings "
        f"({result.failed} failed)",
        f"  {result.cost:g} full-length trainings, {duration(result.training_seconds)} of workers' time",
        f"  {result.draws.drawn} drawn, {result.draws.repaired} repaired, {result.draws.invalid} invalid, "
        f"{result.draws.duplicates} seen before",
        *(f"  the front of {name} dominates an area of {area:.3f}" for name, area in _areas(result)),
        "",
        f"{'trained as candidates':21}  accuracy, %     T_cond, %  95 %, counts    flipped noise",
    ]
    lines += [_row(one.id, one.measured) for one in result.front]
    lines += [_row(one.name.removeprefix("advkit/"), one.measured) for one in result.baselines]
    for other in result.others:
        lines += [_row(f"{other.search} {one.id}", one.measured) for one in other.front]
    if result.finalists:
        lines += ["", "trained by the whole recipe"]
        lines += [
            _row(f"{'E ' if result.chosen and one.id == result.chosen.id else '  '}{one.id}", one.measured)
            for one in result.finalists
        ]
        if result.like is not None:
            lines.append(_row("R' (--recipe-from)", result.like))
    if result.checkpoint is not None:
        lines += ["", f"E: {result.checkpoint}"]
    return lines


def _areas(result: EvolveResult) -> list[tuple[str, float]]:
    others = [(f"{other.search} ({other.directory})", other.hypervolume) for other in result.others]
    return [(name, area) for name, area in [(result.search, result.hypervolume), *others] if area is not None]


def _row(name: str, measured: Measured | None) -> str:
    if measured is None:
        return f"  {name[:19]:19}  failed"
    accuracy, cond = measured.accuracy, measured.cond
    low, high = cond.interval or (0.0, 0.0)
    interval = f"[{100 * low:.1f}, {100 * high:.1f}]" if cond.interval else "-"
    return (
        f"  {name[:19]:19}  {_percent(accuracy)} {f'({accuracy.successes}/{accuracy.total})':11}"
        f"{_percent(cond)} {interval:13} {f'{cond.successes}/{cond.total}':8} "
        f"{_percent(measured.flipped)} {_percent(measured.noise)}"
    )


def _percent(value: Rate) -> str:
    return f"{'-' if value.rate is None else f'{100 * value.rate:.1f}':>5}"
