"""Networks of one image size: known from their weights, resized to in tests, named before a training starts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from executable import Run
from PIL import Image

from advkit.data import images as data_images
from advkit.models import reference
from advkit.models.native_size import native_size


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of ViTs for 32x32 and 160x160; arrays of 32x32 and 24x40, and pictures of 24x40."""
    place = tmp_path_factory.mktemp("sizes")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for size in (32, 160):
            net = timm.create_model("test_vit", img_size=size, num_classes=4)
            torch.save(net.state_dict(), place / f"v{size}.pth")
    rng = np.random.default_rng(0)
    for name, shape in (("square", (16, 32, 32, 3)), ("wide", (16, 24, 40, 3))):
        np.savez(place / f"{name}.npz", images=rng.integers(0, 255, shape, dtype=np.uint8), labels=np.arange(16) % 4)
    for number in range(16):
        file = place / "pictures" / str(number % 4) / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (24, 40, 3), dtype=np.uint8)).save(file)
    return place


@pytest.mark.parametrize("size", [32, 160])
def test_the_size_of_a_transformer_is_that_of_its_weights(folder: Path, size: int) -> None:
    ref = f"timm/test_vit@{folder}/v{size}.pth"
    found = native_size(ref)
    assert found is not None
    assert (found.height, found.width, found.fixed) == (size, size, True)
    assert reference.load(ref).spec.input_size == (3, size, size)


def test_it_is_tested_at_that_size(folder: Path, inside: Run) -> None:
    models = [f"V{size}=timm/test_vit@{folder}/v{size}.pth" for size in (32, 160)]
    done = inside("evaluate", *models, "--data", folder / "square.npz", "--json", "-q")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    sizes = {one["name"]: one["resized_to"] for one in report["inputs"] if one["kind"] == "model"}
    assert sizes == {"V32": None, "V160": [160, 160]}


def refused(inside: Run, *arguments: str | Path, out: Path) -> str:
    done = inside("train", *arguments, "--epochs", "1", "--batch-size", "4", "-o", out)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "unexpected" not in done.stderr
    assert not list(out.parent.iterdir())
    return done.stderr


@pytest.mark.parametrize(
    ("arch", "data", "told"),
    [
        ("timm/test_vit", "wide.npz", "give --size 160"),
        ("timm/test_vit", "pictures", "give --size 160"),
        ("torchvision/inception_v3", "square.npz", "give --size 299"),
    ],
)
def test_a_size_that_a_fresh_network_cannot_take(
    folder: Path, inside: Run, tmp_path: Path, arch: str, data: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    batch = data_images.ImageSet.batch
    monkeypatch.setattr(
        data_images.ImageSet, "batch", lambda self, rows: read.append(len(self.targets[rows])) or batch(self, rows)
    )
    said = refused(inside, "--arch", arch, "--data", folder / data, "--mean", "0.5,0.5,0.5", "--std", "0.5,0.5,0.5",
                   out=tmp_path / "t.safetensors")  # fmt: skip
    assert f"{arch}: can't be trained on images of {'32x32' if data == 'square.npz' else '24x40'}" in said
    assert told in said
    assert read == [2]  # images: no loop over the data began


@pytest.mark.parametrize("data", ["wide.npz", "pictures"])
def test_a_size_that_weights_to_start_from_cannot_take(folder: Path, inside: Run, tmp_path: Path, data: str) -> None:
    weights = f"timm/test_vit@{folder}/v32.pth"
    out = tmp_path / "t.safetensors"
    said = refused(inside, "--arch", weights, "--data", folder / data, out=out)
    assert "its weights are for images of 3x32x32" in said
    assert "give --size 32" in said
    common = ("--data", folder / data, "--epochs", "0", "-o", out, "--json", "-q")
    done = inside("train", "--arch", weights, *common, "--size", "32")
    assert done.returncode == 0, done.stderr
    resized = [flag for flag in json.loads(done.stdout)["flags"] if "images of 24x40 are resized to 32x32" in flag]
    assert len(resized) == (data == "wide.npz")


def test_arrays_are_trained_on_at_the_size_that_is_asked_for(folder: Path, inside: Run, tmp_path: Path) -> None:
    common = ("train", "--arch", "advkit/cnn", "--epochs", "1", "--batch-size", "4", "--augment", "none", "-q")
    arrays = dict(np.load(folder / "wide.npz"))
    pixels = torch.from_numpy(arrays["images"]).permute(0, 3, 1, 2).float() / 255
    scaled = torch.nn.functional.interpolate(pixels, (16, 16), mode="bilinear", antialias=True)
    np.savez(tmp_path / "scaled.npz", images=scaled.permute(0, 2, 3, 1).numpy(), labels=arrays["labels"])
    nets = []
    for name, data in (("a", (folder / "wide.npz", "--size", "16")), ("b", (tmp_path / "scaled.npz",))):
        done = inside(*common, "--data", *data, "-o", tmp_path / f"{name}.safetensors")
        assert done.returncode == 0, done.stderr
        nets.append(reference.load(str(tmp_path / f"{name}.safetensors")))
    assert nets[0].spec.input_size == (3, 16, 16)
    for one, other in zip(nets[0].net.parameters(), nets[1].net.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_trying_out_changes_no_byte(folder: Path, inside: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from advkit.commands import train_setup

    common = ("train", "--arch", "timm/test_resnet", "--data", folder / "square.npz", "--epochs", "1", "--batch-size",
              "4", "-q", "-o")  # fmt: skip
    assert inside(*common, tmp_path / "a.safetensors").returncode == 0
    monkeypatch.setattr(train_setup, "try_out", lambda *_: None)
    assert inside(*common, tmp_path / "b.safetensors").returncode == 0
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_a_detector_scales_inside_what_it_is_trained_on(inside: Run, tmp_path: Path) -> None:
    """Boxes are of the images as they are."""
    common = ("--data", "scenes/photo", "--limit", "8", "--epochs", "0", "--size", "96", "--json", "-q")
    done = inside("train", "--arch", "advkit/tiny-ssd", *common, "-o", tmp_path / "d.safetensors")
    assert done.returncode == 0, done.stderr
    assert not [flag for flag in json.loads(done.stdout)["flags"] if "resized" in flag]
    assert reference.load(str(tmp_path / "d.safetensors")).spec.input_size == (3, 96, 96)
