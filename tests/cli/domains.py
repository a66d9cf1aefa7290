"""What several tests of ``domain-distance`` share: pictures of all kinds, and a quick measurement."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from executable import Run
from PIL import Image

FEW = ("--repeats", "2", "--permutations", "50", "-q")


def measure(inside: Run, *arguments: str | Path) -> dict[str, Any]:
    found = inside("domain-distance", *arguments, *FEW)
    assert found.returncode == 0, found.stderr
    report: dict[str, Any] = json.loads(found.stdout)
    return report


def pictures(folder: Path, names: list[str], dark: bool = False) -> None:
    """Colour noise of many sizes and kinds of file in two classes."""
    generator = np.random.default_rng(len(names[0]))
    for number, name in enumerate(names):
        pixels = generator.integers(0, 128 if dark else 256, (20 + number % 5, 24, 3), dtype=np.uint8)
        file = folder / "ab"[number % 2] / name
        file.parent.mkdir(parents=True, exist_ok=True)
        mode = {"gif": "P", "tiff": "CMYK", "bmp": "L"}.get(name.rpartition(".")[2], "RGB")
        Image.fromarray(pixels).convert(mode).save(file)


NAMES = [f"{k:02}.{('png', 'gif', 'tiff', 'bmp')[k % 4]}" for k in range(16)]
