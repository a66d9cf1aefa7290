"""Worker processes on this machine.

Each has a pipe of its own and shares no lock with the others: one that is killed at any moment leaves nothing behind
that another one waits for. (Pools with a common queue stall or break when a worker dies holding the queue's lock.)
"""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait

from advkit.engines.attempt import Reply, Workplace
from advkit.engines.engine import Task
from advkit.engines.pool import Pool
from advkit.engines.processes import Child


class LocalWorker:
    """One process; methods as in :class:`advkit.engines.pool.Worker`."""

    def __init__(self, task: bytes, threads: int) -> None:
        self._child = Child(_serve, task, threads)
        self.signs, self.kill = self._child.signs, self._child.kill

    def give(self, item: bytes) -> None:
        """Hand it a pickled item."""
        with contextlib.suppress(OSError):  # it is gone: the next reply says so
            self._child.pipe.send_bytes(item)

    def reply(self) -> Reply | None:
        """What it says, or what is said for it when it is gone; None when neither."""
        try:
            message = self._child.receive()
        except EOFError as end:
            return Reply("died", text=str(end))
        found = None if message is None else pickle.loads(message)
        assert found is None or isinstance(found, Reply)
        return found


class LocalCrew:
    """Starts processes and listens to them; methods as in :class:`advkit.engines.pool.Crew`."""

    def __init__(self, task: Task, size: int, threads: int) -> None:
        self.size = size
        self._task, self._threads = pickle.dumps(task), threads

    def hire(self) -> LocalWorker:
        """Start a process."""
        return LocalWorker(self._task, self._threads)

    def wait(self, workers: Sequence[LocalWorker], seconds: float | None) -> list[tuple[LocalWorker, Reply]]:
        """The replies that have come."""
        owners = {sign: worker for worker in workers for sign in worker.signs()}
        spoken = dict.fromkeys(owners[sign] for sign in wait(list(owners), seconds))  # type: ignore[index]
        replies = ((worker, worker.reply()) for worker in spoken)
        return [(worker, reply) for worker, reply in replies if reply is not None]


@contextlib.contextmanager
def local_engine(
    task: Task, *, workers: int, threads: int, timeout: float | None, retries: int
) -> Iterator[Pool[LocalWorker]]:
    """Up to ``workers`` processes; arguments as :func:`advkit.engines.engine.open_engine`."""
    pool = Pool(LocalCrew(task, workers, threads), timeout, retries)
    try:
        yield pool
    finally:
        pool.close()


def _serve(pipe: Connection, task: bytes, threads: int) -> None:
    """A worker's whole life."""
    place = Workplace()
    pipe.send_bytes(place.begin(task, threads))
    while True:
        try:
            item = pipe.recv_bytes()
        except EOFError:
            return
        pipe.send_bytes(place.work(item))
