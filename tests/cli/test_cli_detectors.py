"""Detectors from the shell: trained, evaluated, attacked, trained adversarially; sets of boxes are data again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from executable import Run, load, one_line
from in_process import run_tool, single_threaded
from safetensors import safe_open
from safetensors.torch import load_file

from advkit.data import reference
from advkit.data.boxes import is_object
from advkit.files.checkpoint import read_checkpoint
from advkit.tasks.detection import DETECTION
from advkit.tasks.sampling import limited

SCENES = ("--data", "scenes/photo", "--limit", "20")
SMALL = ("--arch", "advkit/tiny-ssd", *SCENES, "--size", "96", "--epochs", "1", "--batch-size", "8", "-q")
ADAM = ("--optimizer", "adamw", "--lr", "0.001")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of one epoch, and its report beside it."""
    folder = tmp_path_factory.mktemp("detector")
    out = folder / "d.safetensors"
    with single_threaded():
        assert run_tool("train", *SMALL, *ADAM, "-o", out, "--report", folder / "d.json") == 0
    return out


def result(inside: Run, *arguments: str | Path) -> Any:
    found = inside(*arguments, "--json")
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout)["result"]


def test_a_detector_is_trained_and_says_what_it_is(trained: Path) -> None:
    meta = read_checkpoint(trained).meta
    assert meta["task"] == "detection"
    assert meta["input_size"] == [3, 96, 96]
    assert meta["labels"] == ["car", "house", "tree", "person", "boat", "cat"]
    (epoch,) = load(trained.with_suffix(".json"))["result"]["epochs"]
    assert epoch["right"] is None
    assert 0.0 <= epoch["validation_map50_95"] <= epoch["validation_map50"] <= 1.0
    assert epoch["validation_images"] == 2


def test_evaluate_counts_objects_and_gates_on_map(trained: Path, inside: Run) -> None:
    data = limited(DETECTION, reference.load("scenes/photo#test"), 80, 0)
    found = result(inside, "evaluate", trained, "--data", "scenes/photo#test", "--limit", "80")
    (model,) = found["models"]
    objects = is_object(data.targets) & (data.targets[..., 5] == 0)
    assert model["detection"]["objects"] == int(objects.sum())
    assert model["detection"]["images"] == len(data) == 80
    assert sum(row["objects"] for row in model["detection"]["per_class"]) == int(objects.sum())
    assert model["top1"] is None
    for bound, status in (("--fail-below", 1), ("--fail-above", 0)):
        run = inside("evaluate", trained, *SCENES, bound, "1.0", "--json")
        assert run.returncode == status
        (gate,) = json.loads(run.stdout)["result"]["gates"]
        assert gate["what"] == "mAP@.5 of d"


def test_a_set_made_on_a_detector_keeps_its_boxes_and_is_data_again(trained: Path, inside: Run, tmp_path: Path) -> None:
    for quantize in ((), ("--quantize",)):
        out = tmp_path / "a.safetensors"
        attack = ("--eps", "8/255", "--steps", "2", "-o", out, "--force", *quantize)
        (surrogate,) = result(inside, "attack", trained, *SCENES, *attack)["surrogates"]
        (model,) = result(inside, "evaluate", trained, "--data", out)["models"]
        assert model["detection"]["map50"] == surrogate["adversarial_detection"]["map50"]
        assert model["detection"]["objects"] == surrogate["clean_detection"]["objects"]
        made, clean = reference.load(str(out)), reference.load("scenes/photo#test")
        assert made.task == "detection"
        assert made.class_names == clean.class_names
        same = {int(index): k for k, index in enumerate(clean.indices)}
        images, targets = made.batch(slice(None))
        for image, target, index in zip(images, targets, made.indices.tolist(), strict=True):
            original, truth = clean.batch(torch.tensor([same[index]]))
            assert (image - original[0]).abs().max() <= 8 / 255 + 1e-6
            kept = [rows[is_object(rows)] for rows in (target, truth[0])]
            assert torch.equal(kept[0], kept[1])


def test_what_an_attack_on_a_detector_makes_larger_is_chosen(trained: Path, inside: Run, tmp_path: Path) -> None:
    made = {}
    for loss in (None, "sum", "cls", "loc", "mtd", "vanishing", "fabrication"):
        out = tmp_path / f"{loss}.safetensors"
        options = () if loss is None else ("--loss", loss)
        common = ("attack", trained, "--data", "scenes/photo", "--limit", "4", "--steps", "2", "-o", out, "-q")
        assert inside(*common, *options).returncode == 0
        with safe_open(out, "pt") as found:
            assert json.loads(found.metadata()["advkit"])["attack"]["loss"] == loss or loss is None
        made[loss] = load_file(out)["images"]
    assert torch.equal(made[None], made["sum"])
    names = ["sum", "cls", "loc", "vanishing", "fabrication"]
    assert not any(torch.equal(made[a], made[b]) for k, a in enumerate(names) for b in names[k + 1 :])


