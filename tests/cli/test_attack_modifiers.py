"""``--method admix`` and ``sgm`` of the real executable: what they write, whom they refuse, and workers that agree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from executable import advkit, done, one_line, settled
from safetensors.torch import load_file

NET = "advkit/resnet8"  # fresh: what an attack does with it is the same every time
FEW = ("--data", "digits", "--limit", "24", "--eps", "0.1", "--steps", "3", "--quiet")


def made(out: Path, method: str, *options: str) -> tuple[dict[str, Any], torch.Tensor]:
    """The report, and the images written."""
    found = done("attack", NET, *FEW, "--goal", "transfer", "--method", method, "-o", out, *options)
    return json.loads(found.stdout), load_file(out)["images"]


def test_sgm_goes_another_way_and_refuses_networks_without_branches(tmp_path: Path) -> None:
    report, found = made(tmp_path / "a.safetensors", "mi,sgm:gamma=0.2")
    _, plain = made(tmp_path / "b.safetensors", "mi,sgm:gamma=1")
    assert report["params"]["method"] == "mi,sgm:gamma=0.2"
    assert float((found - plain).abs().max()) > 0.05
    refused = one_line(advkit("attack", NET, "advkit/cnn", *FEW, "--method", "sgm", "-o", tmp_path / "c.safetensors"))
    assert refused.endswith(
        "advkit/cnn has no residual branches; attack a residual network (a ResNet), or leave it out"
    )
    assert not (tmp_path / "c.safetensors").exists()


def test_admix_counts_its_views_and_refuses_a_single_class(tmp_path: Path) -> None:
    report, found = made(tmp_path / "a.safetensors", "admix:partners=2,si:scales=2")
    assert report["params"]["method"] == "si:scales=2,admix:partners=2"
    assert report["result"]["backwards_per_image"] == 3 * 2 * 2
    _, other = made(tmp_path / "b.safetensors", "admix:partners=2,si:scales=2", "--batch-size", "5")
    assert float(((found - other).abs() < 1e-5).float().mean()) > 0.98  # but for signs of gradients near 0
    _, plain = made(tmp_path / "c.safetensors", "si:scales=2")
    assert float(((found - plain).abs() < 1e-5).float().mean()) < 0.95
    one = advkit("attack", NET, *FEW, "--limit", "1", "--method", "admix", "-o", tmp_path / "d.safetensors")
    assert "admix: the 1 images of digits are of one class" in one_line(one)


def test_workers_mix_in_the_same_images(r: Path) -> None:
    def report(workers: str) -> dict[str, Any]:
        methods = ("--method", "mi,admix:partners=2,si:scales=2", "--method", "mi,sgm")
        models = (f"A={NET}", f"V={r}", "--surrogate", "A")
        found = done(
            "transfer-matrix", *models, *FEW, *methods, "--batch-size", "8", "--workers", workers, forked_workers=True
        )
        told = settled(json.loads(found.stdout))
        told.pop("command")
        told["host"].pop("processes")
        return told

    alone = report("1")
    assert [one["method"] for one in alone["params"]["methods"]] == ["mi,si:scales=2,admix:partners=2", "mi,sgm"]
    assert report("2") == alone
