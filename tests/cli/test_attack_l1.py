"""``--norm l1`` from the command line to the set, its readers and its report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from executable import Run, one_line
from safetensors.torch import load_file

from advkit.attacks.methods import parse_method
from advkit.attacks.params import AttackParams
from advkit.data.reference import load
from advkit.files.tensors import read_header, write_tensors
from advkit.reports.attack import AttackResult, table
from advkit.tasks.classification import CLASSIFICATION
from advkit.tasks.sampling import limited

EPS = 6.5  # of 64 pixels
FEW = ("--data", "digits", "--limit", "40")
BOUNDED = ("pgd", "fgsm", "mi,di,ti", "ni", "vmi:samples=2", "apgd-ce:steps=12", "apgd-dlr:steps=12",
           "apgd-t:steps=6:targets=3", "square:queries=40", "noise", "autoattack:steps=4:queries=12")  # fmt: skip


@pytest.fixture
def attack(r: Path, inside: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """``attack OPTIONS --norm l1``; returns the report's result, and L1 norms (N,) of what was written, in float64."""
    monkeypatch.chdir(tmp_path)
    clean = limited(CLASSIFICATION, load("digits"), 40, 0).batch(slice(None))[0].double()

    def run(*options: str) -> tuple[dict[str, Any], torch.Tensor]:
        found = inside("attack", r, *FEW, "--norm", "l1", "-q", "-o", "a.safetensors", "--force", "--json", *options)
        assert found.returncode == 0, found.stderr
        pixels = load_file("a.safetensors")["images"]
        pixels = pixels.double() / 255 if pixels.dtype == torch.uint8 else pixels.double()
        assert 0.0 <= float(pixels.min()) <= float(pixels.max()) <= 1.0
        return json.loads(found.stdout)["result"], (pixels - clean).abs().sum((1, 2, 3))

    return run


@pytest.mark.parametrize("quantize", [False, True])
@pytest.mark.parametrize("method", BOUNDED)
def test_what_is_written_lies_in_the_ball_and_is_what_the_report_says(method: str, quantize: bool, attack: Any) -> None:
    result, size = attack("--eps", str(EPS), "--method", method, *(["--quantize"] if quantize else []))
    assert float(size.max()) <= EPS * (1 + 1e-5)
    assert result["norms"]["l1_max"] == pytest.approx(float(size.max()), rel=1e-5)
    assert result["norms"]["l1_mean"] == pytest.approx(float(size.mean()), rel=1e-5)
    assert not [one for one in result["suspicions"] if "budget" in one]
    success = result["surrogates"][0]["success"]
    if method != "noise":
        assert success["successes"] > 2 * max(1, result["surrogates"][0]["noise_success"]["successes"])


@pytest.mark.parametrize("method", ["fmn:steps=40", "fab-t:steps=10"])
def test_the_least_norm_needs_no_eps_and_tells_a_curve(method: str, attack: Any) -> None:
    result, size = attack("--method", method)
    fooled = result["ensemble_success"]["successes"]
    assert fooled == result["ensemble_success"]["total"] == result["norms"]["fooled"]
    needed = size[size > 0]
    assert len(needed) == fooled
    assert result["norms"]["l1_median_fooled"] == pytest.approx(needed.double().quantile(0.5).item(), rel=0.05)
    for point in result["robust_accuracy"]:
        beyond = int((needed > point["eps"] * (1 + 1e-6)).sum())
        assert abs(point["accuracy"]["successes"] - beyond) <= 1, "of equal norms float32 may part one"


def test_all_is_fooled_where_the_grey_image_is_in_reach(attack: Any) -> None:
    result, _ = attack("--eps", "0.5", "--method", "pgd")
    assert result["larger_eps"]["eps"] == 32.0
    assert result["larger_eps"]["fooled"] == result["larger_eps"]["total"] > 0


def test_the_table_tells_l1_and_its_budget(r: Path, inside: Run, tmp_path: Path) -> None:
    lines = []
    for norm, eps in (("l1", "6.5"), ("l2", "1")):
        out = tmp_path / f"{norm}.safetensors"
        command = ["attack", r, *FEW, "--norm", norm, "--eps", eps, "-o", out, "-q", "--report", tmp_path / "r.json"]
        assert inside(*command).returncode == 0
        result = AttackResult.model_validate(json.loads((tmp_path / "r.json").read_text())["result"])
        params = AttackParams(parse_method("pgd"), eps=float(eps), norm=norm)  # type: ignore[arg-type]
        lines.append(table(result, params))
    assert lines[0][0].startswith("pgd, L1 eps 6.5, 40 images")
    told = [line for line in lines[0] if line.startswith(("norms reached", "median"))]
    assert [line.count(", L1 ") for line in told] == [1, 1]
    assert not any("L1" in line for line in lines[1])


def test_a_set_in_l1_is_read_back_and_counts_as_if_it_had_been_made_there(
    r: Path, r2: Path, inside: Run, attack: Any
) -> None:
    attack("--eps", str(EPS), "--goal", "transfer")
    both = ("transfer-matrix", f"R={r}", f"V={r2}", *FEW, "-q", "--json", "--norm", "l1", "--eps", str(EPS))
    found = inside(*both, "--adversarial", "a.safetensors", "--method", "pgd", "--surrogate", "R")
    assert found.returncode == 0, found.stderr
    result = json.loads(found.stdout)["result"]
    rows = {row["surrogate"]: row for row in result["surrogate_success"]}
    assert (rows["a"]["norm"], rows["a"]["eps"]) == ("l1", EPS)
    pairs = {one["surrogate"]: one for one in result["pairs"] if one["victim"] == "V"}
    for rate in ("raw", "noise", "flipped"):
        assert pairs["a"][rate]["successes"] == pairs["R"][rate]["successes"], rate
    assert pairs["a"]["raw"]["successes"] > 0


def test_a_set_that_lies_beyond_its_radius_is_refused(r2: Path, inside: Run, attack: Any) -> None:
    attack("--eps", str(EPS), "--goal", "transfer")
    told = json.loads(read_header(Path("a.safetensors"))[1]["advkit"])
    told["attack"]["eps"] = 1.0
    write_tensors(Path("b.safetensors"), load_file("a.safetensors"), json.dumps(told, sort_keys=True))
    found = inside("transfer-matrix", f"V={r2}", *FEW, "--adversarial", "b.safetensors", "-q")
    assert found.returncode == 2
    assert "lies further than its eps 1 from digits" in one_line(found)


def test_cw_and_ddn_are_refused_in_l1(r: Path, inside: Run, tmp_path: Path) -> None:
    for method in ("cw", "ddn"):
        found = inside("attack", r, *FEW, "--norm", "l1", "--method", method, "-o", tmp_path / "a.safetensors")
        assert found.returncode == 2
        assert one_line(found) == f"advkit: --norm l1: {method} has l2 only"
        assert not (tmp_path / "a.safetensors").exists()


def test_the_radius_of_linf_is_not_taken_for_one_of_l1(r: Path, inside: Run, tmp_path: Path) -> None:
    options = ["--data", "digits", "--limit", "5", "--norm", "l1", "--method", "apgd-ce"]
    refused = one_line(inside("attack", r, *options, "-o", tmp_path / "a.safetensors"))
    assert refused == (
        "advkit: --norm l1: give --eps too, a sum over all entries of an image: 8/255 is a radius of linf"
    )
    assert "--norm l1: give --eps too" in one_line(inside("transfer-matrix", f"R={r}", f"V={r}", *options))
