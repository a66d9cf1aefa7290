"""``--target from-data``: the classes to aim at that a CSV of labels names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from executable import Run, one_line
from PIL import Image
from safetensors.torch import load_file


def test_the_target_column_is_aimed_at(inside: Run, tmp_path: Path) -> None:
    folder = tmp_path / "flat"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(4):
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(folder / f"{number}.png")
    rows = [
        "filename,label,target",
        "0.png,a,b",
        "1.png,b,c",
        "2.png,c,a",
        "3.png,a,a",
    ]  # the last one is there already
    (folder / "images.csv").write_text("\n".join(rows))
    out = tmp_path / "adv.safetensors"
    found = inside(
        "attack", "advkit/cnn", "--data", folder, "--target", "from-data", "--steps", "2", "-o", out, "--json"
    )
    assert found.returncode == 0, found.stderr
    written = load_file(out)
    assert written["labels"].tolist() == [0, 1, 2]
    assert written["target"].tolist() == [1, 2, 0]
    assert '"excluded": 1' in found.stdout
    command = ["attack", "advkit/cnn", "--data", "digits", "--limit", "4", "--target", "from-data", "-o", out]
    assert "names no classes to aim at" in one_line(inside(*command))
