"""What the reader of the data had to say is a flag in every tool's report, the data named once."""

from __future__ import annotations

import json
from pathlib import Path

import handmade
import numpy as np
import pytest
import scripted
from executable import Run
from PIL import Image

from advkit.evolution import run_search

EVOLVE = (
    *(
        "--rungs",
        "1",
        "--candidate-images",
        "200",
        "--validation-images",
        "40",
        "--candidate-epochs",
        "1",
        "--budget",
        "2",
    ),
    *("--offspring", "2", "--population", "2", "--epochs", "1", "--steps", "1", "--finalists", "1"),
    *("--eps", handmade.EPS, "--max-multiply-adds", "400000", "--max-parameters", "60000", "--accuracy-floor", "0.1"),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """``r.safetensors`` and ``pictures/``, of two classes, with a file that is no picture."""
    handmade.write_reference(tmp_path / "r.safetensors")
    arrays = np.load(handmade.write_images(tmp_path / "two.npz", 300))
    for k, (image, label) in enumerate(zip(arrays["images"], arrays["labels"], strict=True)):
        file = tmp_path / f"pictures/{label}/{k:03}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image[0] * 255).round().astype(np.uint8)).save(file)
    (tmp_path / "pictures/0/notes.txt").write_text("not a picture")
    return tmp_path


@pytest.mark.parametrize(
    "command",
    [
        ["train", "--arch", "advkit/cnn", "--epochs", "1", "-o", "x.safetensors"],
        ["evaluate", "r.safetensors"],
        ["attack", "r.safetensors", "--eps", "0.1", "--steps", "1", "-o", "x.safetensors"],
        ["transfer-matrix", "r.safetensors", "--eps", "0.1", "--steps", "1"],
        ["visualize", "attention", "r.safetensors", "--figure", "x.png", "--count", "1"],
        ["evolve", "r.safetensors", *EVOLVE, "-o", "x.safetensors"],
    ],
    ids=lambda command: command[0],
)
def test_files_left_out_are_told(
    command: list[str], folder: Path, inside: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(run_search, "evaluate", scripted.evaluate)
    done = inside(*command, "--data", "pictures", "--quiet", "--report", "report.json")
    assert done.returncode == 0, done.stderr
    told = [flag for flag in json.loads(Path("report.json").read_text())["flags"] if "notes.txt" in flag]
    assert len(told) == 1
    assert told[0].startswith("pictures: ")
    assert told[0].count("pictures:") == 1
