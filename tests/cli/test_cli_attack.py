"""``attack`` by its files: what it writes is inside the budget, is what it reports, and no batch size changes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from executable import Run, advkit, one_line
from safetensors.torch import load_file
from torch import Tensor

from advkit.data.reference import load
from advkit.tasks.classification import CLASSIFICATION
from advkit.tasks.sampling import limited

ROUNDING = 1e-5  # of a pixel: convolutions of other batch sizes sum in another order
EPS = 0.25


@pytest.fixture
def attack(two: Path, inside: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """``attack OPTIONS`` on 64 images and R made by hand; returns the report's result and the tensors of its set."""
    monkeypatch.chdir(tmp_path)

    def run(*options: str, out: str = "a.safetensors") -> tuple[dict[str, Any], dict[str, Tensor]]:
        data = ("--data", two / "two.npz", "--limit", "64")
        found = inside("attack", two / "r.safetensors", *data, "-q", "-o", out, "--force", *options)
        assert found.returncode == 0, found.stderr
        tensors = load_file(out) if out.endswith(".safetensors") else {}
        return json.loads(found.stdout)["result"], tensors

    return run


@pytest.mark.parametrize("goal", ["robustness", pytest.param("transfer", marks=pytest.mark.slow)])
@pytest.mark.parametrize("method", ["pgd", "mi,di,ti", "ni,si", "noise"])
def test_batch_sizes_give_the_same_adversarials(method: str, goal: str, attack: Any) -> None:
    options = ["--method", method, "--goal", goal, "--eps", str(EPS)]
    options += ["--steps", "3", "--loss", "margin"] if method != "noise" else []
    whole, expected = attack(*options, "--batch-size", "64")
    for size in ("7", "1"):
        found, tensors = attack(*options, "--batch-size", size)
        assert tensors.keys() == expected.keys()
        for name, tensor in tensors.items():
            assert torch.allclose(tensor.float(), expected[name].float(), atol=ROUNDING), (name, size)
        for key in ("surrogates", "ensemble_success", "forwards_per_image", "backwards_per_image", "images"):
            assert found[key] == whole[key]
        assert found["norms"] == pytest.approx(whole["norms"], abs=1e-6)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("quantize", [False, True])
def test_images_stay_in_the_budget_that_the_report_names(norm: str, quantize: bool, attack: Any, two: Path) -> None:
    eps = {"linf": EPS, "l2": 2.5, "l1": 9.3}[norm]
    options = ["--norm", norm, "--eps", str(eps), *(["--quantize"] if quantize else [])]
    result, tensors = attack(*options)
    images = tensors["images"]
    assert images.dtype == (torch.uint8 if quantize else torch.float32)
    assert result["output_form"] == ("safetensors-uint8" if quantize else "safetensors-float32")
    pixels = images.double() / 255 if quantize else images.double()
    clean = limited(CLASSIFICATION, load(str(two / "two.npz")), 64, 0).batch(slice(None))[0].double()
    moved = (pixels - clean).flatten(1)
    size = torch.linalg.vector_norm(moved, {"linf": float("inf"), "l2": 2.0, "l1": 1.0}[norm], dim=1)
    assert float(size.max()) <= eps * (1 + 1e-5) + 1e-6
    assert float(pixels.min()) >= 0
    assert float(pixels.max()) <= 1
    assert result["norms"][f"{norm}_max"] == pytest.approx(float(size.max()), abs=1e-5)
    assert result["norms"][f"{norm}_mean"] == pytest.approx(float(size.mean()), abs=1e-5)
    assert result["surrogates"][0]["success"]["successes"] == int((tensors["outcome"] == 1).sum()) > 0


def test_eps_zero_changes_nothing(attack: Any, two: Path) -> None:
    clean = limited(CLASSIFICATION, load(str(two / "two.npz")), 64, 0).batch(slice(None))[0]
    for norm in ("linf", "l2", "l1"):
        for method in ("pgd", "mi,di,ti", "noise", "identity"):
            result, tensors = attack("--eps", "0", "--norm", norm, "--method", method)
            assert torch.equal(tensors["images"], clean)
            assert result["surrogates"][0]["success"]["successes"] == 0
            assert result["norms"]["linf_max"] == result["norms"]["l2_max"] == result["norms"]["l1_max"] == 0.0


def test_success_grows_with_eps(attack: Any) -> None:
    rates = []
    for eps in ("0", "0.02", "0.05", "0.1", "0.2", "0.4"):
        result, _ = attack("--eps", eps)
        rates.append(result["surrogates"][0]["success"]["rate"])
    assert rates == sorted(rates)
    assert rates[0] == 0.0
    assert rates[-1] > 0.9


def test_attack_beats_noise_and_the_other_direction(attack: Any) -> None:
    success = {}
    for method in ("pgd", "mi,ti", "noise"):
        result, _ = attack("--eps", "0.3", "--method", method)
        success[method] = result["surrogates"][0]["success"]["rate"]
    assert success == {"pgd": 1.0, "mi,ti": 1.0, "noise": 0.0}


