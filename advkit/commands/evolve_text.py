"""``evolve`` for people: the plan, a live table while it runs, and the table at its end."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from advkit.commands import output

if TYPE_CHECKING:
    from rich.table import Table

    from advkit.commands.evolve_run import SearchRun
    from advkit.evolution.search import Record, Result
    from advkit.reports.results import Rate
    from advkit.reports.results_evolve import EvolveResult, Measured


class Display:
    """Where the search stands, its best, and when it will end, on stderr.

    A live table on a terminal; elsewhere, such as in a log, a line for each generation and each final training.
    """

    def __init__(self, search_run: SearchRun, quiet: bool) -> None:
        from rich.console import Console
        from rich.live import Live

        self._search_run, self._began = search_run, time.perf_counter()
        self._trained, self._failed, self._paid = 0, 0, 0.0
        self._result: Result | None = None
        self._last = "making ready"
        self._live: Live | None = None
        self._lines = not quiet and not sys.stderr.isatty()
        if not quiet and sys.stderr.isatty():
            self._live = Live(self._table(), console=Console(stderr=True), refresh_per_second=4, transient=True)

    def __enter__(self) -> Self:
        if self._lines:
            output.hint("making R's adversarial examples, and its gradients along a candidate's training", quiet=False)
        if self._live is not None:
            self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.__exit__(kind, error, trace)

    def trained(self, record: Record) -> None:
        """One more training is done."""
        from advkit.evolution.search import accuracy, transfer

        stage = str(record["stage"])
        self._failed += record["error"] is not None
        if "generation" in record:
            self._trained += stage == "rung0"
            self._paid += self._search_run.params.rung_fraction(int(stage[4:]))
        rate = transfer(record)
        said = "failed" if rate is None else f"accuracy {100 * accuracy(record):.1f} %, T_cond {100 * rate:.1f} %"
        self._last = f"{record['id']} {stage}: {said}, {output.duration(float(record['seconds']))}"
        if self._lines and "generation" not in record:
            output.hint(self._last, quiet=False)
        self._update()

    def generation(self, result: Result) -> None:
        """A generation is done."""
        self._result = result
        if self._lines and self._paid:  # what was recorded before is gone through in silence
            rows = [f"{name} {said}" if name else said for name, said in self._rows()[:2]]
            front = [f"front {one}" if place == 0 else one for place, one in enumerate(self._best()[:2])]
            output.hint("; ".join([*rows, *front, *(f"{one} left" for one in self._left())]), quiet=False)
        self._update()

    def _update(self) -> None:
        if self._live is not None:
            self._live.update(self._table())

    def _table(self) -> Table:
        from rich.table import Table

        table = Table(box=None, show_header=False, pad_edge=False)
        best = self._best()
        rows = [*self._rows(), ("last", self._last), *(("front" if one is best[0] else "", one) for one in best)]
        for row in [*rows, *(("left", f"{one} for the search") for one in self._left())]:
            table.add_row(*row)
        return table

    def _rows(self) -> list[tuple[str, str]]:
        params, spent = self._search_run.params, time.perf_counter() - self._began
        rate = 3600 * self._trained / max(spent, 1e-9)
        return [
            ("search", f"{params.search}, generation {self._done}/{params.generations}"),
            ("candidates", f"{self._trained} ({self._failed} failed), {rate:.0f} an hour"),
        ]

    @property
    def _done(self) -> int:
        return self._result.generations if self._result else 0

    def _left(self) -> list[str]:
        """When the search will end, as soon as anything was trained to tell it by."""
        params, spent = self._search_run.params, time.perf_counter() - self._began
        left = max(params.cost - self._done * params.generation_cost, 0.0)
        if not self._paid or self._done >= params.generations:
            return []
        return [output.duration(spent / self._paid * left)]

    def _best(self) -> list[str]:
        """The front's size, and its first members."""
        from advkit.evolution import search

        if self._result is None:
            return []
        members = search.front(self._result, self._search_run.params, self._search_run.floors[-1])
        floor = self._search_run.floors[-1]
        below = floor is not None and all(member.accuracy < floor for member in members)
        found = [f"{len(members)} of {len(self._result.members)} candidates{', below the floor' if below else ''}"]
        for member in members[:3]:
            rate = member.transfer or 0.0
            found.append(f"{member.child.id} accuracy {100 * member.accuracy:.1f} %, T_cond {100 * rate:.1f} %")
        return found


def plan(search_run: SearchRun, record: Record, finalists: int) -> list[str]:
    """What a run would do, and how long from one measured candidate."""
    params = search_run.params
    rungs = ", ".join(
        f"{params.rung_size(rung)} on {params.length(search_run.spec.images, rung)} images"
        for rung in range(params.rungs)
    )
    final = search_run.recipe.params
    lines = [
        f"{params.search}: {params.generations} generations of {params.offspring} candidates ({rungs}), "
        f"{search_run.settings['candidate_epochs']} epochs each",
        f"{params.cost:g} of {params.budget} full-length candidate trainings, and "
        f"{params.rungs + len(search_run.others)} trainings of hand-made networks",
        f"then {finalists} finalists from scratch: {final.epochs} epochs on "
        f"{len(search_run.images)} images less {100 * search_run.recipe.validation:g} % held out",
    ]
    if record["error"] is not None:
        return [*lines, f"the candidate that was tried failed: {record['error']}"]
    measuring = float(record["seconds"]) - float(record["training_seconds"])
    one = float(record["training_seconds"]) / params.rung_fraction(0) + measuring
    images = search_run.settings["candidate_images"] * search_run.settings["candidate_epochs"]
    last = one * final.epochs * len(search_run.images) * (1 - search_run.recipe.validation) / images
    floors = sum(params.rung_fraction(rung) for rung in range(params.rungs))
    total = one * (params.cost + floors + len(search_run.others)) + last * finalists
    return [
        *lines,
        f"one candidate took {float(record['seconds']):.1f} s at the first rung: about {output.duration(total)} of one "
        f"worker's time, give or take a factor of two for networks of other sizes",
    ]


def table(result: EvolveResult) -> list[str]:
    """Lines of at most 80 characters."""
    lines = [
        f"{result.search}: {result.generations} generations, {'+'.join(map(str, result.trainings))} trainings "
        f"({result.failed} failed)",
        f"  {result.cost:g} full-length trainings, {output.duration(result.training_seconds)} of workers' time",
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
            lines.append(_row("R' (--like)", result.like))
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
