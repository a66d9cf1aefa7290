"""``adapt``: classes go by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from executable import Run, one_line
from PIL import Image


def test_classes_go_by_name(inside: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    for folder, names in (("a", ("cat", "dog")), ("b", ("cat", "owl"))):
        for name in names:
            Path(folder, name).mkdir(parents=True)
            for k in range(8):
                Image.fromarray(generator.integers(0, 256, (16, 16, 3), np.uint8)).save(f"{folder}/{name}/{k}.png")
    short = ["--epochs", "1", "--batch-size", "4", "-q"]
    assert inside("train", "--arch", "advkit/cnn", "--data", "a", *short, "-o", "m.safetensors").returncode == 0
    common = ["adapt", "m.safetensors", "--method", "coral", *short, "-o", "x.safetensors"]
    line = one_line(inside(*common, "--source", "b", "--target", "a"))
    assert "cat, owl" in line
    assert "cat, dog" in line
    line = one_line(inside(*common, "--source", "a", "--target", "b", "--compare", "b"))
    assert "b: has the classes 2 (cat, owl)" in line
    assert inside(*common, "--source", "a", "--target", "b").returncode == 0, "the target's folders are no classes"
