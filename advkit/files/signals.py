"""SIGINT and SIGTERM as a question that a loop asks between two steps."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

from advkit.files.errors import Interrupted


class Stop:
    """Whether, and by which signal, the run was asked to stop."""

    signum: int | None = None

    def __bool__(self) -> bool:
        return self.signum is not None


@contextlib.contextmanager
def catch_stop_signals() -> Iterator[Stop]:
    """The first SIGINT or SIGTERM sets the yielded flag; the second one interrupts at once."""
    stop = Stop()

    def asked(signum: int, frame: FrameType | None) -> None:
        if stop.signum is not None:
            raise Interrupted(signum, "stopped at once by a second signal")
        stop.signum = signum

    before = {number: signal.signal(number, asked) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
