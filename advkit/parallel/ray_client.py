"""Workers on a Ray cluster, as this process sees them.

Ray itself is used by one child of this process (:mod:`advkit.parallel.ray_driver`), because it takes over the process
that uses it: it prints on stdout, replaces signal handlers, waits minutes for a cluster that is not there, and ends the
process when the cluster goes.
"""

from __future__ import annotations

import importlib.util
import os
import pickle
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from advkit.files.errors import InputError
from advkit.parallel.child_process import ChildProcess
from advkit.parallel.task import TaskResult, WorkerTask
from advkit.parallel.worker import Message

CONNECT_LIMIT = 3.0  # seconds until HOST:PORT accepts a connection
OPEN_LIMIT = 30.0  # seconds until Ray answers there; it takes one or two


class RayExecutor:
    """An :class:`~advkit.parallel.executor.Executor` whose pool lives in the child.

    Args:
        address: of the cluster.
        arguments: of :func:`advkit.parallel.ray_driver.drive`, after the pipe.
    """

    def __init__(self, address: str, *arguments: Any) -> None:
        self._address, self._arguments = address, arguments
        self._child: ChildProcess | None = self._join()

    def map(self, items: Sequence[Any]) -> Iterator[TaskResult]:
        """See :meth:`advkit.parallel.executor.Executor.map`."""
        child = self._child = self._child or self._join()
        child.pipe.send_bytes(pickle.dumps([pickle.dumps(item) for item in items]))
        left = len(items)
        try:
            while left:
                outcome = self._receive(child, None)
                assert isinstance(outcome, TaskResult)
                left -= 1
                yield outcome
        finally:
            if left:  # the caller has had enough
                self.close()

    def close(self) -> None:
        """End the child; the cluster ends the workers of a driver that is gone."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()

    def _join(self) -> ChildProcess:
        from advkit.parallel.ray_driver import drive

        child = ChildProcess(drive, self._address, *self._arguments)
        try:
            self._receive(child, OPEN_LIMIT)
        except BaseException:
            child.kill()
            raise
        return child

    def _receive(self, child: ChildProcess, seconds: float | None) -> Any:
        """The child's next message.

        Raises:
            InputError: what it complains of, its death, or silence for ``seconds``.
        """
        try:
            message = child.receive(seconds)
        except EOFError:
            raise InputError(f"--ray {self._address}: lost the cluster; is it still running?") from None
        if message is None:
            raise InputError(f"--ray {self._address}: no Ray cluster answers there; see what 'ray status' says")
        found = pickle.loads(message)
        if isinstance(found, Message) and found.kind == "refused":
            raise InputError(found.text)
        return found


@contextmanager
def ray_executor(
    task: WorkerTask,
    address: str,
    *,
    workers: int,
    threads: int,
    timeout: float | None,
    retries: int,
    gpus: int,
) -> Iterator[RayExecutor]:
    """Workers on the cluster at ``address``; arguments as :func:`advkit.parallel.executor.open_executor`."""
    if importlib.util.find_spec("ray") is None:
        raise InputError(f"--ray {address}: Ray is not installed; pip install advkit[ray]")
    _require_listener(address)
    settings = {"workers": workers, "threads": threads, "timeout": timeout, "retries": retries, "gpus": gpus}
    executor = RayExecutor(address, pickle.dumps(task), settings, os.getcwd())
    try:
        yield executor
    finally:
        executor.close()


def _require_listener(address: str) -> None:
    """Find out at once what Ray would find out in minutes.

    Raises:
        InputError: not HOST:PORT or auto, or nothing accepts a connection there.
    """
    if address == "auto":
        return
    host, colon, port = address.rpartition(":")
    if not (colon and host and port.isdecimal() and int(port) < 2**16 and "/" not in host):
        raise InputError(f"--ray {address}: write HOST:PORT, as 'ray start --head' prints it, or auto")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_LIMIT).close()
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"--ray {address}: no cluster there ({reason}); 'ray start --head' starts one") from error
