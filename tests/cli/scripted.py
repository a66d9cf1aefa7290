"""``advkit`` whose candidates turn out as they are told: ``python scripted.py evolve ...``.

They are trained and written as ever, but what is measured of each is a function of its id alone. So what a search
finds does not hang on how tiny networks happen to train on one kind of processor.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import scripted  # this module by its name, by which workers know it

from advkit.evolution import candidate
from advkit.evolution.candidate import TrainingJob
from advkit.evolution.evaluation_context import EvaluationContext
from advkit.parallel.task import TaskResult, WorkerTask


def outcome(name: str, images: int, methods: int) -> dict[str, Any]:
    """Counts on ``images`` validation images: accuracy from 50 to 98 %, T_cond on half of them from 5 to 95 %."""
    digest = hashlib.sha256(name.encode()).digest()
    right = images // 2 + digest[0] * (images // 2) // 260
    total = images // 2
    fooled = 1 + digest[1] * (total - 2) // 255
    counts = [fooled, total]
    return {
        "validation": [right, images],
        "cond": counts,
        "both": [fooled, right],
        "by_method": [counts] * methods,
    }


def evaluate(context: EvaluationContext, job: TrainingJob) -> dict[str, Any]:
    """As :func:`advkit.evolution.candidate.evaluate`, with counts that are told."""
    found = candidate.evaluate(context, job)
    time.sleep(float(os.environ.get("SCRIPTED_PAUSE", "0")))  # so that a signal meets a run that is not over yet
    if found["error"] is not None:
        return found
    told = found | outcome(job.id, len(context.validation), len(context.spec.adversarial))
    return told | {name: [0, told["cond"][1]] for name in ("flipped", "noise") if name in told}


class InlineExecutor:
    """An :class:`advkit.parallel.executor.Executor` in this process."""

    def __init__(self, task: WorkerTask) -> None:
        self._task, self._state = task, None

    def map(self, items: Sequence[Any]) -> Iterator[TaskResult]:
        """One result for each of ``items``, in order."""
        if items and self._state is None:
            self._state = self._task.start(*self._task.arguments)
        for place, item in enumerate(items):
            yield TaskResult(place, self._task.function(self._state, item), None, 1, 0.0)


@contextmanager
def open_inline(task: WorkerTask, **options: Any) -> Iterator[InlineExecutor]:
    """In place of :func:`advkit.parallel.executor.open_executor`: no process starts."""
    yield InlineExecutor(task)


if __name__ == "__main__":
    from advkit.commands.app import main
    from advkit.evolution import run_search

    run_search.evaluate = scripted.evaluate
    main()
