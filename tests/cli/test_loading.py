"""Every model gets the images at its own size, whatever stands before it; names, and files with a = in their name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from executable import Run, one_line
from PIL import Image

from advkit.commands import loading
from advkit.files.checkpoint import Checkpoint, write_checkpoint
from advkit.files.errors import InputError
from advkit.models import build

Evaluate = Callable[..., dict[str, Any]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pictures of 24 x 24, a checkpoint for 16 x 16 and one for 24 x 24."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    for number in range(12):
        file = tmp_path / "pictures" / f"class{number % 3}" / f"{number:02}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(file)
    for side in (16, 24):
        network = build.create("advkit/cnn", num_classes=3, input_size=(3, side, side), seed=side)
        meta = {
            "architecture": "advkit/cnn",
            "model_args": {},
            "num_classes": 3,
            "labels": [],
            "input_size": [3, side, side],
            "mean": list(network.spec.mean),
            "std": list(network.spec.std),
        }
        write_checkpoint(tmp_path / f"n{side}.safetensors", Checkpoint(network.net.state_dict(), meta))
    return tmp_path


@pytest.fixture
def evaluate(inside: Run) -> Evaluate:
    def call(*models: str) -> dict[str, Any]:
        found = inside("evaluate", *models, "--data", "pictures", "-q")
        assert found.returncode == 0, found.stderr
        report: dict[str, Any] = json.loads(found.stdout)
        return report

    return call


def test_the_order_of_models_changes_nothing(folder: Path, evaluate: Evaluate) -> None:
    results, inputs = [], []
    for order in (["n16.safetensors", "n24.safetensors"], ["n24.safetensors", "n16.safetensors"]):
        report = evaluate(*order)
        results.append({one["model"]: one for one in report["result"]["models"]})
        inputs.append({one["name"]: one.get("resized_to") for one in report["inputs"] if one["kind"] == "model"})
        assert sum("n16: resizes the images of 24x24 to its own 16x16" in flag for flag in report["flags"]) == 1
    assert results[0] == results[1]
    assert inputs[0] == inputs[1] == {"n16": [16, 16], "n24": None}
    alone = evaluate("n24.safetensors")
    assert alone["result"]["models"][0] == results[0]["n24"]
    assert "resizes" not in str(alone["flags"])


def test_it_is_the_resized_image_that_the_model_sees(folder: Path, evaluate: Evaluate) -> None:
    from advkit.data import reference as data_reference
    from advkit.models import reference
    from advkit.models.resized import resized

    network = reference.load("n16.safetensors")
    images = data_reference.load("pictures", size=(24, 24)).batch(slice(None))[0]
    small = torch.nn.functional.interpolate(images, (16, 16), mode="bilinear", antialias=True)
    both = resized(network, 24, 24)
    assert torch.allclose(both(images), network(small), atol=1e-5)
    assert both.spec.sha256 == network.spec.sha256
    assert resized(network, 16, 16) is network


def test_an_attack_is_bounded_in_the_pixels_of_the_data(folder: Path, inside: Run) -> None:
    from safetensors.torch import load_file

    from advkit.data import reference as data_reference

    np.savez(
        "arrays.npz",
        images=(np.random.default_rng(1).random((9, 24, 24, 3)) * 255).astype(np.uint8),
        labels=np.arange(9) % 3,
    )
    found = inside("attack", "n16.safetensors", "--data", "arrays.npz", "--eps", "8/255", "-o", "a.safetensors", "-q")
    assert found.returncode == 0, found.stderr
    moved = load_file("a.safetensors")["images"] - data_reference.load("arrays.npz").batch(slice(None))[0]
    assert moved.shape == (9, 3, 24, 24)
    assert 0.03 < moved.abs().max() <= 8 / 255 + 1e-6
    matrix = inside("transfer-matrix", "n16.safetensors", "n24.safetensors", "--data", "arrays.npz", "-q")
    assert matrix.returncode == 0, matrix.stderr


def test_each_model_is_opened_once_and_after_the_data(
    folder: Path, inside: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from advkit.data import reference as data_reference
    from advkit.models import reference as model_reference

    opened: list[str] = []
    for module in (data_reference, model_reference):

        def load(ref: str, *more: Any, real: Callable[..., Any] = module.load, **options: Any) -> Any:
            opened.append(ref)
            return real(ref, *more, **options)

        monkeypatch.setattr(module, "load", load)
    models, few = ["n16.safetensors", "n24.safetensors"], ["--data", "pictures", "-q"]
    for command in (
        ["evaluate", *models, *few],
        ["attack", *models, *few, "-o", "a.safetensors"],
        ["transfer-matrix", *models, *few],
        ["visualize", "attention", *models, *few, "--figure", "f.png"],
        ["train", "--init", "n24.safetensors", "--misalign-from", "n16.safetensors", *few, "--epochs", "1",
         "--batch-size", "4", "-o", "t.safetensors"],
    ):  # fmt: skip
        opened.clear()
        found = inside(*command)
        assert found.returncode == 0, found.stderr
        expected = (
            ["pictures", "n24.safetensors", "n16.safetensors"] if command[0] == "train" else ["pictures", *models]
        )
        assert opened == expected, command


def test_data_come_before_a_factory(folder: Path, inside: Run) -> None:
    (folder / "net.py").write_text(
        "import torch\ndef net():\n    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))\n"
    )
    for models in (["net.py:net"], ["advkit/cnn", "net.py:net"], ["net.py:net", "advkit/cnn"]):
        found = inside("evaluate", *models, "--data", "digits", "--limit", "8", "-q")
        assert found.returncode == 0, found.stderr
        assert [one["total"] for one in (m["top1"] for m in json.loads(found.stdout)["result"]["models"])]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("R=r.safetensors", ("R", "r.safetensors")),
        ("R'=r.safetensors", ("R'", "r.safetensors")),
        ("A longer-name 2.0=advkit/cnn", ("A longer-name 2.0", "advkit/cnn")),
        ("r.safetensors", (None, "r.safetensors")),
        ("=r.safetensors", (None, "=r.safetensors")),
        ("runs/lr=0.1.safetensors", (None, "runs/lr=0.1.safetensors")),
        ("-x=r.safetensors", (None, "-x=r.safetensors")),
    ],
)
def test_names_of_models(text: str, expected: tuple[str | None, str]) -> None:
    assert loading.split_name(text) == expected


def test_a_file_with_a_sign_of_equality_in_its_name(folder: Path, inside: Run) -> None:
    shutil.copy("n24.safetensors", "lr=0.1.safetensors")
    for written, name in (("lr=0.1.safetensors", "lr=0.1"), ("A=lr=0.1.safetensors", "A")):
        found = inside("evaluate", written, "--data", "pictures", "-q")
        assert found.returncode == 0, found.stderr
        assert json.loads(found.stdout)["result"]["models"][0]["model"] == name
    assert "0.2.safetensors" in one_line(inside("evaluate", "lr=0.2.safetensors", "--data", "pictures"))


def test_a_step_above_eps_is_told(folder: Path, inside: Run) -> None:
    for size, told in (("0.25", ["7.97 times eps"]), ("2/255", []), ("8/255", [])):
        command = ["n24.safetensors", "--data", "pictures", "--step-size", size, "-q"]
        reports = [
            inside("attack", *command, "-o", "a.safetensors"),
            inside("transfer-matrix", *command),
        ]
        for found in reports:
            flags = [flag for flag in json.loads(found.stdout)["flags"] if "--step-size" in flag]
            assert [words for words in told if words in str(flags)] == told
            assert len(flags) == len(told)


def test_methods_are_listed(inside: Run) -> None:
    found = inside("attack", "--methods")
    assert found.returncode == 0
    assert {"pgd", "fmn", "di"} <= {line.split()[0] for line in found.stdout.splitlines()}


def test_each_process_of_torchrun_takes_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert loading.device_of_rank("auto", 4) == loading.device_of_rank("cuda", 4) == "cuda:1"
    assert threads == [2, 2]
    assert loading.device_of_rank("cuda:0", 4) == "cuda:0"
    assert loading.device_of_rank("cpu", 4) == "cpu"
    assert loading.device_of_rank("auto", 1) == "cuda"
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(InputError, match=r"more processes here than GPUs \(2\); start 2"):
        loading.device_of_rank("auto", 4)
