"""Robust accuracy over eps, from an attack of minimal norm on a model whose distances are known: numbers and figure."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from executable import Run, one_line
from PIL import Image
from test_attack_suspicions import MODELS

DISTANCES = (0.05, 0.1, 0.2, 0.4)  # of ten images each from the grey at which the model changes its mind


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("models.py").write_text(MODELS)
    means = np.repeat(0.5 + np.array(DISTANCES), 10)
    means[::2] = 1.0 - means[::2]
    labels = (means > 0.5).astype(np.int64)
    labels[0] = 1 - labels[0]  # one that is wrong from the beginning
    images = np.broadcast_to(means[:, None, None, None], (40, 1, 8, 8)).astype(np.float32)
    np.savez("grey.npz", images=images, labels=labels)
    return tmp_path


@pytest.mark.parametrize(("norm", "length"), [("linf", 1.0), ("l2", 8.0)])
def test_the_curve_counts_what_resists_within_each_radius(norm: str, length: float, folder: Path, inside: Run) -> None:
    found = inside(
        "attack", "models.py:plain", "--data", "grey.npz", "--method", "fmn", "--norm", norm, "-q",
        "-o", "a.safetensors", "--json", "--figure", "curve.png",
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    curve = json.loads(found.stdout)["result"]["robust_accuracy"]
    assert [point["eps"] for point in curve] == sorted(point["eps"] for point in curve)
    assert curve[0]["eps"] == 0.0
    assert curve[0]["accuracy"]["successes"] == 39
    assert curve[-1]["eps"] == pytest.approx(0.4 * length, rel=0.03)
    assert curve[-1]["accuracy"]["successes"] == 0
    needed = np.repeat(np.array(DISTANCES), 10)[1:] * length
    checked = 0
    for point in curve:
        if (np.abs(needed / max(point["eps"], 1e-9) - 1.0) > 0.05).all():
            assert point["accuracy"]["successes"] == int((needed > point["eps"]).sum()), point
            assert point["accuracy"]["total"] == 40
            checked += 1
    assert checked > 20
    with Image.open("curve.png") as picture:
        assert picture.size[0] > 100
        assert len(picture.convert("L").getcolors() or []) > 20


def test_what_has_no_curve_draws_none(folder: Path, inside: Run) -> None:
    data = ("--data", "grey.npz", "-q", "-o", "a.safetensors", "--figure", "curve.png")
    for options in ((), ("--method", "fmn", "--eps", "0.1")):
        found = inside("attack", "models.py:plain", *data, *options)
        assert found.returncode == 2
        assert one_line(found) == "advkit: --figure curve.png: is told by fmn, ddn, cw and fab-t without --eps alone"
        assert not Path("a.safetensors").exists()


def test_what_resists_is_attacked_again_with_all_room(folder: Path, inside: Run) -> None:
    common = ("attack", "models.py:plain", "--data", "grey.npz", "-q", "-o", "a.safetensors", "--json", "--force")
    result = json.loads(inside(*common, "--eps", "0.15").stdout)["result"]
    assert result["larger_eps"] == {"eps": 0.5, "fooled": 20, "total": 20}
    none = ("--goal transfer", "--method admix", "--target next")
    for options in (("--eps", "0.45"), ("--method", "fmn"), *(("--eps", "0.15", *more.split()) for more in none)):
        assert json.loads(inside(*common, *options).stdout)["result"]["larger_eps"] is None, options
