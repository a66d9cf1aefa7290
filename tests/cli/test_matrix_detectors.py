"""``transfer-matrix`` between detectors, from the command line."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import pytest
from executable import Run, done, one_line, settled
from in_process import run_tool, single_threaded

FEW = ["--data", "scenes/photo", "--limit", "5", "--batch-size", "2", "--steps", "1", "--no-gradients", "-q"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two detectors that nobody trained, and a copy of the first."""
    folder = tmp_path_factory.mktemp("detectors")
    for seed in (0, 1):
        out = folder / f"{seed}.safetensors"
        arch = ["--arch", "advkit/tiny-ssd", "--data", "scenes/photo", "--limit", "8"]
        with single_threaded(), contextlib.redirect_stdout(io.StringIO()):
            assert run_tool("train", *arch, "--epochs", "0", "--seed", str(seed), "-q", "-o", out) == 0
    return [f"A={folder / '0.safetensors'}", f"B={folder / '1.safetensors'}", f"C={folder / '0.safetensors'}"]


def measured(found: Any) -> dict[str, Any]:
    report: dict[str, Any] = settled(json.loads(found.stdout))["result"]
    return report


def test_a_copy_changes_no_precision(inside: Run, models: list[str]) -> None:
    alone = measured(inside("transfer-matrix", *models, *FEW))
    pairs = {(one["surrogate"], one["victim"]): one for one in alone["detection"]["pairs"]}
    assert len(pairs) == 9
    for surrogate in ("A", "B"):
        assert pairs[surrogate, "A"]["adversarial"] == pairs[surrogate, "C"]["adversarial"]
        assert pairs[surrogate, "A"]["adversarial"] != pairs[surrogate, "B"]["adversarial"]
    assert pairs["A", "A"]["adversarial"] != pairs["A", "A"]["noise"]
    assert pairs["A", "A"]["white_box"]
    assert {one["victim"]: one["precision"]["images"] for one in alone["detection"]["clean"]} == dict.fromkeys("ABC", 5)


@pytest.mark.slow
def test_workers_change_no_precision(inside: Run, models: list[str]) -> None:
    alone = measured(inside("transfer-matrix", *models, *FEW))
    shared = done("transfer-matrix", *models, *FEW, "--workers", "2", forked_workers=True)
    assert measured(shared) == alone


def test_a_set_made_before_is_refused(inside: Run, models: list[str], tmp_path: Path) -> None:
    out = tmp_path / "a.safetensors"
    path = models[0].partition("=")[2]
    few = [word for word in FEW if word != "--no-gradients"]
    assert inside("attack", path, *few, "-o", out).returncode == 0
    found = one_line(inside("transfer-matrix", *models, *FEW[:4], "--adversarial", out))
    assert "sets with boxes" in found
    assert "as a MODEL" in found
