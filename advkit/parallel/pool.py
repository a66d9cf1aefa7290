"""Who works on what: retries, time limits and replacements, the same for processes here and on a cluster.

Why not Pebble (5.2.3, tried on Linux): it too outlives workers that die, raise or hang, and takes as long for a trivial
task (0.10 to 0.27 ms, here 0.07 to 0.27, on a busy machine). But it does not retry, the workers of a parent that was
killed lived on at their tasks, and after Ctrl-C its ``with`` still waited for them 15 s later. It would stand for
:mod:`~advkit.parallel.local` and ``child_process`` alone, 204 lines less what makes up for that: Ray needs the rest.
"""

from __future__ import annotations

import pickle
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

from advkit.files.errors import InputError
from advkit.files.signals import raise_if_stopped
from advkit.parallel.task import TaskResult
from advkit.parallel.worker import Message

START_LIMIT = 600.0  # seconds for the first worker to get ready: imports, data sets, a busy cluster

STOPPED = 5.0  # seconds beyond what was asked for after which a wait counts as a stop of this process


class Worker(Protocol):
    """One worker, which answers one thing at a time."""

    def submit(self, item: bytes) -> None:
        """Hand it a pickled item; a worker that is gone says so in its next reply."""
        ...

    def kill(self) -> None:
        """End it at once, whatever it is doing; it is gone when this returns."""
        ...


W = TypeVar("W", bound=Worker)


class Backend(Protocol[W]):
    """Where workers come from."""

    @property
    def size(self) -> int:
        """How many there may be at once."""
        ...

    def start(self) -> W:
        """Start a worker; its first reply says whether it is ready."""
        ...

    def wait(self, workers: Sequence[W], seconds: float | None) -> list[tuple[W, Message]]:
        """The replies that have come, at most one from a worker, after at most ``seconds``; None waits for one."""
        ...


@dataclass(frozen=True)
class _Job:
    item: int
    attempt: int
    began: float = 0.0


class Pool(Generic[W]):
    """An :class:`~advkit.parallel.executor.Executor` over the workers of a crew."""

    def __init__(self, crew: Backend[W], timeout: float | None, retries: int) -> None:
        self._crew, self._timeout, self._retries = crew, timeout, retries
        self._starting: dict[W, float] = {}  # and since when
        self._idle: list[W] = []
        self._busy: dict[W, _Job] = {}
        self._died_starting = 0

    def map(self, items: Sequence[Any]) -> Iterator[TaskResult]:
        """See :meth:`advkit.parallel.executor.Executor.map`."""
        waiting = deque(_Job(item, 1) for item in range(len(items)))
        left = len(items)
        try:
            while left:
                raise_if_stopped()
                self._hire(len(waiting))
                self._hand_out(waiting, items)
                settled = [self._settle(worker, reply, waiting) for worker, reply in self._replies()]
                self._hand_out(waiting, items)  # before the caller takes its time over the outcomes
                for outcome in settled:
                    if outcome is not None:
                        left -= 1
                        yield outcome
        finally:
            for worker in list(self._busy):  # the caller has had enough
                self._busy.pop(worker)
                worker.kill()

    def close(self) -> None:
        """End every worker."""
        for worker in [*self._starting, *self._idle, *self._busy]:
            worker.kill()
        self._starting, self._idle, self._busy = {}, [], {}

    def _hire(self, waiting: int) -> None:
        here = len(self._starting) + len(self._idle) + len(self._busy)
        for _ in range(min(self._crew.size, waiting + len(self._busy)) - here):
            self._starting[self._crew.start()] = time.monotonic()

    def _hand_out(self, waiting: deque[_Job], items: Sequence[Any]) -> None:
        while waiting and self._idle:
            worker, job = self._idle.pop(), waiting.popleft()
            self._busy[worker] = _Job(job.item, job.attempt, time.monotonic())
            worker.submit(pickle.dumps(items[job.item]))

    def _replies(self) -> list[tuple[W, Message]]:
        """What workers say, or what is said for those that ran out of time."""
        limits = [job.began + self._timeout for job in self._busy.values()] if self._timeout is not None else []
        if not self._busy:
            limits += [since + START_LIMIT for since in self._starting.values()]
        asked = time.monotonic()
        seconds = max(0.0, min(limits) - asked) if limits else None
        found = self._crew.wait([*self._busy, *self._starting], seconds)
        now = time.monotonic()
        if not found and limits and not self._busy and now >= min(limits):
            raise InputError(f"no worker was ready within {START_LIMIT:g} s; is the machine or the cluster busy?")
        if self._timeout is not None and seconds is not None:
            if now - asked > seconds + STOPPED:  # all were stopped, as by Ctrl-Z; nobody knows when: a new start
                self._busy = {worker: replace(job, began=now) for worker, job in self._busy.items()}
            heard = {worker for worker, _ in found}
            late = [w for w, job in self._busy.items() if now >= job.began + self._timeout and w not in heard]
            found += [(worker, Message("died", text=f"timed out after {self._timeout:g} s")) for worker in late]
        return found

    def _settle(self, worker: W, reply: Message, waiting: deque[_Job]) -> TaskResult | None:
        """Take note of one reply; an outcome once the item is done with."""
        if reply.kind == "refused":
            raise InputError(reply.text)
        if worker in self._starting:
            self._started(worker, reply)
            return None
        job = self._busy.pop(worker)
        if reply.kind in ("died", "exhausted"):
            worker.kill()
        else:
            self._idle.append(worker)
        seconds = time.monotonic() - job.began if reply.kind == "died" else reply.seconds
        if reply.kind == "done":
            return TaskResult(job.item, reply.value, None, job.attempt, seconds)
        if job.attempt <= self._retries:
            waiting.append(_Job(job.item, job.attempt + 1))
            return None
        return TaskResult(job.item, None, reply.text, job.attempt, seconds)

    def _started(self, worker: W, reply: Message) -> None:
        del self._starting[worker]
        if reply.kind == "done":
            self._idle.append(worker)
            self._died_starting = 0
            return
        worker.kill()
        self._died_starting += 1
        if reply.kind != "died" or self._died_starting > self._retries:
            raise InputError(f"a worker could not start: {reply.text}")
