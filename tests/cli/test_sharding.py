"""attack and evaluate under torchrun: several processes share the images and say and write what one does."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from executable import Run, load, one_line, ranks, settled, torchrun
from handmade import write_images
from in_process import run_tool, single_threaded
from safetensors.torch import load_file

SCENES = ("--data", "scenes/photo#test", "--limit", "7", "--batch-size", "2")
# Fails in its seventh pass on one of the processes, after the group has met: SCRIPTED_FAILURE says which and how.
BRITTLE = """
import os
import signal

import torch
from torch import nn


class Brittle(nn.Linear):
    passes = 0

    def forward(self, images):
        self.passes += 1
        rank, how = os.environ["SCRIPTED_FAILURE"].split()
        if os.environ["RANK"] == rank and self.passes > 6:
            if how != "broken":
                os.kill(os.getpid(), signal.SIGKILL if how == "killed" else signal.SIGTERM)
            raise ValueError("broken here")
        return super().forward(images.flatten(1))


def net():
    torch.manual_seed(0)
    return Brittle(64, 10)
"""

SHUTDOWN = """
import atexit
import builtins
import os
import sys

import torch
from torch import nn


class Last:
    def __del__(self):
        os.write(2, b"shutdown")
        os.abort()


def net():
    builtins.last = Last()
    atexit.register(print, "at exit", file=sys.stderr)
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
"""


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("detector") / "d.safetensors"
    small = ("--data", "scenes/photo", "--limit", "20", "--size", "96", "--epochs", "1", "--batch-size", "8", "-q")
    with single_threaded(), contextlib.redirect_stdout(io.StringIO()):
        assert run_tool("train", "--arch", "advkit/tiny-ssd", *small, "-o", out) == 0
    return out


def comparable(report: dict[str, Any], *but: str) -> dict[str, Any]:
    """A report without what says when, where and in how many processes it was made, and without results ``but``."""
    found = settled(report)
    found["result"] = {name: value for name, value in found["result"].items() if name not in (*but, "output")}
    return {name: value for name, value in found.items() if name not in ("command", "host")}


def contents(out: Path) -> dict[str, bytes]:
    """Names and bytes of a file, or of all that lie in a folder."""
    files = sorted(file for file in out.rglob("*") if file.is_file()) if out.is_dir() else [out]
    return {str(file.relative_to(out)): file.read_bytes() for file in files}


def made_by_ranks(*arguments: str | Path, processes: int = 2) -> dict[str, Any]:
    """The one report of several processes."""
    first, *others = ranks(*arguments, processes=processes)
    assert first.returncode == 0, first.stderr
    for other in others:
        assert (other.returncode, other.stdout) == (0, ""), other.stderr
    report: dict[str, Any] = json.loads(first.stdout)
    assert report["host"]["processes"] == processes
    return report


def made_by_one(inside: Run, *arguments: str | Path) -> dict[str, Any]:
    found = inside(*arguments, "--json")
    assert found.returncode == 0, found.stderr
    report: dict[str, Any] = json.loads(found.stdout)
    assert report["host"]["processes"] == 1
    return report


def test_an_attack_under_torchrun_writes_the_bytes_of_one_process(r: Path, tmp_path: Path, inside: Run) -> None:
    """Of 27 images in batches of 5 the second process makes the 2nd, the 4th and the 6th, which is not full."""
    options = ["attack", r, "--data", "digits", "--limit", "27", "--batch-size", "5", "--eps", "0.1", "-q"]
    options += ["--goal", "transfer"]
    one = made_by_one(inside, *options, "-o", tmp_path / "one.safetensors")
    assert one["result"]["ensemble_success"]["successes"] > 0
    report = tmp_path / "two.json"
    found = torchrun(*options, "-o", tmp_path / "two.safetensors", "--report", report)
    assert found.returncode == 0, found.stderr
    assert found.stdout == ""
    assert comparable(load(report)) == comparable(one)
    assert load(report)["host"]["processes"] == 2
    assert contents(tmp_path / "two.safetensors") == contents(tmp_path / "one.safetensors")
    assert len(load_file(tmp_path / "two.safetensors")["index"].unique()) == 27
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.safetensors", "two.json", "two.safetensors"]


AUTOATTACK = ("--method", "autoattack:steps=3:targets=2:queries=20", "--quantize", "--eps", "0.1")


@pytest.mark.parametrize(
    ("options", "out", "processes", "but"),
    [
        (("--target", "next", "--eps", "0.3", "--steps", "3"), "a.safetensors", 2, ()),
        (("--method", "fgsm", "--eps", "0.1"), "pngs", 3, ()),
        # Square looks further ahead where fewer images are left in a window, and throws away what it need not know.
        (AUTOATTACK, "a.safetensors", 2, ("forwards_per_image",)),
    ],
)
def test_attacks_that_leave_fooled_images_are_shared_too(
    options: Sequence[str], out: str, processes: int, but: Sequence[str], r: Path, tmp_path: Path, inside: Run
) -> None:
    for name in ("one", "several"):
        (tmp_path / name).mkdir()
    common = ["attack", r, "--data", "digits", "--limit", "22", "--batch-size", "4", *options, "-q"]
    one = made_by_one(inside, *common, "-o", tmp_path / "one" / out)
    several = made_by_ranks(*common, "-o", tmp_path / "several" / out, processes=processes)
    assert comparable(several, *but) == comparable(one, *but)
    assert one["result"]["ensemble_success"]["successes"] > 0
    assert contents(tmp_path / "several" / out) == contents(tmp_path / "one" / out)


def test_an_attack_on_a_detector_is_shared(detector: Path, tmp_path: Path, inside: Run) -> None:
    options = ["attack", detector, *SCENES, "--eps", "8/255", "--steps", "2", "-q"]
    one = made_by_one(inside, *options, "-o", tmp_path / "one.safetensors")
    assert one["result"]["surrogates"][0]["clean_detection"]["predictions"] > 0
    several = made_by_ranks(*options, "-o", tmp_path / "two.safetensors")
    assert comparable(several) == comparable(one)
    assert contents(tmp_path / "two.safetensors") == contents(tmp_path / "one.safetensors")


def test_evaluate_counts_each_image_of_each_process_once(
    r: Path, r2: Path, detector: Path, tmp_path: Path, inside: Run
) -> None:
    for options in (
        ["evaluate", r, r2, "--data", "digits", "--limit", "45", "--batch-size", "10"],
        ["evaluate", detector, *SCENES],
    ):
        one = made_by_one(inside, *options, "-q")
        assert comparable(made_by_ranks(*options, "-q")) == comparable(one)
    (model,) = one["result"]["models"]
    assert model["detection"]["images"] == one["result"]["images"] == 7
    assert model["detection"]["predictions"] > 0


def test_more_processes_than_images(r: Path, tmp_path: Path, inside: Run) -> None:
    options = ["attack", r, "--data", "digits", "--limit", "2", "--eps", "0.1", "-q"]
    one = made_by_one(inside, *options, "-o", tmp_path / "one.safetensors")
    several = made_by_ranks(*options, "-o", tmp_path / "three.safetensors", processes=3)
    assert several["result"]["images"] == 2
    pairs = zip(*(load_file(tmp_path / f"{name}.safetensors").values() for name in ("one", "three")), strict=True)
    for a, b in pairs:
        assert (a.float() - b.float()).abs().max() < 1e-5
    assert several["result"]["ensemble_success"] == one["result"]["ensemble_success"]


def test_a_gate_that_fails_leaves_the_file_and_status_1_of_the_first_process(r: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.safetensors"
    gate = ["--step-size", "0.5", "--eps", "0.1", "--fail-on-flag"]
    first, second = ranks("attack", r, "--data", "digits", "--limit", "8", "--batch-size", "4", *gate, "-q", "-o", out)
    assert (first.returncode, second.returncode) == (1, 0)
    assert second.stderr == second.stdout == ""
    assert json.loads(first.stdout)["status"] == "gate-failed"
    assert out.exists()


def test_bad_input_under_torchrun_is_one_line_whoever_meets_it_first(r: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.safetensors"
    found = torchrun("attack", r, "--data", tmp_path / "nowhere", "-o", out)
    lines = [line for line in found.stderr.splitlines() if line.startswith("advkit: ")]
    assert len(lines) == 1, found.stderr
    assert "nowhere: no such data" in lines[0]
    assert "exitcode  : 2" in found.stderr, "as torchrun tells it, whose own status is 1"
    assert found.returncode == 1
    assert found.stdout == ""
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("fails", "how"), [("1", "broken"), ("0", "broken"), ("1", "killed"), ("0", "stopped"), ("1", "stopped")]
)
def test_a_process_that_fails_ends_all_and_nothing_is_written(
    fails: str, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("brittle.py").write_text(BRITTLE)
    write_images(Path("two.npz"), 60)
    data = ["--data", "two.npz", "--batch-size", "5", "--steps", "1", "--eps", "0.1"]
    found = ranks("attack", "brittle.py:net", *data, "-o", "a.safetensors", failure=f"{fails} {how}")
    failed = found[int(fails)]
    others = [one for one in found if one is not failed]
    if how == "killed":
        assert failed.returncode == -9
        assert "another process of this run has ended" in one_line(others[0])
    else:
        if how == "broken":
            assert "broken here" in one_line(failed)
        else:
            assert (failed.returncode, failed.stderr) == (143, "advkit: interrupted\n")
        assert [one.returncode for one in others] == [2]
        assert not others[0].stderr
    assert not list(tmp_path.glob("*.safetensors"))
    assert not list(tmp_path.glob(".*"))


def test_a_process_ends_before_threads_of_its_group_can_be_in_the_way(tmp_path: Path) -> None:
    """Those of gloo outlive the group and abort a process that they meet in Python's shutdown; so does this."""
    (tmp_path / "late.py").write_text(SHUTDOWN)
    write_images(tmp_path / "few.npz", 6)
    found = torchrun("evaluate", f"{tmp_path / 'late.py'}:net", "--data", tmp_path / "few.npz")
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["result"]["images"] == 6
    assert "shutdown" not in found.stderr
    assert found.stderr.count("at exit") == 2
