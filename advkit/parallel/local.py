"""Worker processes on this machine.

Each has a pipe of its own and shares no lock with the others: one that is killed at any moment leaves nothing behind
that another one waits for. (Pools with a common queue stall or break when a worker dies holding the queue's lock.)
"""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait

from advkit.parallel.child_process import ChildProcess
from advkit.parallel.pool import Pool
from advkit.parallel.task import WorkerTask
from advkit.parallel.worker import Message, WorkerState


class LocalWorker:
    """One process; methods as in :class:`advkit.parallel.pool.Worker`."""

    def __init__(self, task: bytes, threads: int) -> None:
        self._child = ChildProcess(_serve, task, threads)
        self.wait_handles, self.kill = self._child.wait_handles, self._child.kill

    def submit(self, item: bytes) -> None:
        """Hand it a pickled item."""
        with contextlib.suppress(OSError):  # it is gone: the next reply says so
            self._child.pipe.send_bytes(item)

    def reply(self) -> Message | None:
        """What it says, or what is said for it when it is gone; None when neither."""
        try:
            message = self._child.receive()
        except EOFError as end:
            return Message("died", text=str(end))
        found = None if message is None else pickle.loads(message)
        assert found is None or isinstance(found, Message)
        return found


class LocalBackend:
    """Starts processes and listens to them; methods as in :class:`advkit.parallel.pool.Backend`."""

    def __init__(self, task: WorkerTask, size: int, threads: int) -> None:
        self.size = size
        self._task, self._threads = pickle.dumps(task), threads

    def start(self) -> LocalWorker:
        """Start a process."""
        return LocalWorker(self._task, self._threads)

    def wait(self, workers: Sequence[LocalWorker], seconds: float | None) -> list[tuple[LocalWorker, Message]]:
        """The replies that have come."""
        owners = {sign: worker for worker in workers for sign in worker.wait_handles()}
        spoken = dict.fromkeys(owners[sign] for sign in wait(list(owners), seconds))  # type: ignore[index]
        replies = ((worker, worker.reply()) for worker in spoken)
        return [(worker, reply) for worker, reply in replies if reply is not None]


@contextlib.contextmanager
def local_executor(
    task: WorkerTask, *, workers: int, threads: int, timeout: float | None, retries: int
) -> Iterator[Pool[LocalWorker]]:
    """Up to ``workers`` processes; arguments as :func:`advkit.parallel.executor.open_executor`."""
    pool = Pool(LocalBackend(task, workers, threads), timeout, retries)
    try:
        yield pool
    finally:
        pool.close()


def _serve(pipe: Connection, task: bytes, threads: int) -> None:
    """A worker's whole life."""
    place = WorkerState()
    pipe.send_bytes(place.begin(task, threads))
    while True:
        try:
            item = pipe.recv_bytes()
        except EOFError:
            return
        pipe.send_bytes(place.work(item))
