"""``adapt``: interrupted runs go on to the same bytes, and several processes adapt as one does."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest
from adapting import SHORT, report
from executable import Run, one_line, start, torchrun


def test_an_adaptation_goes_on_to_the_same_bytes(r: Path, dark: Path, inside: Run, tmp_path: Path) -> None:
    """Interrupted as a process, by a signal; whichever of the networks was being trained, none is lost."""
    folder = [tmp_path / name for name in ("whole", "parts")]
    for one in folder:
        one.mkdir()
    options = [r, *SHORT, "--epochs", "6", "--target", dark / "dark.npz", "--method", "cdan", "--ema", "0.9"]
    options += ["--compare", dark / "test.npz", "--select", "snd"]
    whole = report(inside, *options, "-o", folder[0] / "x.safetensors")
    out = folder[1] / "x.safetensors"
    for state in (folder[1] / "x.source-only.resume.safetensors", folder[1] / "x.resume.safetensors"):
        resume = ["--resume"] if list(folder[1].iterdir()) else []
        process = start("adapt", *options, "-o", out, *resume, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while not state.exists() and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        errors = process.communicate(timeout=120)[1]
        assert (process.returncode, out.exists(), state.exists()) == (130, False, True), errors
        assert "--resume" in one_line(inside("adapt", *options, "-o", out))
    assert "weight" in one_line(inside("adapt", *options, "--weight", "0.5", "-o", out, "--resume"))
    again = report(inside, *options, "-o", out, "--resume")
    assert again["result"] | {"checkpoint": ""} == whole["result"] | {"checkpoint": ""}
    names = [sorted(path.name for path in one.iterdir()) for one in folder]
    assert names[0] == names[1] == ["x.safetensors", "x.source-only.safetensors"]
    for name in names[0]:
        assert (folder[0] / name).read_bytes() == (folder[1] / name).read_bytes()
    assert "--force" in one_line(inside("adapt", *options, "--seed", "1", "-o", out))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["dann", "coral", "mcc", "adabn"])
def test_two_processes_adapt_as_one_does(method: str, r: Path, dark: Path, tmp_path: Path, inside: Run) -> None:
    options = [str(r), *SHORT, "--target", str(dark / "dark.npz"), "--method", method, "--precision", "float32"]
    report(inside, *options, "-o", tmp_path / "one.safetensors", "--report", tmp_path / "one.json")
    found = torchrun("adapt", *options, "-o", tmp_path / "two.safetensors", "--report", tmp_path / "two.json")
    assert found.returncode == 0, found.stderr
    one, two = (json.loads((tmp_path / name).read_text())["result"] for name in ("one.json", "two.json"))
    for a, b in zip(one["epochs"], two["epochs"], strict=True):
        assert a["images"] == b["images"]
        for name in ("cross_entropy", "alignment", "im", "bnm"):
            if a[name] is not None:
                assert b[name] == pytest.approx(a[name], rel=2e-2, abs=1e-6), name
        assert abs(a["validation_right"] - b["validation_right"]) <= 1
