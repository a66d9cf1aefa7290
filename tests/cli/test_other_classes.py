"""Fine-tuning to other classes resets the head and says so; a larger model is tested on some of its classes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from executable import Run
from PIL import Image

from advkit.commands.train_config import TrainConfig
from advkit.commands.train_start import weights_ref
from advkit.files.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from advkit.files.tensors import write_tensors
from advkit.models.build import create


@pytest.fixture
def start(tmp_path: Path) -> Path:
    """A checkpoint for cats, dogs and eels of 8x8."""
    network = create("advkit/cnn", num_classes=3, input_size=(3, 8, 8), labels=("cat", "dog", "eel"), seed=0)
    spec, path = network.spec, tmp_path / "start.safetensors"
    meta = {
        "task": spec.task, "architecture": spec.architecture, "model_args": {}, "num_classes": 3,
        "labels": list(spec.labels), "input_size": [3, 8, 8], "mean": list(spec.mean), "std": list(spec.std),
    }  # fmt: skip
    write_checkpoint(path, Checkpoint(network.net.state_dict(), meta))
    return path


def pictures(path: Path, *names: str) -> Path:
    rng = np.random.default_rng(0)
    for name in names:
        for number in range(6):
            (path / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(path / name / f"{number}.png")
    return path


def report(inside: Run, *arguments: str | Path) -> dict[str, Any]:
    done = inside(*arguments, "--json", "-q")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("arch", [(), ("--arch", "advkit/cnn")])
def test_train_resets_the_head(inside: Run, tmp_path: Path, start: Path, arch: tuple[str, ...]) -> None:
    data, out = pictures(tmp_path / "pics", "ant", "bee", "dog", "fox"), tmp_path / "t.safetensors"
    # Nothing is learnt, so that the checkpoint shows where the training began.
    training = ("--epochs", "1", "--lr", "0", "--weight-decay", "0", "--batch-size", "4", "--validation", "0")
    found = report(inside, "train", "--init", start, *arch, "--data", data, *training, "-o", out)
    assert [flag for flag in found["flags"] if "head is made anew for 4 classes instead of 3: 1 kept by name" in flag]
    old, new = read_checkpoint(start), read_checkpoint(out)
    assert (new.meta["num_classes"], new.meta["labels"]) == (4, ["ant", "bee", "dog", "fox"])
    assert np.allclose(new.tensors["classifier.weight"][2], old.tensors["classifier.weight"][1])
    assert not np.allclose(new.tensors["classifier.weight"][1], old.tensors["classifier.weight"][1])
    name = next(name for name in old.tensors if name.startswith("features") and name.endswith("weight"))
    assert np.allclose(new.tensors[name], old.tensors[name])


def test_equal_classes_keep_the_head(inside: Run, tmp_path: Path, start: Path) -> None:
    data, out = pictures(tmp_path / "pics", "cat", "dog", "eel"), tmp_path / "t.safetensors"
    training = ("--epochs", "1", "--lr", "0", "--weight-decay", "0", "--batch-size", "4", "--validation", "0")
    found = report(inside, "train", "--init", start, "--data", data, *training, "-o", out)
    assert not [flag for flag in found["flags"] if "head" in flag]
    old, new = read_checkpoint(start), read_checkpoint(out)
    assert np.allclose(new.tensors["classifier.weight"], old.tensors["classifier.weight"])


@pytest.mark.parametrize("begin", ["--init {}", "--init {} --arch advkit/cnn", "--arch advkit/cnn@{}"])
def test_weights_of_colour_start_on_grey_arrays(begin: str, inside: Run, tmp_path: Path, start: Path) -> None:
    out, data = tmp_path / "t.safetensors", tmp_path / "grey.npz"
    rng = np.random.default_rng(0)
    np.savez(data, x=rng.integers(0, 255, (40, 24, 24), dtype=np.uint8), y=np.arange(40) % 4)
    packed = tmp_path / "large.safetensors"
    old = read_checkpoint(start)
    write_checkpoint(packed, Checkpoint(old.tensors, old.meta | {"input_size": [3, 24, 24]}))
    training = ("--epochs", "1", "--lr", "0", "--weight-decay", "0", "--batch-size", "20", "--validation", "0")
    found = report(inside, "train", *begin.format(packed).split(), "--data", data, *training, "-o", out)
    assert [flag for flag in found["flags"] if "grey images, repeated to three channels" in flag]
    assert found["params"]["augment"] == []  # of colour images of this size it would be crop and flip
    new = read_checkpoint(out)
    assert new.meta["input_size"] == [3, 24, 24]
    name = next(name for name in old.tensors if name.startswith("features") and name.endswith("weight"))
    assert np.allclose(new.tensors[name], old.tensors[name])


def test_grey_weights_start_on_colour_pictures(inside: Run, tmp_path: Path) -> None:
    few = ("--limit", "40", "--epochs", "1", "--batch-size", "20", "-q")
    grey, out = tmp_path / "g.safetensors", tmp_path / "t.safetensors"
    assert inside("train", "--arch", "advkit/cnn", "--data", "digits", *few, "-o", grey).returncode == 0
    data = pictures(tmp_path / "pics", "ant", "bee")
    found = report(inside, "train", "--init", grey, "--data", data, "--epochs", "1", "--batch-size", "4", "-o", out)
    assert read_checkpoint(out).meta["input_size"] == [1, 8, 8]
    assert found["params"]["augment"] == []


def test_packing_changes_no_head(inside: Run, tmp_path: Path, start: Path) -> None:
    data = pictures(tmp_path / "pics", "ant", "bee", "dog", "fox")
    done = inside("train", "--init", start, "--data", data, "--epochs", "0", "-o", tmp_path / "t.safetensors")
    assert (done.returncode, done.stdout) == (2, "")
    assert "has 3 classes" in done.stderr


def test_some_classes_of_a_larger_model(inside: Run, tmp_path: Path, start: Path) -> None:
    data = pictures(tmp_path / "pics", "cat", "eel")
    found = report(inside, "evaluate", start, "--data", data)
    assert [flag for flag in found["flags"] if "of its 3 classes the 2 of the data count" in flag]
    assert [one["label"] for one in found["result"]["models"][0]["classes"]] == ["cat", "eel"]
    done = inside("evaluate", start, "--data", pictures(tmp_path / "others", "cat", "fox"))
    assert (done.returncode, done.stdout) == (2, "")
    assert "has 3 classes" in done.stderr


def test_classes_in_another_order_are_found_by_name(inside: Run, tmp_path: Path, start: Path) -> None:
    """The same pictures under the same names, whether their numbers are the model's or not."""
    found = {}
    for order in ("0cat 1dog 2eel", "0eel 1cat 2dog"):
        names = order.split()
        data = tmp_path / order.replace(" ", "-")
        data.mkdir()
        rng = np.random.default_rng(0)
        by_name = {name: rng.integers(0, 255, (6, 3, 8, 8), dtype=np.uint8) for name in ("cat", "dog", "eel")}
        images = np.concatenate([by_name[name[1:]] for name in names])
        labels = torch.arange(18) // 6
        tensors = {"images": torch.from_numpy(images), "labels": labels}
        meta = json.dumps({"class_names": [name[1:] for name in names]})
        write_tensors(data / "set.safetensors", tensors, meta)
        found[order] = report(inside, "evaluate", start, "--data", data / "set.safetensors")
    one, other = (
        {row["label"]: row["accuracy"] for row in each["result"]["models"][0]["classes"]} for each in found.values()
    )
    assert one == other
    assert [flag for flag in found["0eel 1cat 2dog"]["flags"] if "into the order of the data's, by name" in flag]
    assert not [flag for flag in found["0cat 1dog 2eel"]["flags"] if "order" in flag]


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"arch": "advkit/cnn"}, ""),
        ({"arch": "advkit/cnn", "init": "a.safetensors"}, "a.safetensors"),
        ({"init": "a.safetensors"}, "a.safetensors"),
        ({"arch": "advkit/cnn@w.th"}, "advkit/cnn@w.th"),
        ({"arch": "nets.py:make"}, "nets.py:make"),
        ({"arch": "advkit/fcos", "backbone": "timm/resnet18"}, ""),
        ({"arch": "advkit/fcos", "backbone": "timm/resnet18@w.pth"}, "timm/resnet18@w.pth"),
    ],
)
def test_the_weights_that_a_training_starts_from(options: dict[str, str], wanted: str) -> None:
    assert weights_ref(TrainConfig(out=Path("t.safetensors"), **options)) == wanted
