"""The real executable, and what a test asks of its end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import preloaded

REPOSITORY = Path(__file__).resolve().parents[2]
ADVKIT = (sys.executable, "-m", "advkit")
TIMEOUT = 120  # seconds; a run takes 2 to 6, more on a busy machine
TRAIN = ("train", "--arch", "advkit/cnn", "--data", "digits", "--limit", "400", "--epochs", "2", "--quiet")

UNWANTED = ("ADVKIT_DEBUG", "NO_COLOR", "COLUMNS")
# Before the first test: libraries that tests import set variables of their own, and a fork needs those of its server.
BORN = {name: value for name, value in os.environ.items() if name not in UNWANTED}
Run = Callable[..., "subprocess.CompletedProcess[str]"]


def environment(**more: str) -> dict[str, str]:
    """One thread (two processes share the machine), this checkout, no colours and no debugging."""
    path = os.pathsep.join(part for part in (str(REPOSITORY), BORN.get("PYTHONPATH", "")) if part)
    return BORN | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"} | more


def start(
    *arguments: str | Path, program: Sequence[str] = ADVKIT, fresh: bool = False, **options: Any
) -> subprocess.Popen[str]:
    """Start ``advkit ARGUMENTS``, as a fork of a process that has the libraries (see :mod:`preloaded`).

    Args:
        arguments: of the command line.
        program: what stands for the executable.
        fresh: start a new interpreter instead: wherever the birth of the process is the point.
        options: of :class:`preloaded.Process`; output goes to pipes unless they say otherwise.
    """
    settings: dict[str, Any] = {
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "stdin": subprocess.DEVNULL,
        "text": True,
        "env": environment(),
    }
    birth = subprocess.Popen if fresh else preloaded.Process
    return birth([*program, *map(str, arguments)], **(settings | options))


def advkit(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run ``advkit ARGUMENTS`` to its end."""
    with start(*arguments, **options) as process:
        try:
            out, err = process.communicate(timeout=TIMEOUT)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def done(*arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """As :func:`advkit`, for runs that must succeed."""
    finished = advkit(*arguments, **options)
    assert finished.returncode == 0, finished.stderr
    return finished


def torchrun(*arguments: str | Path, processes: int = 2) -> subprocess.CompletedProcess[str]:
    """``torchrun -m advkit ARGUMENTS``, to its end."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [*launcher, "-m", "advkit", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=200, check=False)


def ranks(*arguments: str | Path, processes: int = 2, failure: str = "") -> list[subprocess.CompletedProcess[str]]:
    """``advkit ARGUMENTS`` in each of several processes that find each other as under torchrun, but start quicker.

    ``failure`` is told to models that look for it, see ``test_sharding.py``.
    """
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # outlives the processes, as torchrun's
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "TORCHELASTIC_USE_AGENT_STORE": "True"}
    place |= {"WORLD_SIZE": str(processes)}
    envs = [environment(**place, SCRIPTED_FAILURE=failure, RANK=str(k), LOCAL_RANK=str(k)) for k in range(processes)]
    started = [start(*arguments, env=env) for env in envs]
    try:
        told = [process.communicate(timeout=TIMEOUT) for process in started]
    finally:
        for process in started:
            process.kill()
    return [
        subprocess.CompletedProcess(process.args, process.returncode, out, err)
        for process, (out, err) in zip(started, told, strict=True)
    ]


def one_line(finished: subprocess.CompletedProcess[str]) -> str:
    """The single line of a run that failed for a reason; nothing on stdout, no traceback."""
    lines = finished.stderr.splitlines()
    assert finished.returncode == 2, finished.stderr
    assert len(lines) == 1, finished.stderr
    assert lines[0].startswith("advkit: ")
    assert not finished.stdout
    return lines[0]


def settled(report: dict[str, Any]) -> dict[str, Any]:
    """A report without what differs between two equal runs: the time of day and the time spent."""
    result = {name: value for name, value in report["result"].items() if name != "attack_seconds"}
    return {name: value for name, value in report.items() if name not in ("started", "seconds")} | {"result": result}


def load(path: Path) -> dict[str, Any]:
    """A report file."""
    found: dict[str, Any] = json.loads(path.read_text())
    return found
