"""``transfer-matrix --workers`` and ``--ray``: the report of one process; one line when a worker fails; no orphans."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from executable import TIMEOUT, Run, advkit, done, one_line, settled, start

from advkit.parallel.task import TaskResult, WorkerTask

# A net that is well in the process that asks, and does WHAT in its workers once they are at work.
NET = """
import multiprocessing, os, signal, time
from pathlib import Path

import torch
from torch import nn


class Net(nn.Sequential):
    def forward(self, images):
        if multiprocessing.parent_process() is not None and {most} < len(images) <= 16:
            Path({folder!r}, str(os.getpid())).touch()
            {what}
        return super().forward(images)


def net(num_classes=10):
    torch.manual_seed({seed})
    return Net(nn.Flatten(), nn.Linear(64, num_classes))
"""


def report(*arguments: str | Path) -> tuple[dict[str, Any], int]:
    """A report without what a number of workers may change, and that number."""
    found = settled(json.loads(done("transfer-matrix", *arguments, forked_workers=True).stdout))
    found.pop("command")
    return found, found["host"].pop("processes")


@pytest.fixture(scope="module")
def matrix(r: Path, r2: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str | Path]:
    """A matrix with every part that a report has: two methods, random targets, cosines, a ready-made set, a test."""
    adversarial = tmp_path_factory.mktemp("sets") / "adv.safetensors"
    few = ("--data", "digits", "--limit", "70", "--eps", "0.1")
    done("attack", r, *few, "-o", adversarial)
    more = ("--method", "pgd", "--method", "mi,di", "--target", "random", "--batch-size", "16")
    return [f"R={r}", f"V={r2}", *few, *more, "--adversarial", adversarial, "--surrogate", "R", "--compare", "R:R,V"]


@pytest.fixture(scope="module")
def alone(matrix: list[str | Path]) -> dict[str, Any]:
    """The report of this process alone."""
    found, processes = report(*matrix)
    assert processes == 1
    assert found["result"]["images"] == 70
    return found


def test_workers_change_nothing(matrix: list[str | Path], alone: dict[str, Any]) -> None:
    assert report(*matrix, "--workers", "2") == (alone, 2)


def test_parts_find_their_place_whichever_comes_first(
    matrix: list[str | Path], alone: dict[str, Any], inside: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextlib.contextmanager
    def backwards(task: WorkerTask, **options: Any) -> Iterator[Any]:
        state = task.start(*task.arguments)

        class Backwards:
            def map(self, items: list[Any]) -> Iterator[TaskResult]:
                for item in reversed(range(len(items))):
                    yield TaskResult(item, task.function(state, items[item]), None, 1, 0.0)

        yield Backwards()

    monkeypatch.setattr("advkit.commands.matrix_setup.open_executor", backwards)
    found = settled(json.loads(inside("transfer-matrix", *matrix, "--workers", "2").stdout))
    assert found["result"] == alone["result"]


def test_a_cluster_changes_nothing(ray_cluster: str, matrix: list[str | Path], alone: dict[str, Any]) -> None:
    assert report(*matrix, "--ray", ray_cluster) == (alone, 1)


def options(r: Path, folder: Path, what: str, seed: str = "0", most: int = 15) -> list[str | Path]:
    (folder / "seen").mkdir(exist_ok=True)
    (folder / "net.py").write_text(NET.format(folder=str(folder / "seen"), what=what, seed=seed, most=most))
    data = ("--data", "digits", "--limit", "40", "--batch-size", "16")
    return ["transfer-matrix", r, f"{folder / 'net.py'}:net", *data, "--workers", "2"]


def test_a_batch_that_fails_twice_is_one_line(r: Path, tmp_path: Path) -> None:
    found = one_line(advkit(*options(r, tmp_path, "os.kill(os.getpid(), signal.SIGKILL)"), forked_workers=True))
    assert found in {f"advkit: images {first} to {first + 15}: worker died (signal 9)" for first in (0, 16)}


@pytest.mark.slow
def test_a_worker_whose_memory_ends_goes_on_in_halves(r: Path, tmp_path: Path) -> None:
    found = [done(*options(r, tmp_path, what), forked_workers=True) for what in ("raise MemoryError", "pass")]
    narrow, wide = (settled(json.loads(one.stdout))["result"] for one in found)
    assert narrow == wide
    note = "advkit: memory ends at 16 images in a pass; going on with 8"
    assert set(found[0].stderr.splitlines()) == {note}
    assert not found[1].stderr
    after_loading = "Net.seen = getattr(Net, 'seen', 0) + 1\n            if Net.seen > 1: raise MemoryError"
    none = advkit(*options(r, tmp_path, after_loading, most=0), forked_workers=True)
    last = none.stderr.splitlines()[-1]
    assert (none.returncode, none.stdout) == (2, "")
    told = "out of memory at a single image; take smaller images or a smaller model"
    assert last in {f"advkit: images {first} to {first + 15}: {told}" for first in (0, 16)}


def test_another_network_in_a_worker_is_noticed(r: Path, tmp_path: Path) -> None:
    found = one_line(advkit(*options(r, tmp_path, "pass", seed="os.getpid()"), forked_workers=True))
    assert "net.py:net: a worker found another network there" in found


def test_a_cluster_that_is_not_there_is_one_line(r: Path, r2: Path) -> None:
    found = advkit("transfer-matrix", r, r2, "--data", "digits", "--ray", "127.0.0.1:1")
    assert "--ray 127.0.0.1:1: no cluster there" in one_line(found)


def gone(group: int) -> bool:
    """Whether the process group comes to its end; the last to go is what multiprocessing itself started."""
    for _ in range(200):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.slow
def test_ctrl_c_leaves_no_orphans(r: Path, tmp_path: Path) -> None:
    """On new interpreters throughout: a worker is prepared for the signal from its birth."""
    with start(*options(r, tmp_path, "time.sleep(600)"), start_new_session=True, fresh=True) as process:
        deadline = time.monotonic() + TIMEOUT
        while len(list((tmp_path / "seen").iterdir())) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=TIMEOUT)
        assert (process.returncode, out) == (130, "")
        assert err in ("", "advkit: interrupted\n")
        assert gone(process.pid)
