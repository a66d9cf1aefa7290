"""What a model says of its pixels and pictures is followed, kept, and told where it is not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from executable import Run
from PIL import Image
from safetensors.torch import load_file, save_file
from timm.data import create_transform

from advkit.models import build

SIDE = 64
CUT = {"crop_pct": 0.8, "interpolation": "bicubic"}


def model_folder(path: Path, **said: Any) -> Path:
    """A timm directory for 64x64 pictures of two classes."""
    path.mkdir()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = timm.create_model("test_resnet", num_classes=2)
    save_file(net.state_dict(), path / "model.safetensors")
    described = {"input_size": [3, SIDE, SIDE], "mean": [0.5] * 3, "std": [0.5] * 3, "num_classes": 2} | said
    config = {"architecture": "test_resnet", "num_classes": 2, "pretrained_cfg": described}
    (path / "config.json").write_text(json.dumps(config))
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Two pictures of 90x70, dark at their edges."""
    for label in "ab":
        pixels = np.zeros((90, 70, 3), np.uint8)
        pixels[16:-16, 16:-16] = (200, 120, 40)
        (tmp_path / "pics" / label).mkdir(parents=True)
        Image.fromarray(pixels).save(tmp_path / "pics" / label / "0.png")
    return tmp_path / "pics"


def report(inside: Run, *arguments: str | Path) -> dict[str, Any]:
    done = inside(*arguments, "--json", "-q")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def data_of(found: dict[str, Any]) -> tuple[float | None, str | None]:
    (data,) = [one for one in found["inputs"] if one["kind"] == "data"]
    return data["crop_pct"], data["interpolation"]


def test_a_directory_sees_pictures_as_timm_shows_them(inside: Run, pictures: Path, tmp_path: Path) -> None:
    model = model_folder(tmp_path / "model", **CUT)
    out = tmp_path / "identity.safetensors"
    found = report(inside, "attack", model, "--data", pictures, "--method", "identity", "-o", out)
    wanted = create_transform((3, SIDE, SIDE), **CUT, mean=(0.0,) * 3, std=(1.0,) * 3)
    clean = wanted(Image.open(pictures / "a" / "0.png"))
    assert float((load_file(out)["images"][0] - clean).abs().max()) <= 2 / 255
    assert data_of(found) == (0.8, "bicubic")
    assert [flag for flag in found["flags"] if "scaled to 80x80 (bicubic)" in flag and "crop_pct 0.8" in flag]


def test_models_that_differ_see_whole_pictures_in_any_order(inside: Run, pictures: Path, tmp_path: Path) -> None:
    one = model_folder(tmp_path / "one", **CUT)
    other = model_folder(tmp_path / "other", crop_pct=0.9, interpolation="bilinear")
    same = model_folder(tmp_path / "same", **CUT)
    silent = model_folder(tmp_path / "silent")
    there, back = (
        report(inside, "evaluate", *models, "--data", pictures)
        for models in ((one, other, silent), (silent, other, one))
    )
    assert data_of(there) == data_of(back) == (1.0, "bilinear")
    for found in (there, back):
        flagged = [flag for flag in found["flags"] if "the models differ" in flag]
        assert sorted(flag.partition(":")[0] for flag in flagged) == ["one", "other"]
        assert {one["sha256"] for one in found["inputs"]} == {one["sha256"] for one in there["inputs"]}
    agreed = report(inside, "evaluate", one, same, silent, "--data", pictures)
    assert data_of(agreed) == (0.8, "bicubic")
    assert not [flag for flag in agreed["flags"] if "models differ" in flag]


def test_what_is_asked_for_and_not_done_is_told(inside: Run, pictures: Path, tmp_path: Path) -> None:
    model = model_folder(tmp_path / "m", crop_pct=0.9, interpolation="lanczos", crop_mode="border")
    found = report(inside, "evaluate", model, "--data", pictures)
    assert data_of(found) == (0.9, "bicubic")
    assert [flag for flag in found["flags"] if "'lanczos'" in flag]
    assert [flag for flag in found["flags"] if "crop_mode 'border'" in flag]
    arrays = tmp_path / "d.npz"
    np.savez(arrays, images=np.zeros((2, SIDE, SIDE, 3), np.uint8), labels=np.arange(2))
    found = report(inside, "evaluate", model, "--data", arrays)
    assert data_of(found) == (None, None)
    assert not [flag for flag in found["flags"] if "crop" in flag or "lanczos" in flag]


