"""What the tests of ``adapt`` share: a short run, its report, and data for it."""

from __future__ import annotations

import json
from collections.abc import Sequence
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


def yolo(folder: Path, classes: Sequence[str], count: int = 8) -> Path:
    """Noise with a bright square or a dark one, whose numbers are those of ``bright`` and ``dark`` in ``classes``."""
    generator = np.random.default_rng(0)
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    (folder / "classes.txt").write_text("\n".join(classes))
    for k in range(count):
        pixels = generator.integers(80, 160, (96, 96, 3), np.uint8)
        name, shade = (("bright", 240), ("dark", 10))[k % 2]
        x, y = (int(value) for value in generator.integers(4, 50, 2))
        pixels[y : y + 40, x : x + 40] = shade
        Image.fromarray(pixels).save(folder / "images" / f"{k}.png")
        box = (classes.index(name), (x + 20) / 96, (y + 20) / 96, 40 / 96, 40 / 96)
        (folder / "labels" / f"{k}.txt").write_text(" ".join(map(str, box)))
    return folder
