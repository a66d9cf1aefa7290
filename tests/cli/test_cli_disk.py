"""A disk that fills up, a directory that can't be written: one line, and the old file stays whole."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from executable import TIMEOUT, Run, advkit, one_line, start

SMALL = 6000  # bytes that a file may have in a run on a full disk; reports and pictures are larger
FULL = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
from advkit.commands.app import run
sys.exit(run(sys.argv[2:]))
"""
TRAIN = "train --arch advkit/cnn --data digits --limit 100 --epochs 2 --batch-size 16 --force"
LONG = "train --arch advkit/cnn --data digits --limit 400 --epochs 3 --batch-size 16 -q -o t.safetensors"
# What is written, by a command that is given {r}, {r2} and the file.
WRITES = {
    "checkpoint": f"{TRAIN} --epochs 1 -o {{out}}.safetensors",
    "training state": f"{TRAIN} -o {{out}}.safetensors",
    "adversarial set": "attack {r} --data digits --limit 200 -o {out}.safetensors --force",
    "matrix figure": "transfer-matrix {r} {r2} --data digits --limit 20 --figure {out}.png",
    "matrix report": "transfer-matrix {r} {r2} --data digits --limit 20 --report {out}.json",
    "domain figure": "domain-distance digits#train digits --limit 40 --size 4 --figure {out}.svg",
    "attention figure": "visualize attention {r} --data digits --count 1 --figure {out}.svg",
    "features figure": "visualize features {r} --data digits --count 1 --steps 1 --figure {out}.svg",
}
REPORTS = {
    "train": f"{TRAIN} -o t.safetensors --report {{out}}.json",
    "attack": "attack {r} --data digits --limit 8 -o a.safetensors --report {out}.json",
    "pictures": "attack {r} --data digits --limit 8 -o {out}",
    "domain-distance": "domain-distance digits#train digits --limit 40 --size 4 --report {out}.json",
    "evaluate": "evaluate {r} --data digits --report {out}.json",
    "visualize": "visualize attention {r} --data digits --figure v.png --report {out}.json",
}


@contextlib.contextmanager
def full_disk(room: int = SMALL) -> Iterator[None]:
    """No file of this process grows beyond ``room`` bytes; Python ignores the signal, so that writing fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def on_a_full_disk(command: list[str], folder: Path, room: int = SMALL) -> subprocess.CompletedProcess[str]:
    return advkit(str(room), *command, "-q", program=(sys.executable, "-c", FULL), cwd=folder)


@pytest.mark.parametrize("what", WRITES)
def test_a_full_disk_leaves_the_old_file_whole(
    what: str, r: Path, r2: Path, tmp_path: Path, inside: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = WRITES[what].format(r=r, r2=r2, out="out").split()
    out = tmp_path / next(word for word in command if word.startswith("out"))
    out.write_text("old")
    with full_disk():
        found = inside(*command, "-q")
    line = one_line(found)
    assert "cannot write" in line
    assert "out." in line
    assert [path.name for path in tmp_path.iterdir()] == [out.name]
    assert out.read_text() == "old"


def test_features_on_a_full_disk_name_the_folder_of_temporary_files(tmp_path: Path) -> None:
    command = ["domain-distance", "digits#train", "digits", "--limit", "40", "--figure", "d.png"]
    assert "TMPDIR" in one_line(on_a_full_disk(command, tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_pictures_on_a_full_disk_leave_no_folder(r: Path, tmp_path: Path) -> None:
    command = ["attack", str(r), "--data", "digits", "--limit", "8", "-o", "pngs"]
    assert "cannot write" in one_line(on_a_full_disk(command, tmp_path, room=40))
    assert list(tmp_path.iterdir()) == []


def test_training_goes_on_after_a_disk_that_was_full(
    tmp_path: Path, inside: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that cannot write its checkpoint keeps the state that it started from."""
    monkeypatch.chdir(tmp_path)
    command = LONG.split()
    state = tmp_path / "t.resume.safetensors"
    process = start(*command, cwd=tmp_path)
    deadline = time.monotonic() + TIMEOUT
    while not state.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.communicate()
    before = state.read_bytes()
    line = one_line(on_a_full_disk([*command, "--resume"], tmp_path))
    assert "cannot write" in line
    assert [path.name for path in tmp_path.iterdir()] == [state.name]
    assert state.read_bytes() == before
    assert inside(*command, "--resume").returncode == 0
    resumed = (tmp_path / "t.safetensors").read_bytes()
    assert inside(*command, "--force").returncode == 0
    assert (tmp_path / "t.safetensors").read_bytes() == resumed


@pytest.fixture
def locked(tmp_path: Path) -> Path:
    """A directory in which this user can make no file."""
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    return Path("/proc") if os.access(folder, os.W_OK) else folder  # modes don't bind the superuser


@pytest.mark.parametrize("what", [*WRITES, *REPORTS])
def test_a_directory_that_cannot_be_written(
    what: str, r: Path, r2: Path, locked: Path, tmp_path: Path, inside: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = {**WRITES, **REPORTS}[what].format(r=r, r2=r2, out=locked / "out").split()
    line = one_line(inside(*command, "-q"))
    assert str(locked) in line
    assert not list(tmp_path.glob(".*.tmp"))


@pytest.mark.parametrize("what", [*WRITES, *REPORTS])
def test_a_directory_that_is_missing_is_said_before_any_work(
    what: str, r: Path, r2: Path, tmp_path: Path, inside: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("advkit.data.reference.load", lambda *_, **__: pytest.fail("work before the check"))
    monkeypatch.setattr("advkit.models.reference.load", lambda *_, **__: pytest.fail("work before the check"))
    command = {**WRITES, **REPORTS}[what].format(r=r, r2=r2, out="missing/out").split()
    assert "missing" in one_line(inside(*command, "-q"))
    assert list(tmp_path.iterdir()) == []
