"""``adapt``: classes go by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from adapting import report, yolo
from executable import Run, one_line
from PIL import Image
from safetensors.torch import load_file

from advkit.data.class_order import in_order
from advkit.data.images import ImageSet
from advkit.files.checkpoint import read_checkpoint


def test_other_class_names_are_refused(inside: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_classes_of_another_order_are_found_by_name(
    inside: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The source in the model's order and in another gives the same weights, and so does what it is compared on."""
    monkeypatch.chdir(tmp_path)
    orders = (("bright", "dark"), ("dark", "bright"))
    for k, order in enumerate(orders):
        yolo(tmp_path / f"d{k}", order)
    short = ["--epochs", "1", "--batch-size", "4", "--validation", "0", "-q"]
    made = inside("train", "--arch", "advkit/tiny-ssd", "--data", "d0", *short, "-o", "m.safetensors")
    assert made.returncode == 0, made.stderr
    found = []
    for k in range(2):
        common = ["m.safetensors", "--source", f"d{k}", "--target", "d0", "--method", "local", *short]
        more = ["--compare", f"d{k}", "--target-labels", "-o", f"{k}.safetensors"]
        whole = report(inside, *common, *more)
        found.append((load_file(f"{k}.safetensors"), whole["result"]["comparison"]))
        told = [flag for flag in whole["flags"] if "by name" in flag]
        assert told == (["d1: its classes are brought into the order of the model's, by name"] * 2 if k else [])
        assert read_checkpoint(Path(f"{k}.safetensors")).meta["labels"] == list(orders[0])
    (one, first), (other, second) = found
    assert all((one[name] == other[name]).all() for name in one)
    assert first["models"] == second["models"]
    assert first["models"][0]["objects"] == 8


def test_labels_are_renumbered_by_name() -> None:
    rows = torch.arange(3)
    images = ImageSet(
        "x", "", ("a", "b", "c"), (1, 1, 1), torch.tensor([2, 0, 1]), rows, rows, lambda part: torch.zeros(1),
        target_classes=torch.tensor([0, 1, 2]),
    )  # fmt: skip
    found = in_order(images, ("c", "a", "b"))
    assert found.class_names == ("c", "a", "b")
    assert found.targets.tolist() == [0, 1, 2]
    assert found.target_classes is not None
    assert found.target_classes.tolist() == [1, 2, 0]
    boxes = torch.tensor([[[0.0, 1, 2, 3, 2, 0], [0, 0, 0, 0, -1, 0]], [[0, 1, 2, 3, 0, 1], [4, 5, 6, 7, 1, 0]]])
    found = in_order(replace(images, targets=boxes, task="detection", target_classes=None), ("c", "a", "b"))
    assert found.targets[..., 4].tolist() == [[0, -1], [1, 2]]
    assert torch.equal(found.targets[..., [0, 1, 2, 3, 5]], boxes[..., [0, 1, 2, 3, 5]])
