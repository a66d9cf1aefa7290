"""Two small trained checkpoints, two made by hand, and the executable inside this process."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import handmade
import pytest
from executable import TRAIN, Run
from in_process import run_tool, single_threaded


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with ``r.safetensors`` and ``r2.safetensors`` and their reports ``r.json``, ``r2.json``."""
    root = tmp_path_factory.getbasetemp()
    folder = (root.parent if "PYTEST_XDIST_WORKER" in os.environ else root) / "checkpoints"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:  # the first of pytest's own processes trains, the others wait for it
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name, seed in (("r", "0"), ("r2", "1")):
            made = folder / f"{name}.safetensors"
            if not made.exists():
                with single_threaded(), contextlib.redirect_stdout(io.StringIO()):
                    report = folder / f"{name}.json"
                    assert run_tool(*TRAIN, "--seed", seed, "-o", made, "--report", report) == 0
    return folder


@pytest.fixture(scope="session")
def r(checkpoints: Path) -> Path:
    return checkpoints / "r.safetensors"


@pytest.fixture(scope="session")
def r2(checkpoints: Path) -> Path:
    return checkpoints / "r2.safetensors"


@pytest.fixture(scope="session")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with ``two.npz``, images that ``r.safetensors`` and ``v.safetensors``, made by hand, tell apart.

    An attack on R with eps 0.25 fools R on every image, and V on those of class 1 alone.
    """
    folder = tmp_path_factory.mktemp("two")
    handmade.write_reference(folder / "r.safetensors")
    handmade.write_reference(folder / "v.safetensors", threshold=0.6)
    handmade.write_images(folder / "two.npz")
    return folder


@pytest.fixture
def inside(capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """``advkit ARGUMENTS`` in this process: wherever the process is not the point."""

    def call(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        capsys.readouterr()
        status = run_tool(*arguments)
        found = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, status, found.out, found.err)

    with single_threaded():
        yield call
