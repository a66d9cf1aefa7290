"""``adapt``: equal bytes whatever the target's labels, and exact controls."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from adapting import SHORT, report
from executable import Run
from safetensors.torch import load_file

METHODS = ("none", "adabn", "dann", "cdan", "coral", "mcc", "self-training")
SLOW = ("none", "cdan", "coral", "mcc")  # read the target as dann does


@pytest.mark.parametrize(
    "method", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in METHODS]
)
def test_an_adaptation_gives_equal_bytes_whatever_the_targets_labels(
    method: str, r: Path, dark: Path, inside: Run, tmp_path: Path
) -> None:
    """The same file name with right labels, with wrong ones, with some that are no numbers, and without."""
    arrays = dict(np.load(dark / "dark.npz"))
    target, found = tmp_path / "target.npz", []
    labels = [arrays["labels"], 9 - arrays["labels"], np.full(len(arrays["labels"]), -7.5), None]
    more = ["--threshold", "0.2"] if method == "self-training" else []
    for k, own in enumerate(labels):
        np.savez(target, images=arrays["images"], **({} if own is None else {"labels": own}))
        out = tmp_path / f"{k}.safetensors"
        told = report(inside, r, *SHORT, "--target", target, "--method", method, "--select", "im", *more, "-o", out)
        found.append((out.read_bytes(), told["result"] | {"checkpoint": ""}, told["inputs"]))
    assert all(one == found[0] for one in found)
    assert found[0][1]["method"] == method
    assert found[0][1]["target_images"] == 120
    assert all(record["oracle_right"] is None for record in found[0][1]["epochs"])


def test_without_a_method_the_tensors_are_those_of_train(r: Path, dark: Path, inside: Run, tmp_path: Path) -> None:
    options = ["--limit", "120", "--epochs", "2", "--batch-size", "24", "--lr", "0.02", "--augment", "crop", "-q"]
    own = [r, "--source", "digits", "--target", dark / "dark.npz", *options]
    for name, tool, more in (
        ("plain", ["train"], []),
        ("fast", ["adv-pretrain", "--method", "fast", "--eps", "0.1"], ["--adversarial", "--eps", "0.1"]),
    ):
        out = tmp_path / f"{name}.safetensors"
        assert inside(*tool, "--init", r, "--data", "digits", *options, "-o", out).returncode == 0
        report(inside, *own, *more, "-o", tmp_path / "own.safetensors", "--force")
        wanted, found = load_file(out), load_file(tmp_path / "own.safetensors")
        assert wanted.keys() == found.keys()
        assert all(wanted[key].numpy().tobytes() == found[key].numpy().tobytes() for key in wanted), name
    files = [tmp_path / "without.safetensors", tmp_path / "zero.safetensors"]
    report(inside, *own, "-o", files[0])
    report(inside, *own, "--adversarial", "--eps", "0", "-o", files[1])
    assert files[0].read_bytes() == files[1].read_bytes()


def test_statistics_alone_are_no_training(r: Path, dark: Path, inside: Run, tmp_path: Path) -> None:
    out, adabn = tmp_path / "x.safetensors", ["--method", "adabn", "--epochs", "0"]
    common = [r, "--source", "digits", "--target", dark / "dark.npz", "--compare", dark / "test.npz", "-q"]
    found = report(inside, *common, *adabn, "-o", out, "--fail-below", "0.1")["result"]
    before, after = load_file(r), load_file(out)
    changed = {name for name in before if (before[name] != after[name]).any()}
    assert changed
    assert all("running" in name for name in changed)
    assert (found["epochs"], found["kept_epoch"], found["source_images"]) == ([], 0, 0)
    assert [model["name"] for model in found["comparison"]["models"]] == ["source-only", "adapted"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.safetensors"]
