"""What the loading of a model had to say is a flag in the report of every tool."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import handmade
import pytest
import scripted
import torch
from executable import Run

from advkit.evolution import run_search
from advkit.models import build, reference
from advkit.models.network import Network

SAID = "the weights under 'state_dict' are taken, not 'state_dict_ema'"
TRAIN = ("--data", "digits", "--limit", "40", "--epochs", "1", "--batch-size", "20", "--validation", "0.5", "-q")


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A reference to a file with averaged weights beside the others."""
    monkeypatch.chdir(tmp_path)
    first, second = (
        build.create("advkit/resnet8", num_classes=10, input_size=(1, 8, 8), seed=seed).net.state_dict()
        for seed in (0, 1)
    )
    torch.save({"state_dict": first, "state_dict_ema": second}, "w.pth")
    return "advkit/resnet8@w.pth"


def flags(inside: Run, *arguments: str) -> list[str]:
    found = inside(*arguments)
    assert found.returncode == 0, found.stderr
    report: dict[str, Any] = json.loads(Path("report.json").read_text())
    return report["flags"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("evaluate", "N=MODEL", "--data", "digits", "--limit", "10", "-q"),
        ("attack", "N=MODEL", "--data", "digits", "--limit", "10", "--eps", "0.1", "--steps", "1",
         "-o", "a.safetensors", "-q"),
        ("transfer-matrix", "N=MODEL", "advkit/cnn", "--data", "digits", "--limit", "10", "--eps", "0.1",
         "--steps", "1", "-q"),
        ("visualize", "attention", "N=MODEL", "--data", "digits", "--limit", "10", "--count", "1",
         "--figure", "a.png", "-q"),
    ],
    ids=lambda arguments: arguments[0],
)  # fmt: skip
def test_tools_that_look_at_models(inside: Run, model: str, arguments: tuple[str, ...]) -> None:
    asked = [one.replace("MODEL", model) for one in arguments]
    told = flags(inside, *asked, "--report", "report.json")
    assert sum(flag.startswith(f"N: {SAID}") for flag in told) == 1
    picked = [one.replace(model, f"{model}#ema") for one in asked]
    told = flags(inside, *picked, "--report", "report.json")
    assert [flag for flag in told if "are taken" in flag] == [
        "N: the weights under 'state_dict_ema' are taken, not 'state_dict'"
    ]


@pytest.mark.parametrize("option", ["--init", "--misalign-from", "--arch"])
def test_train(inside: Run, model: str, option: str) -> None:
    start = () if option == "--arch" else ("--arch", "advkit/resnet8")
    told = flags(inside, "train", *start, option, model, *TRAIN, "-o", "n.safetensors", "--report", "report.json")
    assert sum(SAID in flag for flag in told) == 1


def test_the_wrapper_of_lightning_is_told(inside: Run, model: str) -> None:
    state = build.create("advkit/resnet8", num_classes=10, input_size=(1, 8, 8)).net.state_dict()
    inner = {f"model.{name}": value for name, value in state.items()}
    torch.save({"state_dict": {**inner, "criterion.weight": torch.ones(10)}, "epoch": 3}, "last.ckpt")
    told = flags(inside, "evaluate", "advkit/resnet8@last.ckpt", *TRAIN[:4], "-q", "--report", "report.json")
    assert "resnet8@last.ckpt: weights outside 'model.' ignored: 1 (criterion.weight)" in told


def test_evolve(inside: Run, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """R is a checkpoint here, of which nothing is said: so the words are put into the loading."""
    load = reference.load

    def noted(ref: str, *arguments: Any, **options: Any) -> Network:
        network = load(ref, *arguments, **options)
        network.spec = replace(network.spec, notes=("said on loading",))
        return network

    monkeypatch.setattr(reference, "load", noted)
    monkeypatch.setattr(run_search, "evaluate", scripted.evaluate)
    monkeypatch.setattr(run_search, "open_executor", scripted.open_inline)
    handmade.write_reference(Path("r.safetensors"))
    handmade.write_images(Path("two.npz"))
    told = flags(
        inside, "evolve", "r.safetensors", "--data", "two.npz", "--eps", handmade.EPS, "--limit", "432",
        "--candidate-images", "384", "--candidate-epochs", "1", "--validation-images", "40", "--budget", "4",
        "--offspring", "3", "--population", "2", "--epochs", "1", "--steps", "2", "--max-multiply-adds", "400000",
        "--max-parameters", "60000", "--finalists", "1", "--accuracy-floor", "0.1", "-q",
        "-o", "e.safetensors", "--report", "report.json",
    )  # fmt: skip
    assert told.count("R: said on loading") == 1
