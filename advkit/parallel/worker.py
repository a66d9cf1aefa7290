"""What happens inside a worker, on whatever machine: get ready, try an item, say in one line what went wrong."""

from __future__ import annotations

import os
import pickle
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from advkit.files.errors import InputError, is_out_of_memory, memory_error
from advkit.parallel.task import WorkerTask

LONGEST = 300  # characters of an error that are worth a line
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class Message:
    """One message from a worker.

    Attributes:
        kind: ``done`` (also: ready for the first item), ``failed`` (this attempt), ``exhausted`` (failed for want of
            memory, so this worker is not to be used again), ``refused`` (bad input, the same for every worker), or
            ``died``, which the one who looks after the worker says for it.
        value: what the function returned.
        text: one line about the failure.
        seconds: spent.
    """

    kind: Literal["done", "failed", "exhausted", "refused", "died"]
    value: Any = None
    text: str = ""
    seconds: float = 0.0


def limit_threads(threads: int) -> None:
    """Let numerical libraries use ``threads``: by the environment those to come, by its own call a torch that is here.

    How many threads add up a sum decides its last bits.
    """
    os.environ.update(dict.fromkeys(THREADS, str(threads)))
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)


class WorkerState:
    """A worker's task and state."""

    def __init__(self) -> None:
        self._task: WorkerTask | None = None
        self._state: Any = None

    def begin(self, task: bytes, threads: int) -> bytes:
        """Unpickle the task and make the state; returns a pickled :class:`Message`."""

        def ready() -> None:
            limit_threads(threads)
            self._task = pickle.loads(task)
            limit_threads(threads)  # torch may have come with the task
            self._state = self._task.start(*self._task.arguments)

        return attempt(ready)

    def work(self, item: bytes) -> bytes:
        """Try one pickled item; returns a pickled :class:`Message`."""
        task = self._task
        assert task is not None
        return attempt(lambda: task.function(self._state, pickle.loads(item)))


def attempt(work: Callable[[], Any]) -> bytes:
    """A pickled :class:`Message` on ``work()``. Plain pickle: no shared memory that dies with a worker."""
    began = time.perf_counter()

    def spent() -> float:
        return time.perf_counter() - began

    try:
        return pickle.dumps(Message("done", work(), seconds=spent()))
    except InputError as error:
        return pickle.dumps(Message("refused", text=str(error), seconds=spent()))
    except Exception as error:  # whatever an item does wrong is that item's result
        if os.environ.get("ADVKIT_DEBUG", "") not in ("", "0"):
            traceback.print_exc()
        if is_out_of_memory(error):
            return pickle.dumps(Message("exhausted", text=memory_error(error), seconds=spent()))
        return pickle.dumps(Message("failed", text=one_line(error), seconds=spent()))


def one_line(error: Exception) -> str:
    """``ValueError: what it says``, on one line of bearable length."""
    text = f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
