"""Whatever is wrong with a file: one clear line that names it, status 2, and nothing written. Odd pictures are fine."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from executable import Run, one_line
from PIL import Image
from safetensors.torch import load_file

from advkit.data.builtin import digits
from advkit.data.raw_dataset import LoadOptions
from advkit.files.checkpoint import read_checkpoint, write_checkpoint
from advkit.files.tensors import read_header, write_tensors

Command = Callable[[str], list[str]]
USES: dict[str, Command] = {  # every way to give a data set to a network of ten classes and 8x8 grey pixels
    "evaluate": lambda data: ["evaluate", "r.safetensors", "--data", data],
    "attack": lambda data: ["attack", "r.safetensors", "--data", data, "-o", "out.safetensors"],
    "transfer-matrix": lambda data: ["transfer-matrix", "A=r.safetensors", "B=r.safetensors", "--data", data],
    "visualize": lambda data: ["visualize", "attention", "r.safetensors", "--data", data, "--figure", "out.png"],
    "train --init": lambda data: ["train", "--init", "r.safetensors", "--data", data, "-o", "out.safetensors"],
    "train --misalign-from": lambda data: [
        *("train", "--arch", "advkit/cnn", "--misalign-from", "r.safetensors", "--data", data, "-o", "out.safetensors"),
        *("--batch-size", "2", "--epochs", "1"),
    ],
}


@pytest.fixture
def folder(r: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(r, tmp_path / "r.safetensors")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def pictures(folder: Path, classes: list[str], each: int, mode: str = "L", side: int = 8) -> None:
    generator = np.random.default_rng(0)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for number in range(each):
            pixels = generator.integers(0, 256, (side, side, 3), dtype=np.uint8)
            Image.fromarray(pixels).convert(mode).save(folder / name / f"{number}.png")


@pytest.mark.parametrize("use", [use for use in USES if use != "train --init"])  # which makes its head anew
def test_another_number_of_classes(use: str, folder: Path, inside: Run) -> None:
    np.savez(folder / "twelve.npz", images=np.zeros((24, 8, 8), np.uint8), labels=np.arange(24) % 12)
    pictures(folder / "two", ["cat", "dog"], 4)
    # A network that is trained anew takes pictures in colour, which the reference does not.
    for data, count in (("twelve.npz", "12"), ("two", "2"))[: 1 if use == "train --misalign-from" else 2]:
        line = one_line(inside(*USES[use](data), "-q"))
        assert {"10", count} <= set(line.replace(",", " ").replace(";", " ").split())
        assert "classes" in line
    assert not list(folder.glob("out*"))


@pytest.mark.parametrize("use", USES)
def test_another_size(use: str, folder: Path, inside: Run) -> None:
    """A network resizes the images to its own size and says so; one that is trained on keeps to its own."""
    labels = np.arange(20) % 10
    pixels = np.random.default_rng(0).integers(0, 256, (20, 16, 16), dtype=np.uint8)
    np.savez(folder / "large.npz", images=pixels, labels=labels)
    np.savez(folder / "colour.npz", images=np.zeros((20, 8, 8, 3), np.uint8), labels=labels)
    found = inside(*USES[use]("large.npz"), "-q")
    if use == "train --init":
        assert {"1x16x16", "1x8x8"} <= set(re.split(r"[,; ]", one_line(found)))
    else:
        assert found.returncode == 0, found.stderr
        report = json.loads(found.stdout)
        sizes = [one["resized_to"] for one in report["inputs"] if one["kind"] == "model"]
        assert sizes
        assert set(map(tuple, sizes)) == {(8, 8)}
        assert any("resizes the images" in flag for flag in report["flags"])
        for path in folder.glob("out*"):
            path.unlink()
    line = one_line(inside(*USES[use]("colour.npz"), "-q"))
    assert "channel" in line
    assert not list(folder.glob("out*"))


@pytest.mark.parametrize("use", USES)
def test_no_images(use: str, folder: Path, inside: Run) -> None:
    np.savez(folder / "none.npz", images=np.zeros((0, 8, 8), np.uint8), labels=np.zeros(0, np.int64))
    nothing = {"images": torch.zeros(0, 1, 8, 8), "labels": torch.zeros(0, dtype=torch.int64)}
    write_tensors(folder / "none.safetensors", nothing, "{}")
    (folder / "empty").mkdir()
    (folder / "bare/cat").mkdir(parents=True)
    (folder / "bare/dog").mkdir(parents=True)
    for data in ("none.npz", "none.safetensors", "empty", "bare"):
        assert data.partition(".")[0] in one_line(inside(*USES[use](data), "-q"))
    assert not list(folder.glob("out*"))


def odd_pictures(folder: Path) -> None:
    """One picture of each kind in ten classes, all of them the same scan of a digit."""
    source = digits()["test"](LoadOptions())
    pixels = (source.read(torch.tensor([0]))[0, 0] * 255).round().numpy().astype(np.uint8)
    grey = Image.fromarray(pixels)
    for name in map(str, range(10)):
        (folder / name).mkdir(parents=True)
    grey.save(folder / "0" / "grey.png")
    grey.convert("RGB").save(folder / "0" / "colour.png")
    grey.convert("P").save(folder / "0" / "palette.gif")
    Image.fromarray(255 - pixels).convert("CMYK").save(folder / "0" / "cmyk.tiff")
    grey.convert("CMYK").save(folder / "0" / "cmyk-of-grey.tiff")
    Image.fromarray(pixels.astype(np.uint16) * 257).save(folder / "0" / "deep.png")
    grey.convert("RGBA").save(folder / "0" / "transparent.png")
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    grey.rotate(180).save(folder / "0" / "turned.png", exif=exif)


def test_odd_pictures_are_read_as_what_they_show(folder: Path, inside: Run) -> None:
    odd_pictures(folder / "odd")
    found = inside(
        "attack", "r.safetensors", "--data", "odd", "--method", "identity", "--quantize", "-o", "seen.safetensors"
    )
    assert found.returncode == 0, found.stderr
    images = load_file("seen.safetensors")["images"][:, 0].int()
    names = sorted(path.name for path in (folder / "odd/0").iterdir())
    negative = names.index("cmyk.tiff")
    for name, image in zip(names, images, strict=True):
        expected = 255 - images[names.index("grey.png")] if name == "cmyk.tiff" else images[names.index("grey.png")]
        assert (image - expected).abs().max() <= 1, name
    assert images[negative].float().mean() > images[names.index("grey.png")].float().mean()


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "tiff", "webp", "bmp"])
def test_a_truncated_picture_is_named(suffix: str, folder: Path, inside: Run) -> None:
    pictures(folder / "set", [str(k) for k in range(10)], 1)
    file = folder / "set" / "4" / f"cut.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)).save(file)
    whole = file.read_bytes()
    for kept in (0, 1, 10, len(whole) // 2):
        file.write_bytes(whole[:kept])
        for use in ("evaluate", "attack"):
            assert f"cut.{suffix}" in one_line(inside(*USES[use]("set"), "-q")), kept
    assert not list(folder.glob("out*"))


def cuts(size: int, header: int) -> list[int]:
    """Where to cut a file: its first bytes, all around the header's end, many places in the header and the data."""
    around, inside = range(header - 5, header + 5), range(0, header, max(1, header // 12))
    return sorted({*range(10), *around, *inside, *range(0, size, max(1, size // 20)), size - 1} & set(range(size)))


@pytest.mark.parametrize(
    "kind",
    [
        *("checkpoint", "data"),
        *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("adversarial", "weights", "state")),
    ],
)
def test_safetensors_cut_anywhere(kind: str, folder: Path, inside: Run) -> None:
    assert (
        inside("attack", "r.safetensors", "--data", "digits", "--limit", "20", "-q", "-o", "a.safetensors").returncode
        == 0
    )
    source = folder / ("r.safetensors" if kind in ("checkpoint", "weights", "state") else "a.safetensors")
    bad = folder / ("t.resume.safetensors" if kind == "state" else "bad.safetensors")
    command = {
        "checkpoint": ["evaluate", "bad.safetensors", "--data", "digits"],
        "weights": ["evaluate", "advkit/cnn@bad.safetensors", "--data", "digits"],
        "data": ["evaluate", "r.safetensors", "--data", "bad.safetensors"],
        "adversarial": ["transfer-matrix", "r.safetensors", "--data", "digits", "--adversarial", "bad.safetensors"],
        "state": ["train", "--arch", "advkit/cnn", "--data", "digits", "--resume", "-o", "t.safetensors"],
    }[kind]
    whole = source.read_bytes()
    for kept in cuts(len(whole), 8 + int.from_bytes(whole[:8], "little")):
        bad.write_bytes(whole[:kept])
        assert bad.name in one_line(inside(*command, "-q")), kept
    bad.write_bytes(whole + b"\\0")
    assert bad.name in one_line(inside(*command, "-q"))


def test_checkpoints_that_lie(folder: Path, inside: Run) -> None:
    """NaN, another dtype, tensors too few, too many or of another shape, and metadata that doesn't fit them."""
    good = read_checkpoint(folder / "r.safetensors")
    name = next(name for name, value in good.tensors.items() if value.ndim == 4)
    weight = good.tensors[name]
    tensors = {
        "NaN": {name: weight * float("nan")},
        "infinity": {name: torch.full_like(weight, float("inf"))},
        "int32": {name: weight.to(torch.int32)},
        "shape": {name: weight[:1].clone()},
        "unexpected": {"more": weight.clone()},
    }
    command = ["evaluate", "bad.safetensors", "--data", "digits", "-q"]
    for word, change in tensors.items():
        write_checkpoint(folder / "bad.safetensors", type(good)({**good.tensors, **change}, good.meta))
        line = one_line(inside(*command))
        assert "bad.safetensors" in line
        assert word in line
    less = {key: value for key, value in good.tensors.items() if key != name}
    write_checkpoint(folder / "bad.safetensors", type(good)(less, good.meta))
    assert "missing" in one_line(inside(*command))
    changes = {
        "num_classes": 7,
        "input_size": [1, 8],
        "mean": ["x"],
        "std": [0.0],
        "architecture": "advkit/nothing",
        "labels": "ten",
        "spec": "advkit/checkpoint/99",
    }
    for key, value in changes.items():
        write_checkpoint(folder / "bad.safetensors", type(good)(good.tensors, {**good.meta, key: value}))
        assert inside(*command).returncode == 2, key
        assert one_line(inside(*command))


def test_hostile_headers(folder: Path, inside: Run) -> None:
    def file(header: bytes, length: int | None = None, data: bytes = b"") -> bytes:
        return (len(header) if length is None else length).to_bytes(8, "little") + header + data

    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    hostile = {
        "longer than the file": file(b"{}", 2**63 - 1),
        "not JSON": file(b"{oops"),
        "a list": file(b"[]"),
        "deep": file(b"[" * 100_000),
        "negative shape": file(json.dumps({"a": {**entry, "shape": [-2]}}).encode(), data=bytes(8)),
        "huge shape": file(json.dumps({"a": {**entry, "shape": [2**39, 2**39]}}).encode(), data=bytes(8)),
        "beyond the end": file(json.dumps({"a": {**entry, "data_offsets": [0, 800]}}).encode(), data=bytes(8)),
        "overlap": file(json.dumps({"a": entry, "b": entry}).encode(), data=bytes(8)),
        "dtype": file(json.dumps({"a": {**entry, "dtype": "F8_E4M3"}}).encode(), data=bytes(8)),
        "metadata": file(json.dumps({"__metadata__": {"advkit": 3}}).encode()),
    }
    for what, data in hostile.items():
        (folder / "bad.safetensors").write_bytes(data)
        for command in (["bad.safetensors", "--data", "digits"], ["r.safetensors", "--data", "bad.safetensors"]):
            assert "bad.safetensors" in one_line(inside("evaluate", *command, "-q")), what


def test_a_set_of_other_images_is_no_row(folder: Path, inside: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    make = ["attack", "r.safetensors", "--data", "digits", "--limit", "30", "--eps", "0.1", "-q", "-o", "a.safetensors"]
    assert inside(*make).returncode == 0
    matrix = ["transfer-matrix", "r.safetensors", "--data", "digits", "-q", "--adversarial"]
    assert inside(*matrix, "a.safetensors").returncode == 0
    monkeypatch.setattr("advkit.transfer.matrix.measure_batch", lambda *_: pytest.fail("work before the check"))
    tensors, meta = load_file("a.safetensors"), read_header(folder / "a.safetensors")[1]["advkit"]
    changed = {
        "labels": {"labels": (tensors["labels"] + 1) % 10},
        "eps": {"images": (tensors["images"] + 0.5) % 1.0},
        "not in": {"index": tensors["index"] + 100_000},
        "outcome": {"outcome": tensors["outcome"][:5].clone()},
    }
    for word, change in changed.items():
        write_tensors(folder / "b.safetensors", {**tensors, **change}, meta)
        assert word in one_line(inside(*matrix, "b.safetensors")), word
    assert "a.safetensors" in one_line(inside(*matrix[:3], "digits#train", *matrix[4:], "a.safetensors"))
