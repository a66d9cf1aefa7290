"""``adapt --compare``: the same images for all, gates, and what is said of a comparison."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from adapting import SHORT, report
from executable import Run, one_line
from PIL import Image
from safetensors.torch import load_file

from advkit.commands.adapt_config import AdaptConfig
from advkit.commands.adapt_setup import open_adaptation
from advkit.files.checkpoint import read_checkpoint
from advkit.reports.adapt import AdaptResult, table


def test_the_comparison_counts_the_same_images(r: Path, dark: Path, inside: Run, tmp_path: Path) -> None:
    out = tmp_path / "x.safetensors"
    common = [r, *SHORT, "--target", dark / "dark.npz", "--method", "dann", "-o", out]
    compare = ["--compare", dark / "test.npz", "--target-labels"]
    whole = report(inside, *common, *compare)
    found = whole["result"]["comparison"]
    names = ["source-only", "target-trained", "adapted"]
    assert [model["name"] for model in found["models"]] == names
    assert (found["images"], found["shared"]) == (200, 0)
    right = {model["name"]: model["accuracy"]["successes"] for model in found["models"]}
    for gain in found["gains"]:
        assert gain["accuracy"] == pytest.approx((right["adapted"] - right[gain["less"]]) / 200)
        assert gain["only_adapted"] - gain["only_other"] == right["adapted"] - right[gain["less"]]
        assert gain["accuracy_interval"][0] <= gain["accuracy"] <= gain["accuracy_interval"][1]
    assert [record["oracle_images"] for record in whole["result"]["epochs"]] == [120, 120]
    assert not any("LABELS" in flag for flag in whole["flags"]), "they chose nothing"
    beside = {name: tmp_path / f"x.{name}.safetensors" for name in names[:2]}
    for name in names:
        path = beside.get(name, out)
        told = json.loads(inside("evaluate", path, "--data", dark / "test.npz", "--json", "-q").stdout)
        assert told["result"]["models"][0]["top1"]["successes"] == right[name], name
    control = [r, *SHORT, "--target", dark / "dark.npz", "-o", tmp_path / "none.safetensors"]
    report(inside, *control)
    wanted, own = load_file(tmp_path / "none.safetensors"), load_file(beside["source-only"])
    assert all((wanted[key] == own[key]).all() for key in wanted)
    plain = [*common[:-1], tmp_path / "plain.safetensors"]
    report(inside, *plain)
    alone, beside_others = load_file(tmp_path / "plain.safetensors"), load_file(out)
    assert all((alone[key] == beside_others[key]).all() for key in alone), "what is compared with changes nothing"
    times = [path.stat().st_mtime_ns for path in beside.values()]
    again = report(inside, *common, *compare, "--fail-below", "0")["result"]
    assert again["comparison"] == found
    assert [path.stat().st_mtime_ns for path in beside.values()] == times, "they are not trained again"
    refused = inside("adapt", *common, *compare, "--lr", "0.03")
    assert "holds the checkpoint of another run" in one_line(refused)


def test_gates_are_on_the_adapted_networks_accuracy(r: Path, dark: Path, inside: Run, tmp_path: Path) -> None:
    options = [r, *SHORT, "--epochs", "1", "--target", dark / "dark.npz", "--compare", dark / "test.npz"]
    for bounds, status in ((["--fail-below", "0"], 0), (["--fail-below", "1"], 1), (["--fail-above", "0"], 1)):
        found = inside("adapt", *options, *bounds, "-o", tmp_path / "x.safetensors", "--force", "--json")
        assert found.returncode == status, found.stderr
        told = json.loads(found.stdout)
        (gate,) = told["result"]["gates"]
        assert gate["value"] == told["result"]["comparison"]["models"][-1]["accuracy"]["rate"]
        assert gate["what"] == "accuracy of the adapted network"


def test_what_must_be_said_is_said(r: Path, dark: Path, inside: Run, tmp_path: Path) -> None:
    options = [r, *SHORT, "--target", dark / "dark.npz", "-o", tmp_path / "x.safetensors", "--force"]
    whole = report(inside, *options, "--select", "oracle", "--target-labels", "--compare", dark / "dark.npz")
    assert any("THE TARGET'S LABELS CHOSE THE EPOCH" in flag for flag in whole["flags"])
    shared = whole["result"]["comparison"]["shared"]
    assert shared >= 120
    assert any(f"{shared} of the 200 images compared on were adapted to" in flag for flag in whole["flags"])
    best = max(record["oracle_right"] for record in whole["result"]["epochs"])
    assert whole["result"]["epochs"][whole["result"]["kept_epoch"] - 1]["oracle_right"] == best
    sure = report(inside, *options, "--method", "self-training", "--threshold", "1")
    assert any("reached --threshold 1" in flag for flag in sure["flags"])
    large = np.zeros((30, 12, 10), np.uint8)
    np.savez(tmp_path / "large.npz", x=large)
    other = [r, *SHORT, "--target", tmp_path / "large.npz", "--method", "mcc", "-o", tmp_path / "x.safetensors"]
    assert any("images of 12x10 are resized to 8x8" in flag for flag in report(inside, *other, "--force")["flags"])


def test_labels_are_opened_of_the_very_images_adapted_to(r: Path, dark: Path, tmp_path: Path) -> None:
    """With --limit too, which draws without labels; pictures of classes are in another order without them."""
    arrays = dict(np.load(dark / "dark.npz"))
    for k, (image, label) in enumerate(zip(arrays["images"], arrays["labels"], strict=True)):
        file = tmp_path / "own" / f"class{label}" / f"{9 - k % 10}{k}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((255 * image.squeeze()).round().astype(np.uint8)).save(file)
    for target in (tmp_path / "own", dark / "dark.npz"):
        config = AdaptConfig(
            out=tmp_path / "x", model=str(r), source="digits", target=str(target), compare=str(dark / "test.npz"),
            target_labels=True, limit=30,
        )  # fmt: skip
        setup = open_adaptation(config, "cpu")
        assert setup.labelled is not None
        (pixels, labels), (own, _) = setup.labelled.batch(slice(None)), setup.target.batch(slice(None))
        assert torch.equal(pixels, own)
        nearest = torch.cdist(pixels.flatten(1), torch.from_numpy(arrays["images"]).flatten(1)).argmin(1)
        assert arrays["labels"][nearest].tolist() == labels.tolist()


def test_what_adversarial_training_is_compared_with_is_called_so(
    r: Path, dark: Path, inside: Run, tmp_path: Path
) -> None:
    """And is the adversarial training without the target; on the target's labels it is clean."""
    out, more = tmp_path / "x.safetensors", ["--adversarial", "--eps", "0.1", "--epochs", "1"]
    common = [r, *SHORT, *more, "--target", dark / "dark.npz"]
    compare = ["--method", "mcc", "--compare", dark / "test.npz", "--target-labels"]
    result = report(inside, *common, *compare, "-o", out)["result"]
    names = ["source-only-adversarial", "target-trained", "adapted"]
    assert [model["name"] for model in result["comparison"]["models"]] == names
    lines = table(AdaptResult.model_validate(result))
    rows = [next(line for line in lines if line.startswith(f"  {name} ")) for name in names]
    assert len({row.index(" %") for row in rows}) == 1
    assert sum("adapted less source-only-adversarial: " in line for line in lines) == 1
    report(inside, *common, "-o", tmp_path / "none.safetensors")
    wanted = load_file(tmp_path / "none.safetensors")
    found = load_file(tmp_path / "x.source-only-adversarial.safetensors")
    assert all((wanted[name] == found[name]).all() for name in wanted)
    epochs = [
        read_checkpoint(tmp_path / f"x.{name}.safetensors").meta["metrics"]["epochs"][0].get("adversarial_images")
        for name in names[:2]
    ]
    assert epochs[0] > 0
    assert epochs[1] is None
