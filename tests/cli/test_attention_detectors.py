"""``visualize attention`` of detectors, on images of many sizes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from executable import Run, done
from PIL import Image

SIZES = [(96, 96), (60, 130), (120, 70)]  # height, width


@pytest.fixture(scope="module")
def yolo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("yolo")
    generator = np.random.default_rng(0)
    for name in ("images", "labels"):
        (folder / name).mkdir()
    for k, size in enumerate(SIZES):
        Image.fromarray(generator.integers(0, 256, (*size, 3), np.uint8)).save(folder / "images" / f"{k}.png")
        (folder / "labels" / f"{k}.txt").write_text("1 0.5 0.5 0.5 0.25\n")
    (folder / "classes.txt").write_text("cat\ndog\n")
    return folder


@pytest.mark.parametrize("kinds", [pytest.param("saliency", marks=pytest.mark.slow), "grad-cam"])
def test_boxes_and_maps_of_images_of_many_sizes(inside: Run, yolo: Path, tmp_path: Path, kinds: str) -> None:
    model = tmp_path / "d.safetensors"
    done("train", "--arch", "advkit/tiny-ssd", "--data", yolo, "--epochs", "0", "-q", "-o", model)
    figure = tmp_path / "f.png"
    more = ["--samples", "2"] if kinds == "saliency" else []
    few = ["--data", yolo, "--map", kinds, "--figure", figure, *more]
    found = inside("visualize", "attention", f"A={model}", f"B={model}", *few)
    assert found.returncode == 0, found.stderr
    result = json.loads(found.stdout)["result"]
    assert figure.stat().st_size > 10_000
    assert len(result["images"]) == len(SIZES)
    for image, (height, width) in zip(result["images"], SIZES, strict=True):
        (one,) = image["objects"]
        assert one["label"] == "dog"
        assert one["box"] == pytest.approx([width / 4, height * 3 / 8, width * 3 / 4, height * 5 / 8], abs=0.01)
        assert one["score"] is None
        assert image["found"].keys() == {"A", "B"}
        assert image["label"] is image["predictions"] is None
    (pair,) = result["mean_agreement"][kinds]
    assert pair["cosine"] == pytest.approx(1.0), "a model and its copy look at the same"
