"""A command that is told to stop, or killed, in the middle of its work leaves the old files whole."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import pytest
from executable import TIMEOUT, Run, start

LONG = ["--data", "digits#train", "--eps", "0.3", "--steps", "2000", "--goal", "transfer", "--batch-size", "8"]

# A net that leaves a trace when it is at work on a whole batch.
SIGNING = """
from pathlib import Path

from torch import nn


class Net(nn.Sequential):
    def forward(self, images):
        if len(images) == 8:
            Path(__file__).with_name("at-work").touch()
        return super().forward(images)


def net(num_classes=10):
    return Net(nn.Flatten(), nn.Linear(64, num_classes))
"""


def begun(process: subprocess.Popen[str], folder: Path) -> None:
    """Wait until ``process`` writes a temporary file or folder."""
    deadline = time.monotonic() + TIMEOUT
    while not list(folder.glob(".*")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert process.poll() is None


@pytest.mark.parametrize(
    ("number", "status", "out"),
    [
        (signal.SIGINT, 130, "a.safetensors"),
        (signal.SIGKILL, -9, "pngs"),
        pytest.param(signal.SIGTERM, 143, "a.safetensors", marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, -9, "a.safetensors", marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, 130, "pngs", marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, 143, "pngs", marks=pytest.mark.slow),
    ],
)
def test_an_attack_that_is_stopped_leaves_what_was_there(
    number: signal.Signals, status: int, out: str, r: Path, tmp_path: Path
) -> None:
    old = tmp_path / "a.safetensors"
    old.write_text("old")
    fresh = number == signal.SIGINT and out == "pngs"
    process = start("attack", r, *LONG, "--force", "-o", out, cwd=tmp_path, fresh=fresh)
    begun(process, tmp_path)
    process.send_signal(number)
    text, errors = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, text) == (status, "")
    assert old.read_text() == "old"
    assert not (tmp_path / "pngs").exists()
    if number != signal.SIGKILL:
        assert errors == "advkit: interrupted\n"
        assert [path.name for path in tmp_path.iterdir()] == [old.name]


@pytest.mark.parametrize(("number", "status", "fresh"), [(signal.SIGINT, 130, False), (signal.SIGTERM, 143, True)])
def test_a_matrix_that_is_stopped_says_so(
    number: signal.Signals, status: int, fresh: bool, r: Path, tmp_path: Path
) -> None:
    few = [option for option in LONG if option not in ("--goal", "transfer")]
    (tmp_path / "net.py").write_text(SIGNING)
    (tmp_path / "work").mkdir()
    models = (r, f"{tmp_path / 'net.py'}:net")
    process = start("transfer-matrix", *models, *few, "--report", "m.json", cwd=tmp_path / "work", fresh=fresh)
    deadline = time.monotonic() + TIMEOUT
    while not (tmp_path / "at-work").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(number)
    text, errors = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, text, errors) == (status, "", "advkit: interrupted\n")
    assert list((tmp_path / "work").iterdir()) == []


SWALLOWING = """
import os, signal
from torch import nn


class Net(nn.Sequential):
    def forward(self, images):
        try:
            os.kill(os.getpid(), signal.SIGINT)
        except BaseException:
            pass
        return super().forward(images)


def net(num_classes=10):
    return Net(nn.Flatten(), nn.Linear(64, num_classes))
"""


@pytest.mark.parametrize(
    "words",
    [
        ("evaluate", "net.py:net"),
        ("attack", "net.py:net", "--eps", "0.1", "-o", "a.safetensors"),
        ("transfer-matrix", "a=net.py:net", "b=net.py:net", "--eps", "0.1"),
        ("domain-distance", "digits#train", "--features", "net.py:net", "--size", "8"),
        ("train", "--init", "net.py:net", "--epochs", "3", "-o", "b.safetensors"),
    ],
)
def test_a_signal_whose_exception_a_model_swallowed_still_ends_the_run(
    words: tuple[str, ...], tmp_path: Path, inside: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.py").write_text(SWALLOWING)
    data = ("digits#test",) if words[0] == "domain-distance" else ("--data", "digits")
    found = inside(*words, *data)
    assert (found.returncode, found.stdout) == (130, ""), found.stderr
    assert found.stderr.startswith("advkit: interrupted")
    assert [path.name for path in tmp_path.iterdir() if path.name != "__pycache__"] == ["net.py"]


def test_a_signal_is_not_taken_for_a_failing_model(tmp_path: Path, inside: Run) -> None:
    """It may arrive anywhere, also where any exception is an answer about a file."""
    code = "import os, signal\ndef net():\n    os.kill(os.getpid(), signal.SIGTERM)\n    raise ValueError('not this')\n"
    (tmp_path / "slow.py").write_text(code)
    found = inside("evaluate", f"{tmp_path / 'slow.py'}:net", "--data", "digits")
    assert (found.returncode, found.stdout, found.stderr) == (143, "", "advkit: interrupted\n")
