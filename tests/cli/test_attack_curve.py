"""Robust accuracy over eps, from an attack of minimal norm on a model whose distances are known: numbers and figure."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from executable import Run, one_line
from PIL import Image
from test_attack_suspicions import MODELS, summary, verdict

from advkit.attacks.larger_eps import Unbounded

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


@pytest.mark.parametrize(("norm", "length"), [("linf", 1.0), ("l2", 8.0), ("l1", 64.0)])
def test_the_curve_counts_what_resists_within_each_radius(norm: str, length: float, folder: Path, inside: Run) -> None:
    found = inside(
        "attack", "models.py:plain", "--data", "grey.npz", "--method", "fmn", "--norm", norm, "-q",
        "-o", "a.safetensors", "--json", "--figure", "curve.png",
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    curve = json.loads(found.stdout)["result"]["robust_accuracy"]
    assert [point["eps"] for point in curve] == sorted(point["eps"] for point in curve)
    assert curve[0]["eps"] == 0.0
    assert len(curve) == 33
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
    assert checked > 0
    with Image.open("curve.png") as picture:
        assert picture.size[0] > 100
        assert len(picture.convert("L").getcolors() or []) > 20


def test_what_has_no_curve_draws_none(folder: Path, inside: Run) -> None:
    data = ("--data", "grey.npz", "-q", "-o", "a.safetensors", "--figure", "curve.png")
    for options in ((), ("--method", "fmn", "--eps", "0.1"), ("--method", "fmn", "--target", "next")):
        found = inside("attack", "models.py:plain", *data, *options)
        assert found.returncode == 2
        methods = "fmn, ddn, cw and fab-t, without --eps and --target,"
        advice = f"only {methods} tell robust accuracy over eps; leave it out"
        assert one_line(found) == f"advkit: --figure curve.png: {advice}"
        assert not Path("a.safetensors").exists()


def test_what_resists_is_attacked_again_with_all_room(folder: Path, inside: Run) -> None:
    common = ("attack", "models.py:plain", "--data", "grey.npz", "-q", "-o", "a.safetensors", "--json", "--force")
    result = json.loads(inside(*common, "--eps", "0.15").stdout)["result"]
    assert result["larger_eps"] == {"eps": 0.5, "fooled": 20, "total": 20}
    none = ("--goal transfer", "--method admix", "--target next")
    for options in (
        ("--eps", "0.45"),
        ("--eps", "0.7"),
        ("--method", "fmn"),
        *(("--eps", "0.15", *more.split()) for more in none),
    ):
        assert json.loads(inside(*common, *options).stdout)["result"]["larger_eps"] is None, options


def test_images_that_resist_are_told_from_others_in_every_batch(folder: Path, inside: Run) -> None:
    """Of 80 images, in batches of 8, every other resists; 32 of them are attacked again, by any step."""
    means = np.where(np.arange(80) % 2, 0.55, 0.9)
    images = np.broadcast_to(means[:, None, None, None], (80, 1, 8, 8)).astype(np.float32)
    np.savez("more.npz", images=images, labels=np.ones(80, dtype=np.int64))
    found = inside(
        "attack", "models.py:plain", "--data", "more.npz", "--eps", "0.1", "--step-size", "0.001", "--no-random-start",
        "--steps", "60", "--batch-size", "8", "-q", "-o", "a.safetensors", "--json",
    )  # fmt: skip
    result = json.loads(found.stdout)["result"]
    assert result["surrogates"][0]["success"]["successes"] == 40
    assert result["larger_eps"] == {"eps": 0.5, "fooled": 32, "total": 32}


@pytest.mark.parametrize(("fooled", "suspicious"), [(15, True), (16, False)])
def test_fewer_than_half_are_suspicious(fooled: int, suspicious: bool, folder: Path) -> None:
    found = summary(0.1, 0.1)
    found._unbounded = Unbounded(0.5, fooled, 32)
    assert any("accuracy does not fall with eps" in line for line in found.suspicions(10)) == suspicious


def test_places_of_what_resists_go_on_over_batches(folder: Path) -> None:
    """Sixteen images that all resist, three times."""
    found = summary(0.0, 0.1)
    assert found._resisting == list(range(16))
    for _ in range(2):
        found.add(verdict(0.0, 0.1))
    assert found._resisting == list(range(32))


def test_what_goes_by_small_differences_takes_float32(folder: Path, inside: Run) -> None:
    common = (
        "attack",
        "models.py:plain",
        "--data",
        "grey.npz",
        "--method",
        "fmn",
        "-q",
        "-o",
        "a.safetensors",
        "--json",
    )
    refused = inside(*common, "--precision", "bfloat16")
    assert one_line(refused) == "advkit: --precision bfloat16: fmn takes float32; leave it out"
    assert json.loads(inside(*common, "--precision", "auto").stdout)["params"]["precision"] == "float32"
