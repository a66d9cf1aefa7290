"""Worker processes on this machine.

Each has a pipe of its own and shares no lock with the others: one that is killed at any moment leaves nothing behind
that another one waits for. (Process pools with a common queue stall or break when a worker dies holding its lock.)
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import pickle
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait

from advkit.engines.attempt import Reply, Workplace
from advkit.engines.engine import Task
from advkit.files.errors import InputError

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_CONTEXT = multiprocessing.get_context("spawn")  # a fork would copy the threads' locks, and CUDA does not survive one


class LocalWorker:
    """One process and the pipe to it."""

    def __init__(self, task: bytes, threads: int) -> None:
        self._pipe, theirs = _CONTEXT.Pipe()
        self._process = _CONTEXT.Process(target=_serve, args=(theirs, task, threads), daemon=True)
        # The terminal's Ctrl-C reaches the whole group: blocked until the worker ignores it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._process.start()
        except OSError as error:
            raise InputError(f"cannot start a worker: {error.strerror or error}; use fewer --workers") from error
        finally:
            theirs.close()
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def signs(self) -> tuple[Connection, int]:
        """What becomes readable when there is a reply, or when the process is gone."""
        return self._pipe, self._process.sentinel

    def give(self, item: bytes) -> None:
        """See :class:`advkit.engines.pool.Worker`."""
        with contextlib.suppress(OSError):  # it is gone: the next reply says so
            self._pipe.send_bytes(item)

    def reply(self) -> Reply:
        """The reply that is there, or that the process is gone."""
        try:
            if self._pipe.poll():
                found = pickle.loads(self._pipe.recv_bytes())
                assert isinstance(found, Reply)
                return found
        except (EOFError, OSError):  # nothing, or half a reply
            pass
        self._process.join(1.0)
        code = self._process.exitcode
        if code is None:
            return Reply("died", text="worker closed its pipe")
        return Reply("died", text=f"worker died ({f'signal {-code}' if code < 0 else f'exit status {code}'})")

    def kill(self) -> None:
        """See :class:`advkit.engines.pool.Worker`."""
        if self._process.pid is not None:
            self._process.kill()
            self._process.join()
        self._pipe.close()


class LocalCrew:
    """Starts processes and listens to them."""

    def __init__(self, task: Task, size: int, threads: int) -> None:
        self.size = size
        self._task, self._threads = pickle.dumps(task), threads

    def hire(self) -> LocalWorker:
        """See :class:`advkit.engines.pool.Crew`."""
        return LocalWorker(self._task, self._threads)

    def wait(self, workers: Sequence[LocalWorker], seconds: float | None) -> list[tuple[LocalWorker, Reply]]:
        """See :class:`advkit.engines.pool.Crew`."""
        owners = {sign: worker for worker in workers for sign in worker.signs()}
        spoken = dict.fromkeys(owners[sign] for sign in wait(list(owners), seconds))  # type: ignore[index]
        return [(worker, worker.reply()) for worker in spoken]


@contextlib.contextmanager
def local_crew(task: Task, *, workers: int, threads: int) -> Iterator[LocalCrew]:
    """Up to ``workers`` processes; arguments as :func:`advkit.engines.engine.open_engine`."""
    yield LocalCrew(task, workers, threads)


def _serve(pipe: Connection, task: bytes, threads: int) -> None:
    """A worker's whole life."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    _end_with_parent()
    os.dup2(2, 1)  # stdout carries the run's report: a worker's chatter goes to stderr
    place = Workplace()
    pipe.send_bytes(place.begin(task, threads))
    while True:
        try:
            item = pipe.recv_bytes()
        except EOFError:
            return
        pipe.send_bytes(place.work(item))


def _end_with_parent() -> None:
    """Die when the parent does, however it dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    def watch() -> None:  # for other systems, and a parent that was gone before the line above
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
