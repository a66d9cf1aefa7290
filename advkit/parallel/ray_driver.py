"""The process that uses Ray: a pool of actors, driven through a pipe."""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
import os
import pickle
import socket
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

import advkit
from advkit.files.errors import InputError
from advkit.parallel.pool import Pool
from advkit.parallel.worker import Message, WorkerState, attempt, one_line

# Read when Ray is imported: no usage statistics, and no upload of the working directory under `uv run`.
SETTINGS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}


class RayWorkerState(WorkerState):
    """A worker on a machine of the cluster."""

    def begin_there(self, task: bytes, threads: int, directory: str, expected: dict[str, str]) -> bytes:
        """As :meth:`begin`, once this machine has the same files and the same software as the one that asks."""

        def fits() -> None:
            here = socket.gethostname()
            for name, version in versions().items():
                if version != expected[name]:
                    raise InputError(f"{here} has {name} {version}, not {expected[name]}; install the same everywhere")
            try:
                os.chdir(directory)
            except OSError as error:
                raise InputError(f"{here} has no {directory}; its machines must share the file system") from error

        refused = attempt(fits)
        return self.begin(task, threads) if pickle.loads(refused).kind == "done" else refused


class RayWorker:
    """One actor; methods as in :class:`advkit.parallel.pool.Worker`.

    Attributes:
        pending: reference to the reply that it owes; None when it owes none.
    """

    def __init__(self, actor: Any, pending: Any) -> None:
        self._actor, self.pending = actor, pending

    def submit(self, item: bytes) -> None:
        """Hand it a pickled item."""
        self.pending = self._actor.work.remote(item)

    def reply(self) -> Message:
        """What it says, or what is said for it when it is gone."""
        import ray

        pending, self.pending = self.pending, None
        try:
            found = pickle.loads(ray.get(pending))
        except ray.exceptions.RayError as error:
            return Message("died", text=_death(error))
        assert isinstance(found, Message)
        return found

    def kill(self) -> None:
        """End it."""
        import ray

        ray.kill(self._actor)


class RayBackend:
    """Starts actors and listens to them; methods as in :class:`advkit.parallel.pool.Backend`."""

    def __init__(self, address: str, task: bytes, workers: int, threads: int, gpus: int, directory: str) -> None:
        import ray

        self.size = _places(ray.nodes(), threads, gpus)  # type: ignore[no-untyped-call]
        if self.size == 0:
            needed = f"{threads} CPUs{f' and {gpus} GPUs' if gpus else ''}"
            raise InputError(f"--ray {address}: no machine of the cluster has {needed}")
        if workers > 1:
            self.size = workers
        self._arguments = (task, threads, directory, versions())
        self._actor: Any = ray.remote(num_cpus=threads, num_gpus=gpus, max_restarts=0, max_task_retries=0)(
            RayWorkerState
        )

    def start(self) -> RayWorker:
        """Start an actor, where the cluster has room."""
        actor = self._actor.remote()
        return RayWorker(actor, actor.begin_there.remote(*self._arguments))

    def wait(self, workers: Sequence[RayWorker], seconds: float | None) -> list[tuple[RayWorker, Message]]:
        """The replies that have come."""
        import ray

        owners = {worker.pending: worker for worker in workers}
        ready, rest = ray.wait(list(owners), timeout=seconds)
        if rest:
            ready += ray.wait(rest, num_returns=len(rest), timeout=0)[0]
        return [(owners[reference], owners[reference].reply()) for reference in ready]


def drive(pipe: Connection, address: str, task: bytes, settings: dict[str, Any], directory: str) -> None:
    """Join the cluster, say so, and answer every list of items with its outcomes: the life of the child."""
    if os.environ.get("ADVKIT_DEBUG", "") in ("", "0"):
        _be_quiet()
    try:
        _join(address)
        crew = RayBackend(address, task, settings["workers"], settings["threads"], settings["gpus"], directory)
        pool = Pool(crew, settings["timeout"], settings["retries"])
        pipe.send_bytes(pickle.dumps(Message("done")))
        with contextlib.suppress(EOFError):
            while True:
                items = [pickle.loads(item) for item in pickle.loads(pipe.recv_bytes())]
                for outcome in pool.map(items):
                    pipe.send_bytes(pickle.dumps(outcome))
    except InputError as error:
        pipe.send_bytes(pickle.dumps(Message("refused", text=str(error))))


def versions() -> dict[str, str]:
    """Of what decides whether two machines do the same with the same pickles; Ray itself and Python it compares."""
    return {"advkit": advkit.__version__, "torch": importlib.metadata.version("torch").partition("+")[0]}


def _join(address: str) -> None:
    """Become a driver of the cluster.

    Raises:
        InputError: Ray refuses; its reason in one line.
    """
    os.environ.update(SETTINGS)
    import ray

    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except ConnectionError as error:
        advice = "'ray start --head' starts one" if address == "auto" else "see what 'ray status' says"
        raise InputError(f"--ray {address}: finds no Ray cluster; {advice}") from error
    except (RuntimeError, ValueError) as error:
        raise InputError(f"--ray {address}: {error}") from error


def _places(nodes: Sequence[dict[str, Any]], threads: int, gpus: int) -> int:
    """How many workers of ``threads`` CPUs and ``gpus`` GPUs the machines have room for."""
    places = 0
    for node in nodes:
        if node["Alive"]:
            room = node["Resources"].get("CPU", 0) // threads
            places += int(min(room, node["Resources"].get("GPU", 0) // gpus) if gpus else room)
    return places


def _death(error: Exception) -> str:
    """Ray's paragraph about a worker that is gone, in a line."""
    text = " ".join(str(error).split())
    if "OutOfMemory" in type(error).__name__ or "memory monitor" in text:
        return "out of memory"
    found = text.partition("Worker exit detail: ")[2].partition(". ")[0]
    return f"worker died ({found})" if found else f"worker died ({one_line(error)})"


def _be_quiet() -> None:
    """Stdout and stderr go nowhere: Ray writes on both, also from C++."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.close(nowhere)
