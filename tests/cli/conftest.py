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
import numpy as np
import pytest
import scripted
from executable import TRAIN, Run
from in_process import run_tool, single_threaded
from searches import MORE, search

from advkit.data.reference import load
from advkit.evolution import run_search
from advkit.figures import canvas


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


@pytest.fixture(scope="session")
def dark(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with ``dark.npz`` and ``test.npz``: digits at a third of their brightness, with labels."""
    folder = tmp_path_factory.mktemp("dark")
    for name, ref in (("dark", "digits#train"), ("test", "digits#test")):
        images, labels = load(ref).batch(slice(200))
        np.savez(folder / f"{name}.npz", images=images.numpy() * np.float32(0.3), labels=labels.numpy())
    return folder


@pytest.fixture
def inside(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """``advkit ARGUMENTS`` in this process: wherever the process is not the point. Its PNGs are coarse."""
    monkeypatch.setattr(canvas, "RESOLUTION", 60)

    def call(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        capsys.readouterr()
        status = run_tool(*arguments)
        found = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, status, found.out, found.err)

    with single_threaded():
        yield call


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, inside: Run) -> Run:
    """``advkit ARGUMENTS`` in this process alone, candidates turning out as they are told."""
    monkeypatch.setattr(run_search, "evaluate", scripted.evaluate)
    monkeypatch.setattr(run_search, "open_executor", scripted.open_inline)
    return inside


@pytest.fixture(scope="session")
def whole(two: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a finished search in one process, with report and figures."""
    folder = tmp_path_factory.mktemp("whole")
    files = ["-o", folder / "e.safetensors", "--report", folder / "e.json", "--figure", folder / "f.png"]
    with pytest.MonkeyPatch.context() as patch, single_threaded(), contextlib.redirect_stdout(io.StringIO()):
        patch.setattr(run_search, "evaluate", scripted.evaluate)
        patch.setattr(run_search, "open_executor", scripted.open_inline)
        assert run_tool(*search(two, *files, "--figure-architecture", folder / "a.svg", *MORE)) == 0
    return folder


@pytest.fixture
def feature_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Feature files: ``a`` and ``near`` of one distribution, ``mid`` and ``far`` shifted."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    for name, count, shift in (("a", 60, 0.0), ("near", 25, 0.0), ("mid", 24, 0.6), ("far", 24, 2.0)):
        np.save(tmp_path / f"{name}.npy", (generator.normal(size=(count, 6)) + shift).astype(np.float32))
    return tmp_path