def test_what_the_attack_on_a_detector_raises_is_chosen(inside: Run, tmp_path: Path) -> None:
    out, made = tmp_path / "x.safetensors", {}
    check = ("--check-images", "1", "--check-steps", "1")
    for options in ((), ("--objective", "cls"), ("--objective", "mtd"), ("--method", "free", "--replays", "2")):
        method = () if "--method" in options else ("--method", "fast")
        run = inside("adv-pretrain", *SMALL, *ADAM, *check, *method, *options, "-o", out, "--force", "--json")
        assert run.returncode == 0, run.stderr
        made[options] = load_file(out)
        cost = json.loads(run.stdout)["result"]["cost"]
        assert cost == {"backwards": len(options) + 1.0, "forwards": 5.0} if "mtd" in options else cost["forwards"] < 3
    first, *others = made.values()
    for other in others:
        assert not all(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("method", ["pgd", "fast", "free"])
def test_at_eps_0_a_detector_gets_the_bytes_of_train(method: str, trained: Path, inside: Run, tmp_path: Path) -> None:
    out = tmp_path / "x.safetensors"
    run = inside("adv-pretrain", *SMALL, *ADAM, "--method", method, "--eps", "0", "--check-images", "1", "-o", out)
    assert run.returncode == 0, run.stderr
    plain, control = load_file(trained), load_file(out)
    assert plain.keys() == control.keys()
    assert all(torch.equal(plain[name], control[name]) for name in plain)


@pytest.mark.parametrize("kinds", ["scale-jitter,flip", "crop,flip,photometric"])
def test_a_detector_is_augmented_otherwise(kinds: str, trained: Path, inside: Run, tmp_path: Path) -> None:
    out = tmp_path / "x.safetensors"
    found = inside("train", *SMALL, *ADAM, "--augment", kinds, "-o", out, "--json")
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["params"]["augment"] == sorted(kinds.split(","))
    plain, other = load_file(trained), load_file(out)  # that of the fixture by crop,flip
    assert not all(torch.equal(plain[name], other[name]) for name in plain)


def test_a_trained_detector_goes_on_with_other_classes_and_sizes(trained: Path, inside: Run, tmp_path: Path) -> None:
    images, out = tmp_path / "data.safetensors", tmp_path / "x.safetensors"
    clean = load_subset(images)
    common = ("--epochs", "1", "--batch-size", "4", "--validation", "0", "-o", out, "--force", "--json", "-q")
    run = inside("train", "--init", trained, "--data", images, *common, *ADAM)
    assert run.returncode == 0, run.stderr
    assert read_checkpoint(out).meta["labels"] == list(clean)
    assert any("head is made anew" in flag for flag in json.loads(run.stdout)["flags"])


def load_subset(path: Path) -> tuple[str, ...]:
    """Eight images of boats and dogs in a file, of several sizes; the classes' names."""
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(0)
    names = ("boat", "dog")
    tensors = {
        "images": torch.rand(8, 3, 120, 100, generator=generator),
        "boxes": torch.tensor([[[5.0, 5.0, 60.0, 70.0], [20.0, 10.0, 90.0, 80.0]]]).expand(8, 2, 4).contiguous(),
        "labels": torch.tensor([[0, 1], [1, -1]] * 4),
        "sizes": torch.tensor([[120, 100], [90, 95]] * 4),
    }
    save_file(tensors, path, {"advkit": json.dumps({"class_names": names})})
    return names


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("train", "--arch", "advkit/tiny-ssd", "--data", "digits", "-o", "x.safetensors"), "is for detection, digits"),
        (("train", "--arch", "advkit/cnn", *SCENES, "-o", "x.safetensors"), "is for classification, scenes/photo"),
        (("train", *SMALL, "--label-smoothing", "0.1", "-o", "x.safetensors"), "--label-smoothing: does nothing"),
        (("train", "--arch", "advkit/fcos", *SCENES, "-o", "x.safetensors"), "give --backbone"),
        (
            ("train", "--arch", "advkit/tiny-ssd", "--backbone", "timm/resnet10t", *SCENES, "-o", "x.safetensors"),
            "--ba",
        ),
        (("train", "--arch", "advkit/tiny-ssd", *SCENES, "--size", "400", "-o", "x.safetensors"), "96 to 320"),
        (
            ("train", "--arch", "torchvision/fasterrcnn_mobilenet_v3_large_320_fpn", *SCENES, "-o", "x.safetensors"),
            "give --freeze-bn",
        ),
        (("attack", "{d}", *SCENES, "--loss", "ce", "-o", "a.safetensors"), "--loss ce: detection has sum"),
        (("attack", "{d}", *SCENES, "--method", "square", "-o", "a.safetensors"), "square"),
        (("attack", "{d}", *SCENES, "--method", "di", "-o", "a.safetensors"), "di: moves images"),
        (("attack", "{d}", *SCENES, "-o", "folder"), "write FILE.safetensors"),
        (("attack", "{d}", "{d}", *SCENES, "-o", "a.safetensors"), ""),
        (("evaluate", "{d}", "--data", "digits"), "data for classification"),
        (("adv-pretrain", *SMALL, "--method", "trades", "-o", "x.safetensors"), "trades"),
        (("adv-pretrain", *SMALL, "--method", "free", "--objective", "cls", "-o", "x.safetensors"), "--objective"),
    ],
)
def test_what_detectors_can_not_do_is_one_line(
    arguments: tuple[str, ...],
    what: str,
    trained: Path,
    inside: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert what in one_line(inside(*(argument.format(d=trained) for argument in arguments)))
    assert list(tmp_path.iterdir()) == []
