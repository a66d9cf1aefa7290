"""Progress for people, on stderr."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from advkit.files.signals import raise_if_stopped
from advkit.files.streams import duration, say

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

_PERIOD = 0.1  # seconds between two drawings
_LINE = 30.0  # and between two lines of a log


class Progress:
    """A line on the terminal that goes when the block ends; in a log, a line every half minute of :meth:`step`."""

    def __init__(self, quiet: bool) -> None:
        self._on = not quiet and sys.stderr.isatty()
        self._lines = not quiet and not self._on
        self._last, self._began = 0.0, time.perf_counter()
        self._said = self._began
        self._bar: Bar | None = None

    def __enter__(self) -> Self:
        if self._on:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            # Drawn by hand: a thread that refreshes would take turns with the work.
            columns = TextColumn("{task.description}"), BarColumn(20), TextColumn("{task.fields[left]}")
            console = Console(stderr=True, highlight=False)
            self._bar = Progress(*columns, console=console, transient=True, auto_refresh=False)
            self._bar.start()
            self._bar.add_task("", total=None, left="", visible=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def step(self, what: str, done: int, total: int) -> None:
        """``what``, the share that is done, and the time left; raises a stop signal that got lost on the way."""
        raise_if_stopped()
        left = (time.perf_counter() - self._began) / max(done, 1) * (total - done)
        self.show(f"{what}  {done}/{total}", done, total, left)
        self._log(f"{what} {done}/{total}, {duration(left)} left")

    def note(self, text: str) -> None:
        """What was done meanwhile, in between two steps; raises as :meth:`step` does."""
        raise_if_stopped()
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], description=text, visible=True)
            self._bar.refresh()
        self._log(text)

    def _log(self, text: str) -> None:
        now = time.perf_counter()
        if self._lines and now - self._said > _LINE:
            self._said = now
            say(f"advkit: {text}")

    def show(self, text: str, done: float, total: float, left: float) -> None:
        """Any text, a share, and the seconds left."""
        now = time.perf_counter()
        if self._bar is not None and now - self._last > _PERIOD:
            self._last = now
            said = f"{duration(left)} left"
            self._bar.update(
                self._bar.task_ids[0], description=text, completed=done, total=total, left=said, visible=True
            )
            self._bar.refresh()
