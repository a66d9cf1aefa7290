"""What a run writes replaces nothing that it should not."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from executable import TIMEOUT, Run, one_line, start

FEW = ["--data", "digits", "--limit", "20", "-q"]


@pytest.mark.parametrize("tool", ["evaluate", "transfer-matrix", "attack", "visualize attention", "visualize features"])
@pytest.mark.parametrize("spelling", ["{r}", "R={r}", "advkit/cnn@{r}"])
def test_a_report_does_not_replace_what_the_run_reads(
    inside: Run, r: Path, tmp_path: Path, tool: str, spelling: str
) -> None:
    mine = tmp_path / "mine.safetensors"
    mine.write_bytes(r.read_bytes())
    (tmp_path / "link.json").symlink_to(mine)
    drawn = ["--figure", tmp_path / "v.png"]
    more = {"attack": ["-o", tmp_path / "a.safetensors"], "visualize attention": drawn, "visualize features": drawn}
    for report in (mine, tmp_path / "link.json"):
        found = inside(*tool.split(), spelling.format(r=mine), *FEW, *more.get(tool, []), "--report", report)
        assert "the run reads" in one_line(found)
    assert mine.read_bytes() == r.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.json", "mine.safetensors"]


def test_data_and_sets_are_read_too(inside: Run, r: Path, tmp_path: Path) -> None:
    data = tmp_path / "data.safetensors"
    assert inside("attack", r, *FEW, "-o", data).returncode == 0
    before = data.read_bytes()
    assert "the run reads" in one_line(inside("evaluate", r, "--data", data, "--report", data))
    command = ["transfer-matrix", r, *FEW, "--adversarial", data]
    assert "the run reads" in one_line(inside(*command, "--report", data))
    assert data.read_bytes() == before


def test_two_outputs_are_two_files(inside: Run, r: Path, tmp_path: Path) -> None:
    both = tmp_path / "x.safetensors"
    assert "goes there too" in one_line(inside("attack", r, *FEW, "-o", both, "--report", both))
    both = tmp_path / "x.png"
    assert "goes there too" in one_line(inside("transfer-matrix", r, *FEW, "--figure", both, "--report", both))
    assert list(tmp_path.iterdir()) == []


def test_a_report_goes_into_a_pipe_and_leaves_it_one(r: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with start("evaluate", r, *FEW, "--report", pipe) as process:
        assert json.loads(pipe.read_text())["schema"] == "advkit/evaluate/1"
        assert process.wait(TIMEOUT) == 0
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_devices_stay_devices(inside: Run, r: Path, tmp_path: Path) -> None:
    before = os.stat("/dev/null")
    assert inside("evaluate", r, *FEW, "--report", "/dev/null").returncode == 0
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    assert "no regular file" in one_line(inside("transfer-matrix", r, *FEW, "--figure", pipe))
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    assert os.stat("/dev/null").st_rdev == before.st_rdev


def test_a_link_stays_a_link(inside: Run, r: Path, tmp_path: Path) -> None:
    link, target = tmp_path / "link.json", tmp_path / "target.json"
    target.write_text("before")
    link.symlink_to(target)
    assert inside("evaluate", r, *FEW, "--report", link).returncode == 0
    assert link.is_symlink()
    assert json.loads(target.read_text())["schema"] == "advkit/evaluate/1"
