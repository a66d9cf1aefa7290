"""Stop signals whose exceptions get lost, and those that are not ours to catch."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator

import pytest

from advkit.commands.output import Progress
from advkit.files.errors import Interrupted
from advkit.files.signals import catch_stop_signals, raise_if_stopped, raise_on_stop_signals


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    raise_on_stop_signals()
    yield
    raise_on_stop_signals()
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(("number", "kind"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Interrupted)])
def test_what_was_swallowed_is_raised_by_whoever_asks_next(number: signal.Signals, kind: type[BaseException]) -> None:
    raise_if_stopped()  # nothing has come
    with pytest.raises(kind):
        os.kill(os.getpid(), number)
    progress = Progress(quiet=True)
    for ask in (raise_if_stopped, lambda: progress.step("x", 1, 2), lambda: progress.note("x")):
        with pytest.raises(Interrupted) as caught:
            ask()
        assert caught.value.signum == number
    with pytest.raises(Interrupted), catch_stop_signals():
        pytest.fail("a loop began")
    raise_on_stop_signals()  # another run
    raise_if_stopped()


def test_an_ignored_interrupt_stays_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise_on_stop_signals()
    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    os.kill(os.getpid(), signal.SIGINT)
    raise_if_stopped()


def test_a_flag_is_set_and_a_second_signal_interrupts() -> None:
    with contextlib.suppress(Interrupted), catch_stop_signals() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.signum == signal.SIGINT
        with pytest.raises(Interrupted, match="second signal"):
            os.kill(os.getpid(), signal.SIGTERM)
    raise_if_stopped()  # it was told by the flag