def test_pictures_are_the_quantized_set(attack: Any) -> None:
    """What is written as PNG files reads back, image for image, as what --quantize writes."""
    _, tensors = attack("--eps", str(EPS), "--quantize")
    result, _ = attack("--eps", str(EPS), out="pngs")
    assert result["output_form"] == "png"
    pictures = load("pngs", channels=1)
    pixels, labels = pictures.batch(slice(None))
    assert pictures.num_classes == 2
    order = torch.argsort(tensors["index"])
    assert torch.equal(labels, tensors["labels"][order])
    assert torch.equal((pixels * 255).round().to(torch.uint8), tensors["images"][order])


def test_attack_replaces_only_what_it_may(
    r: Path, inside: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["attack", r, "--data", "digits", "--limit", "8", "-q", "-o"]
    (tmp_path / "a.safetensors").write_text("precious")
    assert "--force" in one_line(inside(*command, "a.safetensors"))
    assert (tmp_path / "a.safetensors").read_text() == "precious"
    assert inside(*command, "a.safetensors", "--force").returncode == 0
    first = (tmp_path / "a.safetensors").read_bytes()
    assert inside(*command, "a.safetensors", "--seed", "1").returncode == 0, "an adversarial set makes room for another"
    assert (tmp_path / "a.safetensors").read_bytes() != first
    assert inside(*command, "pngs").returncode == 0
    assert "--force" in one_line(inside(*command, "pngs"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("precious")
    assert one_line(inside(*command, "mine"))
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "precious"


def test_equal_runs_give_equal_bytes(attack: Any, tmp_path: Path) -> None:
    attack("--method", "mi,di")
    first = (tmp_path / "a.safetensors").read_bytes()
    attack("--method", "mi,di")
    assert (tmp_path / "a.safetensors").read_bytes() == first


LINEAR = """
import torch


def linear(left, right, threshold):
    score = torch.full((8, 8), right / 32)
    score[:, :4] = left / 32
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2))
    with torch.no_grad():
        net[1].weight.copy_(20 * torch.stack([-score.flatten(), score.flatten()]))
        net[1].bias.copy_(20 * torch.tensor([threshold, -threshold]))
    return net


def a(num_classes=2):
    return linear(0.5, 0.5, 0.5)


def b(num_classes=2):
    return linear(3.0, -2.0, 0.6)
"""


def test_an_ensemble_is_fooled_more_than_by_an_attack_on_one(two: Path, inside: Run, tmp_path: Path) -> None:
    """Brighter everywhere, what A's class 0 asks for, leaves B where it was; both together move the halves apart."""
    (tmp_path / "net.py").write_text(LINEAR)
    a, b, out = f"{tmp_path}/net.py:a", f"{tmp_path}/net.py:b", tmp_path / "a.safetensors"
    common = ["--data", two / "two.npz", "--limit", "100", "--eps", "0.25", "--goal", "transfer", "-q", "-o", out]

    def correct(model: str) -> int:
        found = json.loads(inside("evaluate", model, "--data", out).stdout)["result"]["models"][0]
        return int(found["top1"]["successes"])

    assert inside("attack", a, *common).returncode == 0
    alone = correct(b)
    assert correct(a) == 0
    both = json.loads(inside("attack", f"A={a}", f"B={b}", *common).stdout)["result"]
    assert [found["model"] for found in both["surrogates"]] == ["A", "B"]
    assert correct(b) == 0 < alone
    outcome = load_file(out)["outcome"]
    assert both["ensemble_success"]["successes"] == int((outcome == 1).sum())
    assert both["ensemble_success"]["total"] == int((outcome != 0).sum()) == 100


NARROW = """
import torch
from torch import nn


class Narrow(nn.Linear):
    def forward(self, images):
        if len(images) > {most}:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes.")
        return super().forward(images.flatten(1))


def net():
    torch.manual_seed(0)
    return Narrow(64, 10)
"""


def test_where_memory_ends_the_images_go_on_in_halves(tmp_path: Path) -> None:
    for name, most in (("narrow", 3), ("wide", 99), ("none", 0)):
        (tmp_path / f"{name}.py").write_text(NARROW.format(most=most))
    options = ["--data", "digits", "--limit", "20", "--batch-size", "16", "--eps", "0.1", "--goal", "transfer"]
    told = {}
    for name in ("narrow", "wide"):
        out = tmp_path / f"{name}.safetensors"
        done = advkit("attack", f"{tmp_path / name}.py:net", *options, "-q", "-o", out)
        assert done.returncode == 0, done.stderr
        told[name] = json.loads(done.stdout)["result"]["ensemble_success"], done.stderr
    assert told["narrow"][0] == told["wide"][0]
    assert told["wide"][0]["successes"] > 0
    assert not told["wide"][1]
    sizes = (16, 8, 4)
    assert told["narrow"][1].splitlines() == [
        f"advkit: memory ends at {size} images in a pass; going on with {size // 2}" for size in sizes
    ]
    narrow, wide = (load_file(tmp_path / f"{name}.safetensors") for name in ("narrow", "wide"))
    assert (narrow["images"] - wide["images"]).abs().max() < 1e-6
    assert torch.equal(narrow["outcome"], wide["outcome"])
    refused = one_line(advkit("evaluate", f"{tmp_path / 'none.py'}:net", *options[:4]))
    assert "none.py:net: fails on 1x8x8 images" in refused
    assert "t allocate memory" in refused
