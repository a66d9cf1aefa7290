"""What ``domain-distance`` opens: any folder of pictures, never its labels; and a MODEL that is whole."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from executable import Run, one_line
from PIL import Image

FEW = ("--size", "8", "--repeats", "2", "--permutations", "20", "-q")


def measure(inside: Run, *arguments: str | Path) -> dict[str, Any]:
    found = inside("domain-distance", *arguments, *FEW)
    assert found.returncode == 0, found.stderr
    report: dict[str, Any] = json.loads(found.stdout)
    return report


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """24 pictures of two sizes, in a list of their own, with annotations that are no XML and lists of a class."""
    generator = np.random.default_rng(0)
    for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (tmp_path / "voc" / part).mkdir(parents=True)
    for k in range(24):
        pixels = generator.integers(0, 256, (20 + k % 2, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"voc/JPEGImages/{k:02}.png")
        (tmp_path / f"voc/Annotations/{k:02}.xml").write_bytes(b"\xffgarbled")
    (tmp_path / "voc/ImageSets/Main/all.txt").write_text("\n".join(f"{k:02}" for k in range(24)))
    (tmp_path / "voc/ImageSets/Main/cat_all.txt").write_text("\n".join(f"{k:02} 1" for k in range(24)))
    return tmp_path / "voc"


def test_annotations_and_class_folders_change_nothing(voc: Path, inside: Run) -> None:
    flat, classes = voc.parent / "flat", voc.parent / "classes"
    shutil.copytree(voc / "JPEGImages", flat)
    for file in flat.iterdir():
        (classes / f"class{int(file.stem) % 3}").mkdir(parents=True, exist_ok=True)
        shutil.copy(file, classes / f"class{int(file.stem) % 3}")
    found = [measure(inside, "digits", f"X={place}")["result"] for place in (voc, flat, classes)]
    assert found[0]["targets"][0]["images"] == 24
    assert found[0] == found[1] == found[2]


def test_a_sample_does_not_go_by_labels(tmp_path: Path, inside: Run) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)
    for name, labels in (("a", np.arange(40) % 2), ("b", np.arange(40) // 39), ("c", np.full(40, -7))):
        np.savez(tmp_path / f"{name}.npz", images=images, labels=labels)
    np.savez(tmp_path / "none.npz", images=images)
    found = [
        measure(inside, "digits#train", f"X={tmp_path / name}.npz", "--limit", "20") for name in ("a", "b", "c", "none")
    ]
    assert all(one["result"] == found[0]["result"] for one in found[1:])
    assert len({one["inputs"][1]["sha256"] for one in found}) == 1
    assert found[0]["result"]["targets"][0]["images"] == 20
    other = measure(inside, "digits#train", f"X={tmp_path / 'a'}.npz", "--limit", "20", "--seed", "1")
    assert other["inputs"][1]["sha256"] != found[0]["inputs"][1]["sha256"], "another seed, another sample"


@pytest.mark.parametrize("kept", [0, 4, 100, 10_000])
def test_a_model_that_is_cut_short_is_told(kept: int, r: Path, tmp_path: Path, inside: Run) -> None:
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(r.read_bytes()[:kept])
    line = one_line(inside("domain-distance", "digits#train", "digits", "--features", cut, "-q"))
    assert line.startswith(f"advkit: {cut}: {'damaged' if kept else 'an empty file'}")
    assert "--size" not in line
