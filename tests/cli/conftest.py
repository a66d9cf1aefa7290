"""Two small checkpoints that the real executable made, and the executable inside this process."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from executable import TIMEOUT, TRAIN, Run, start


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with ``r.safetensors`` and ``r2.safetensors`` and their reports ``r.json``, ``r2.json``."""
    folder = tmp_path_factory.mktemp("checkpoints")
    running = [
        start(*TRAIN, "--seed", seed, "-o", f"{name}.safetensors", "--report", f"{name}.json", cwd=folder)
        for name, seed in (("r", "0"), ("r2", "1"))
    ]
    for process in running:
        out, err = process.communicate(timeout=TIMEOUT)
        assert (process.returncode, out, err) == (0, "", "")
    return folder


@pytest.fixture(scope="session")
def r(checkpoints: Path) -> Path:
    return checkpoints / "r.safetensors"


@pytest.fixture(scope="session")
def r2(checkpoints: Path) -> Path:
    return checkpoints / "r2.safetensors"


@pytest.fixture
def inside(capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """``advkit ARGUMENTS`` in this process: for tables of many cases."""
    import signal

    import torch

    from advkit.commands.app import run

    threads, handler = torch.get_num_threads(), signal.getsignal(signal.SIGTERM)
    torch.set_num_threads(1)

    def call(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        capsys.readouterr()
        status = run([str(argument) for argument in arguments])
        found = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, status, found.out, found.err)

    yield call
    torch.set_num_threads(threads)
    signal.signal(signal.SIGTERM, handler)
