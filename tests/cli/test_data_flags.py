"""What the reader of the data had to say is a flag in every tool's report, the data named once."""

from __future__ import annotations

import json
from pathlib import Path

import handmade
import numpy as np
import pytest
import scripted
from executable import Run
from PIL import Image
from safetensors.torch import load_file

from advkit.evolution import run_search

EVOLVE = (
    *(
        "--rungs",
        "1",
        "--candidate-images",
        "200",
        "--validation-images",
        "40",
        "--candidate-epochs",
        "1",
        "--budget",
        "2",
    ),
    *("--offspring", "2", "--population", "2", "--epochs", "1", "--steps", "1", "--finalists", "1"),
    *("--eps", handmade.EPS, "--max-multiply-adds", "400000", "--max-parameters", "60000", "--accuracy-floor", "0.1"),
)

COMMANDS = [
    ["train", "--arch", "advkit/cnn", "--epochs", "1", "-o", "x.safetensors"],
    ["adv-pretrain", "--arch", "advkit/cnn", "--epochs", "1", "--steps", "1", "-o", "x.safetensors"],
    ["adapt", "r.safetensors", "--epochs", "1", "--target", "digits", "-o", "x.safetensors"],
    ["evaluate", "r.safetensors"],
    ["attack", "r.safetensors", "--eps", "0.1", "--steps", "1", "-o", "x.safetensors"],
    ["transfer-matrix", "r.safetensors", "--eps", "0.1", "--steps", "1"],
    ["visualize", "attention", "r.safetensors", "--figure", "x.png", "--count", "1"],
    pytest.param(["evolve", "r.safetensors", *EVOLVE, "-o", "x.safetensors"], marks=pytest.mark.slow),
]


