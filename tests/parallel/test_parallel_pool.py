"""Time limits by a clock that the test turns, and signals that get lost."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Sequence

import pytest

from advkit.files.errors import Interrupted
from advkit.files.signals import raise_on_stop_signals
from advkit.parallel.pool import Pool
from advkit.parallel.worker import Message


class Clock:
    now = 0.0

    def monotonic(self) -> float:
        return self.now


class Silent:
    """A worker that gets ready and then says nothing until ``answers`` at some time."""

    def __init__(self) -> None:
        self.ready = False

    def submit(self, item: bytes) -> None:
        pass

    def kill(self) -> None:
        pass


class Backend:
    """One worker; the first wait lasts ``longer`` than asked for, and after ``answers`` seconds there is a reply."""

    size = 1

    def __init__(self, clock: Clock, longer: float, answers: float) -> None:
        self.clock, self.longer, self.answers = clock, longer, answers

    def start(self) -> Silent:
        return Silent()

    def wait(self, workers: Sequence[Silent], seconds: float | None) -> list[tuple[Silent, Message]]:
        (worker,) = workers
        if not worker.ready:
            worker.ready = True
            return [(worker, Message("done"))]
        assert seconds is not None
        self.clock.now += seconds + self.longer
        self.longer = 0.0
        return [(worker, Message("done", value="late"))] if self.clock.now >= self.answers else []


@pytest.mark.parametrize(
    ("longer", "answers", "value"),
    [
        (0.0, 9.0, None),  # out of time at 8
        (1.0, 9.0, "late"),  # said at 9, before anybody looked at the time
        (1.0, 10.0, None),  # nothing yet when somebody looked at 9
        (3600.0, 3609.0, "late"),  # Ctrl-Z for an hour: the clock starts anew
        (3600.0, 9999.0, None),  # but it is still there
    ],
)
def test_a_stop_of_the_whole_run_is_no_time_that_a_worker_had(
    longer: float, answers: float, value: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr("advkit.parallel.pool.time", clock)
    crew = Backend(clock, longer, answers)
    pool = Pool(crew, 8.0, 0)
    for outcome in pool.map(["x"]):
        assert outcome.value == value
        assert outcome.error == (None if value else "timed out after 8 s")


class Swallowing(Backend):
    """A signal comes while the first worker starts, and its exception gets lost there."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(Clock(), 0.0, 0.0)
        self.numbers = [number]

    def start(self) -> Silent:
        with contextlib.suppress(BaseException):
            for number in self.numbers:
                os.kill(os.getpid(), number)
        self.numbers = []
        return Silent()

    def wait(self, workers: Sequence[Silent], seconds: float | None) -> list[tuple[Silent, Message]]:
        (worker,) = workers
        reply = Message("done", value="done" if worker.ready else None)
        worker.ready = True
        return [(worker, reply)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_whose_exception_was_swallowed_stops_the_next_round(number: signal.Signals) -> None:
    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}
    raise_on_stop_signals()
    try:
        pool = Pool(Swallowing(number), None, 0)
        with pytest.raises(Interrupted) as caught:
            list(pool.map(["x"]))
        assert caught.value.signum == number
        raise_on_stop_signals()  # a new run
        assert [outcome.value for outcome in pool.map(["x"])] == ["done"]
    finally:
        raise_on_stop_signals()
        for one, handler in before.items():
            signal.signal(one, handler)
