"""What workers are given, and what becomes of it: plain values that the processes send each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class TaskResult:
    """What became of one item.

    Attributes:
        item: its position in the items given.
        value: what the function returned; None when it failed.
        error: one line, such as "timed out after 60 s", "worker died (signal 9)", "out of memory" or
            "ValueError: ..."; None when it went well.
        attempts: 1 + the retries used.
        seconds: of the attempt that counted, the last one.
    """

    item: int
    value: Any | None
    error: str | None
    attempts: int
    seconds: float


@dataclass(frozen=True)
class WorkerTask:
    """What every worker does.

    Attributes:
        start: module-level; called once in every worker with ``arguments``; returns the worker's state.
        arguments: picklable.
        function: module-level; (state, item) -> picklable value. An :class:`~advkit.files.errors.InputError` from
            either of the two is the same everywhere, so it stops the run.
    """

    start: Callable[..., Any]
    arguments: tuple[Any, ...]
    function: Callable[[Any, Any], Any]
