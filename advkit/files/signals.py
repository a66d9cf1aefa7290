"""SIGINT and SIGTERM: an exception wherever the program is, or a question that a loop asks between two steps.

An exception can get lost: NumPy 2.4's ``Generator.choice(..., p=...)`` swallowed 299 of 400 that a handler raised
within it. So the signal is remembered, and loops ask :func:`raise_if_stopped`.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

from advkit.files.errors import Interrupted


class Stop:
    """Whether, and by which signal, the run was asked to stop."""

    signum: int | None = None

    def __bool__(self) -> bool:
        return self.signum is not None


_stop = Stop()


def raise_on_stop_signals() -> None:
    """From here on SIGINT raises ``KeyboardInterrupt`` and SIGTERM ``Interrupted``; no signal has come so far.

    A SIGINT that is ignored, as by programs that a script starts in the background, stays ignored.
    """
    _stop.signum = None
    signal.signal(signal.SIGTERM, _raise)
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, _raise)


def raise_if_stopped() -> None:
    """Raise again what a signal raised and somebody else's code swallowed."""
    if _stop.signum is not None:
        raise Interrupted(_stop.signum)


def _raise(signum: int, frame: FrameType | None) -> NoReturn:
    _stop.signum = signum
    raise KeyboardInterrupt if signum == signal.SIGINT else Interrupted(signum)


@contextlib.contextmanager
def catch_stop_signals() -> Iterator[Stop]:
    """The first SIGINT or SIGTERM sets the yielded flag; the second one interrupts at once.

    Raises:
        Interrupted: a signal had come before.
    """
    stop = Stop()

    def asked(signum: int, frame: FrameType | None) -> None:
        if stop.signum is not None:
            raise Interrupted(signum, "stopped at once by a second signal")
        stop.signum = signum

    before = {number: signal.signal(number, asked) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        raise_if_stopped()
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
