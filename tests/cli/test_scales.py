"""Numbers that belong to pixels of [0, 255], or to no float32 at all, are refused in one line that says what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from executable import Run

from advkit.files.checkpoint import Checkpoint, read_checkpoint, write_checkpoint


def refused(inside: Run, *arguments: str | Path) -> str:
    done = inside(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("advkit: ")
    assert done.stderr.count("\n") == 1
    assert "unexpected" not in done.stderr
    return done.stderr


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("125", "did you mean 125/255?"),
        ("-125", "did you mean -125/255?"),
        ("1e39", "out of scale"),
        ("inf", "finite"),
        ("nan", "finite"),
        ("1/0", "numbers with commas between"),
        ("0.5,x", "numbers with commas between"),
    ],
)
@pytest.mark.parametrize("option", ["--mean", "--std"])
def test_mean_and_std_out_of_scale(inside: Run, tmp_path: Path, option: str, value: str, told: str) -> None:
    out = tmp_path / "n.safetensors"
    said = refused(
        inside, "train", "--arch", "advkit/cnn", "--data", "digits", "--epochs", "0", option, value, "-o", out
    )
    assert f"{option} {'' if '/' in value or ',' in value else value[:2]}" in said
    assert told in said
    assert not out.exists()
    assert told in refused(inside, "evaluate", "advkit/cnn", "--data", "digits", option, value)


@pytest.mark.parametrize("value", ["0", "-0.5", "1e-320", "1e-7"])
def test_a_std_of_nothing(inside: Run, value: str) -> None:
    assert "1e-06 or more" in refused(inside, "evaluate", "advkit/cnn", "--data", "digits", "--std", value)


def test_fractions_are_numbers(inside: Run, tmp_path: Path) -> None:
    out = tmp_path / "n.safetensors"
    done = inside("train", "--arch", "advkit/cnn", "--data", "digits", "--epochs", "0", "--mean", "125/255", "--std",
                  "63/255", "-o", out)  # fmt: skip
    assert done.returncode == 0, done.stderr
    meta = read_checkpoint(out).meta
    assert (meta["mean"], meta["std"]) == ([125 / 255], [63 / 255])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"mean": [125.0]}, "did you mean 125/255?"),
        ({"std": [1e-320]}, "1e-06 or more"),
        ({"std": [1e39]}, ""),
        ({"mean": [-1e39]}, ""),
        ({"mean": [10**400]}, ""),
        ({"input_size": [1, 20000, 20000]}, "1x20000x20000 are over the limit of 4,194,304 pixels"),
        ({"num_classes": 10**12, "labels": []}, "1 to 1,000,000"),
        ({"num_classes": 3}, "10 labels for 3 classes"),
        ({"labels": ["a"]}, "1 labels for 10 classes"),
    ],
)
def test_checkpoints_out_of_scale(inside: Run, r: Path, tmp_path: Path, change: dict[str, Any], told: str) -> None:
    found, path = read_checkpoint(r), tmp_path / "c.safetensors"
    write_checkpoint(path, Checkpoint(found.tensors, found.meta | change))
    assert told in refused(inside, "evaluate", path, "--data", "digits")


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("name", ["mean", "std", "num_classes"])
def test_checkpoints_of_no_numbers(inside: Run, r: Path, tmp_path: Path, name: str, value: str) -> None:
    raw, path = r.read_bytes(), tmp_path / "c.safetensors"
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    meta = json.loads(header["__metadata__"]["advkit"])
    meta[name] = float(value) if name == "num_classes" else [float(value)]
    header["__metadata__"]["advkit"] = json.dumps(meta)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + int.from_bytes(raw[:8], "little") :])
    refused(inside, "evaluate", path, "--data", "digits")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("--norm l2 --eps 128", "--eps 128: no two images of 1x8x8 are further apart than 8"),
        ("--norm l2 --eps 8.1", "did you mean 8.1/255?"),
        ("--norm l2 --eps 1e39", "--eps 1e39"),
        (
            "--norm l2 --eps 2100/255",
            "--eps 2100/255: no two images of 1x8x8 are further apart than 8, so this is no b",
        ),
        ("--norm l2 --eps 0.5 --step-size 1e39", "--step-size 1e39: no two images"),
        ("--eps 0.1 --step-size 2", "--step-size 2: pixels lie in [0, 1], so this is no bound; did you mean 2/255?"),
        ("--eps inf", "finite"),
        ("--eps nan", "finite"),
    ],
)
def test_radii_and_steps_that_bound_nothing(inside: Run, r: Path, tmp_path: Path, options: str, told: str) -> None:
    out = tmp_path / "a.safetensors"
    assert told in refused(inside, "attack", r, "--data", "digits", "--limit", "4", *options.split(), "-o", out)
    assert not out.exists()
    assert told in refused(inside, "transfer-matrix", r, "--data", "digits", "--limit", "4", *options.split())


def test_a_radius_as_wide_as_the_cube_passes(inside: Run, r: Path, tmp_path: Path) -> None:
    options = ("--norm", "l2", "--eps", "8", "--steps", "1", "-o", tmp_path / "a.safetensors")
    assert inside("attack", r, "--data", "digits", "--limit", "4", *options).returncode == 0


def test_the_option_that_is_wrong_is_named(inside: Run, r: Path, tmp_path: Path) -> None:
    options = ("--misalign-from", r, "--misalign-at", "noise", "--misalign-eps", "8", "-o", tmp_path / "t.safetensors")
    said = refused(inside, "train", "--arch", "advkit/cnn", "--data", "digits", "--epochs", "1", *options)
    assert "--misalign-eps 8:" in said
    assert "8/255" in said


@pytest.mark.parametrize(
    ("value", "told"),
    [(1.0000001, None), (1.0000009, None), (-5e-7, None), (1.00001, "1.00001"), (1.0000021, "1.0000021"),
     (255.0, "divide by 255"), (float("nan"), "NaN")],
)  # fmt: skip
def test_pixels_a_rounding_beyond(inside: Run, tmp_path: Path, value: float, told: str | None) -> None:
    images = np.full((4, 1, 8, 8), 0.5, np.float32)
    images[0, 0, 0, 0] = value
    np.savez(tmp_path / "d.npz", images=images, labels=np.arange(4))
    arguments = ("evaluate", "advkit/cnn", "--data", tmp_path / "d.npz", "--json", "-q")
    if told is None:
        assert inside(*arguments).returncode == 0
    else:
        said = refused(inside, *arguments)
        assert told in said
        assert "from 0.5 to 1;" not in said
