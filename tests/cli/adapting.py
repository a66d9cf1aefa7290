"""What the tests of ``adapt`` share: a short run, its report, and data for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from executable import Run
from PIL import Image

SHORT = ["--source", "digits", "--limit", "120", "--epochs", "2", "--batch-size", "24", "--lr", "0.02", "--quiet"]


def report(inside: Run, *arguments: str | Path) -> dict[str, Any]:
    found = inside("adapt", *arguments, "--json")
    assert found.returncode == 0, found.stderr
    whole: dict[str, Any] = json.loads(found.stdout)
    return whole


def voc(folder: Path, seed: int, count: int = 8) -> Path:
    """Noise with a bright square that is an object."""
    generator = np.random.default_rng(seed)
    for name in ("JPEGImages", "Annotations"):
        (folder / name).mkdir(parents=True)
    for k in range(count):
        pixels = generator.integers(0, 120, (96, 96, 3), np.uint8)
        x, y = (int(value) for value in generator.integers(4, 50, 2))
        pixels[y : y + 40, x : x + 40] = 220
        Image.fromarray(pixels).save(folder / "JPEGImages" / f"{k}.png")
        box = f"<xmin>{x + 1}</xmin><ymin>{y + 1}</ymin><xmax>{x + 40}</xmax><ymax>{y + 40}</ymax>"
        text = f"<annotation><object><name>square</name><bndbox>{box}</bndbox></object></annotation>"
        (folder / "Annotations" / f"{k}.xml").write_text(text)
    return folder
