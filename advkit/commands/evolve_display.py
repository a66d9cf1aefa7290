"""``evolve`` while it runs: a live table on a terminal, lines in a log."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from advkit.files.streams import duration, say

if TYPE_CHECKING:
    from rich.table import Table

    from advkit.evolution.search import Record, Result
    from advkit.evolution.search_run import SearchRun


class Display:
    """Where the search stands, its best, and when it will end, on stderr.

    An :class:`advkit.evolution.run_search.Observer`. A live table on a terminal; elsewhere, such as in a log, a line
    for each generation and each final training.
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
        return self

    def begin(self) -> None:
        """The work begins."""
        if self._lines:
            say("advkit: making R's adversarial examples, and its gradients along a candidate's training")
        if self._live is not None:
            self._live.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

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
        self._last = f"{record['id']} {stage}: {said}, {duration(float(record['seconds']))}"
        if self._lines and "generation" not in record:
            say(f"advkit: {self._last}")
        self._update()

    def generation(self, result: Result) -> None:
        """A generation is done."""
        self._result = result
        if self._lines and self._paid:  # what was recorded before is gone through in silence
            rows = [f"{name} {said}" if name else said for name, said in self._rows()[:2]]
            front = [f"front {one}" if place == 0 else one for place, one in enumerate(self._best()[:2])]
            said = "; ".join([*rows, *front, *(f"{one} left" for one in self._left())])
            say(f"advkit: {said}")
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
        return [duration(spent / self._paid * left)]

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
