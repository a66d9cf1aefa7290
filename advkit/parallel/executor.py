"""One function over many items, in workers that may raise, hang or die without taking the run along."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from advkit.parallel.task import TaskResult, WorkerTask


class Executor(Protocol):
    """Workers that are ready for items."""

    def map(self, items: Sequence[Any]) -> Iterator[TaskResult]:
        """One outcome for each of ``items``, in order of completion.

        Workers stay for the next call.

        Raises:
            InputError: bad input that a worker met, or workers that cannot start.
        """
        ...


def open_executor(
    task: WorkerTask,
    *,
    workers: int = 1,
    ray: str | None = None,
    threads: int = 1,
    timeout: float | None = None,
    retries: int = 1,
    gpus: int = 0,
) -> AbstractContextManager[Executor]:
    """Workers for ``task``, which start when they are first needed and end with the ``with`` block, however it ends.

    The values do not depend on the number of workers as long as ``task.function`` depends on its item only: every
    worker, also a single one, is a process of its own with the same number of threads.

    Args:
        task: what to do.
        workers: processes on this machine, or on the Ray cluster; 1 on a cluster means one for each of its CPUs.
        ray: address of a Ray cluster, HOST:PORT or auto; None for this machine.
        threads: of each worker.
        timeout: seconds for one attempt at one item; None for no limit.
        retries: further attempts after an item's worker raised, hung or died.
        gpus: that Ray sets aside for each worker; on this machine all workers see all GPUs.

    Raises:
        InputError: no Ray, or no cluster at that address.
    """
    if ray is not None:
        from advkit.parallel.ray_client import ray_executor

        return ray_executor(task, ray, workers=workers, threads=threads, timeout=timeout, retries=retries, gpus=gpus)
    from advkit.parallel.local import local_executor

    return local_executor(task, workers=workers, threads=threads, timeout=timeout, retries=retries)