def named(command: list[str]) -> str:
    """The option by which a command takes its data."""
    return "--source" if command[0] == "adapt" else "--data"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """``r.safetensors`` and ``pictures/``, of two classes, with a file that is no picture."""
    handmade.write_reference(tmp_path / "r.safetensors")
    arrays = np.load(handmade.write_images(tmp_path / "two.npz", 300))
    for k, (image, label) in enumerate(zip(arrays["images"], arrays["labels"], strict=True)):
        file = tmp_path / f"pictures/{label}/{k:03}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image[0] * 255).round().astype(np.uint8)).save(file)
    (tmp_path / "pictures/0/notes.txt").write_text("not a picture")
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_files_left_out_are_told(
    command: list[str], folder: Path, inside: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(run_search, "evaluate", scripted.evaluate)
    done = inside(*command, named(command), "pictures", "--quiet", "--report", "report.json")
    assert done.returncode == 0, done.stderr
    told = [flag for flag in json.loads(Path("report.json").read_text())["flags"] if "notes.txt" in flag]
    assert len(told) == 1
    assert told[0].startswith("pictures: ")
    assert told[0].count("pictures:") == 1


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_every_tool_asks_for_boxes_to_be_mended(
    command: list[str], folder: Path, inside: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Data of classes have none, so that asking for it is refused."""
    monkeypatch.chdir(folder)
    done = inside(*command, named(command), "digits", "--fix-boxes")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--fix-boxes: does nothing with digits" in done.stderr


def test_a_report_names_files_that_a_pattern_chose(folder: Path, inside: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Attacked images keep the index that they have among all of them."""
    monkeypatch.chdir(folder)
    few = ("--eps", "0.1", "--steps", "1", "-o", "x.safetensors", "--report", "report.json", "--quiet")
    done = inside("attack", "r.safetensors", "--data", "pictures#:00[13579]", *few)
    assert done.returncode == 0, done.stderr
    told = next(found for found in json.loads(Path("report.json").read_text())["inputs"] if found["kind"] == "data")
    assert (told["ref"], told["split"], told["images"]) == ("pictures", ":00[13579]", 5)
    files = sorted(Path("pictures").rglob("*.png"))
    indices = load_file("x.safetensors")["index"].tolist()
    assert sorted(files[k].stem for k in indices) == ["001", "003", "005", "007", "009"]
    done = inside("transfer-matrix", "r.safetensors", "--data", "pictures#:00[13579]", "--adversarial", "x.safetensors")
    assert done.returncode == 0, done.stderr
    done = inside("evaluate", "r.safetensors", "--data", "pictures#:9999")
    assert (done.returncode, done.stdout) == (2, "")
    assert "no name matches 9999" in done.stderr


def test_wrong_boxes_stop_a_detector_until_they_are_mended(
    tmp_path: Path, inside: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("JPEGImages", "Annotations"):
        (Path("voc") / folder).mkdir(parents=True)
    corners = ((2, 2, 20, 20), (7, 7, 7, 30), (9, 9, 60, 30))
    objects = "".join(
        f"<object><name>cat</name><bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox>"
        "</object>"
        for x0, y0, x1, y1 in corners
    )
    Image.new("RGB", (48, 32), "grey").save("voc/JPEGImages/a.png")
    Path("voc/Annotations/a.xml").write_text(f"<annotation>{objects}</annotation>")
    command = ("evaluate", "torchvision/ssdlite320_mobilenet_v3_large", "--data", "voc", "--json", "--quiet")
    done = inside(*command)
    assert (done.returncode, done.stdout) == (2, "")
    assert "of 3 boxes 1 out of range and 1 degenerate, first a.xml object 2" in done.stderr
    done = inside(*command, "--fix-boxes")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert [flag for flag in report["flags"] if "1 clipped to their image and 1 dropped as degenerate" in flag]
    assert report["result"]["models"][0]["detection"]["objects"] == 2


def test_without_data_there_is_nothing_to_mend(folder: Path, inside: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    done = inside("train", "--arch", "advkit/cnn@r.safetensors", "--epochs", "0", "-o", "x.safetensors", "--fix-boxes")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--fix-boxes: does nothing without --data" in done.stderr


def test_models_of_grey_and_of_colour_are_not_mixed_and_grey_data_for_colour_are_told(
    tmp_path: Path, inside: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, channels in (("grey", 1), ("colour", 3)):
        np.savez(f"{name}.npz", images=np.zeros((20, 8, 8, channels), np.uint8), labels=np.arange(20) % 10)
        pack = ("--arch", "advkit/cnn", "--epochs", "0", "--data", f"{name}.npz", "--quiet")
        assert inside("train", *pack, "-o", f"{name}.safetensors").returncode == 0
    models = ["grey.safetensors", "colour.safetensors"]
    for order in (models, models[::-1]):
        done = inside("evaluate", *order, "--data", "digits", "--limit", "10")
        assert (done.returncode, done.stdout) == (2, "")
        assert "colour.safetensors takes colour images" in done.stderr
        assert "grey.safetensors takes grey images" in done.stderr
    done = inside("evaluate", "colour.safetensors", "--data", "digits", "--limit", "10", "--json")
    assert any("grey images, repeated" in flag for flag in json.loads(done.stdout)["flags"])


def test_a_network_packed_untrained_is_told(tmp_path: Path, inside: Run) -> None:
    options = ("--arch", "advkit/cnn", "--data", "digits", "--epochs", "0", "-o", tmp_path / "x.safetensors")
    done = inside("train", *options, "--json")
    assert any("never trained" in flag for flag in json.loads(done.stdout)["flags"])


def test_a_limit_that_leaves_out_images_of_a_ready_made_set_is_named(tmp_path: Path, inside: Run) -> None:
    r, data = handmade.write_reference(tmp_path / "r.safetensors"), handmade.write_images(tmp_path / "two.npz", 60)
    few = ("--eps", "0.1", "--steps", "1", "--quiet")
    assert inside("attack", r, "--data", data, *few, "-o", tmp_path / "a.safetensors").returncode == 0
    ready = ("--adversarial", tmp_path / "a.safetensors", "--quiet")
    done = inside("transfer-matrix", r, "--data", data, "--limit", "20", *ready)
    assert done.returncode == 2
    assert "the 20 images that --limit takes of" in done.stderr