def test_packed_weights_keep_their_preparation_and_trained_ones_do_not(
    inside: Run, pictures: Path, tmp_path: Path
) -> None:
    model = model_folder(tmp_path / "model", **CUT)
    packed, trained = tmp_path / "packed.safetensors", tmp_path / "trained.safetensors"
    report(inside, "train", "--init", model, "--epochs", "0", "-o", packed)
    direct, found = (report(inside, "evaluate", f"M={path}", "--data", pictures) for path in (model, packed))
    assert data_of(found) == (0.8, "bicubic")
    assert found["result"] == direct["result"]
    many = tmp_path / "many"
    for number in range(6):
        for label in "ab":
            (many / label).mkdir(parents=True, exist_ok=True)
            shutil.copy(pictures / label / "0.png", many / label / f"{number}.png")
    training = ("--epochs", "1", "--batch-size", "4", "--size", str(SIDE), "--validation", "0")
    report(inside, "train", "--init", model, "--data", many, *training, "-o", trained)
    assert data_of(report(inside, "evaluate", trained, "--data", pictures)) == (1.0, "bilinear")


def test_adversarial_pictures_are_not_cut_again(inside: Run, pictures: Path, tmp_path: Path) -> None:
    model = model_folder(tmp_path / "model", **CUT)
    report(inside, "attack", model, "--data", pictures, "--method", "identity", "-o", f"{tmp_path}/set/")
    report(inside, "attack", model, "--data", pictures, "--method", "identity", "-o", tmp_path / "set.safetensors")
    kept, again = tmp_path / "set.safetensors", tmp_path / "again.safetensors"
    report(inside, "attack", model, "--data", tmp_path / "set", "--method", "identity", "-o", again)
    assert float((load_file(kept)["images"] - load_file(again)["images"]).abs().max()) <= 0.51 / 255


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A bare state dict of advkit/cnn for colour, in whose first layer a bias makes the mean count."""
    network = build.create("advkit/cnn", num_classes=10, input_size=(3, 8, 8), seed=0)
    state = network.net.state_dict()
    for name, tensor in state.items():
        if name.endswith("running_mean"):
            tensor.fill_(0.3)
    torch.save(state, tmp_path / "bare.pth")
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "d.npz", images=rng.integers(0, 256, (40, 8, 8, 3), dtype=np.uint8), labels=np.arange(40) % 10)
    return tmp_path


@pytest.mark.parametrize("tool", ["evaluate", "attack", "transfer-matrix", "visualize"])
def test_mean_and_std_go_to_models_that_bring_none(inside: Run, bare: Path, tool: str) -> None:
    mean, std = "0.1,0.2,0.3", "63/255,0.5,0.7"
    weights, packed = f"advkit/cnn@{bare}/bare.pth", bare / "packed.safetensors"
    report(inside, "train", "--arch", weights, "--epochs", "0", "--data", bare / "d.npz", "--mean", mean, "--std", std,
           "-o", packed)  # fmt: skip
    own = {
        "evaluate": ["evaluate"],
        "attack": ["attack", "--steps", "2", "--force", "-o", f"{bare}/a.safetensors"],
        "transfer-matrix": ["transfer-matrix", "--steps", "2"],
        "visualize": ["visualize", "attention", "--count", "1", "--samples", "2", "--figure", f"{bare}/f.svg"],
    }[tool]
    asked = ("--data", bare / "d.npz", "--limit", "20")
    second = "advkit/resnet8" if tool in ("transfer-matrix", "visualize") else None  # takes what it is given, too
    more = [f"B={second}"] if second else []
    given = report(inside, *own, f"M={weights}", *more, *asked, "--mean", mean, "--std", std)
    want = report(inside, *own, f"M={packed}", *more, *asked, *(("--mean", mean, "--std", std) if second else ()))
    plain = report(inside, *own, f"M={weights}", *more, *asked)
    for found in (given, want, plain):
        found["result"].pop("attack_seconds", None), found["result"].pop("surrogates", None)
    assert given["result"] == want["result"]
    assert plain["result"] != given["result"]
    assumed = [flag for flag in plain["flags"] if flag.startswith("M: bare weights") and "ImageNet's" in flag]
    assert len(assumed) == 1
    assert "--mean and --std" in assumed[0]
    assert not [flag for flag in given["flags"] if "bare weights" in flag]


def test_mean_and_std_that_nothing_would_take_are_refused(inside: Run, bare: Path, r: Path) -> None:
    done = inside("evaluate", r, "--data", "digits", "--mean", "0.5")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--mean, --std: every MODEL here brings its own" in done.stderr
    done = inside("evaluate", f"advkit/cnn@{bare}/bare.pth", "--data", bare / "d.npz", "--mean", "0.5,0.5")
    assert done.returncode == 2
    assert "one number for each of 3 channels" in done.stderr


def test_bare_weights_to_train_from_are_told_too(inside: Run, bare: Path) -> None:
    weights = f"advkit/cnn@{bare}/bare.pth"
    pack = ("train", "--arch", weights, "--epochs", "0", "-o", bare / "p.safetensors", "--force")
    assert [flag for flag in report(inside, *pack)["flags"] if ": bare weights, which say" in flag]
    given = report(inside, *pack, "--mean", "0.5,0.5,0.5", "--std", "0.5,0.5,0.5")
    assert not given["flags"]
