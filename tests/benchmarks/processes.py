"""What a child process costs, as the kernel counts it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ADVKIT = [sys.executable, "-m", "advkit"]


@dataclass(frozen=True)
class Cost:
    """Seconds by the clock, seconds of the processor (user and system, all threads), largest resident set in MiB."""

    wall: float
    cpu: float
    peak: float


def environment() -> dict[str, str]:
    """As installed: compiled modules are kept, whatever the shell says."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def cost(command: Sequence[str], folder: Path) -> Cost:
    """Run ``command`` in ``folder`` to its end, its report thrown away.

    Raises:
        SystemExit: the command failed.
    """
    began = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, env=environment())
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: status {process.returncode}")
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def small_checkpoint(folder: Path, seed: int = 0) -> str:
    """The name of a checkpoint of ``advkit/cnn`` in ``folder``, trained for one epoch on a few digits."""
    name = f"r{seed}.safetensors"
    options = ["--arch", "advkit/cnn", "--data", "digits", "--limit", "200", "--epochs", "1", "--batch-size", "32"]
    cost([*ADVKIT, "train", *options, "--seed", str(seed), "-q", "-o", name], folder)
    return name
