"""A process with two workers that somebody else ends: ``foreman.py FOLDER [ADDRESS]``."""

from __future__ import annotations

import sys

import chores

from advkit.parallel.executor import open_executor
from advkit.parallel.task import WorkerTask

if __name__ == "__main__":
    folder, ray = sys.argv[1], (sys.argv[2:] or [None])[0]
    task = WorkerTask(chores.begin, (folder,), chores.sign_in)
    try:
        print("begun", flush=True)
        with open_executor(task, workers=2, ray=ray) as engine:
            list(engine.map(range(4)))
    except KeyboardInterrupt:
        sys.exit(130)
