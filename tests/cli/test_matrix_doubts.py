"""What ``transfer-matrix`` makes of networks, sets and names that are not as they should be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from executable import Run, one_line

from advkit.files.checkpoint import Checkpoint, read_checkpoint, write_checkpoint

FEW = ["--data", "digits", "--limit", "60", "--eps", "0.1"]


def rewritten(path: Path, out: Path, **meta: Any) -> Path:
    """The checkpoint at ``path`` with other metadata."""
    found = read_checkpoint(path)
    write_checkpoint(out, Checkpoint(found.tensors, found.meta | meta))
    return out


def test_a_network_without_numbers_costs_its_own_cosines_and_nothing_else(inside: Run, r: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text(
        "import torch\n"
        "class Net(torch.nn.Module):\n"
        "    def forward(self, x):\n"
        "        return x.flatten(1)[:, :10] * float('nan')\n"
        "def make():\n"
        "    return Net()\n"
    )
    found = inside("transfer-matrix", f"R={r}", f"N={broken}:make", *FEW)
    assert found.returncode == 0, found.stderr
    report = json.loads(found.stdout)
    gradients = report["result"]["gradients"]
    assert gradients["images"] == [[60, 0], [0, 0]]
    assert gradients["cosine"] == [[pytest.approx(1.0), None], [None, None]]
    accuracy = {one["model"]: one["accuracy"]["successes"] for one in report["result"]["clean"]}
    alone = json.loads(inside("evaluate", r, *FEW[:4]).stdout)["result"]["models"][0]["top1"]["successes"]
    assert accuracy["R"] == alone > 0
    assert accuracy["N"] == 0
    assert any(flag.startswith("N") and "finite" in flag for flag in report["flags"])


def test_a_set_made_on_a_model_is_no_transfer_to_it(inside: Run, r: Path, r2: Path, tmp_path: Path) -> None:
    out = tmp_path / "adv.safetensors"
    assert (
        inside("attack", r, *FEW, "--norm", "l2", "--eps", "3", "--goal", "transfer", "-o", out, "-q").returncode == 0
    )
    command = ["transfer-matrix", f"R={r}", f"V={r2}", *FEW, "--adversarial", out]
    report = json.loads(inside(*command, "--fail-above", "1").stdout)
    pairs = {(pair["surrogate"], pair["victim"]): pair["white_box"] for pair in report["result"]["pairs"]}
    assert pairs == {("adv", "R"): True, ("adv", "V"): False}
    assert [gate["what"] for gate in report["result"]["gates"]] == ["T_cond adv -> V (pgd)"]
    assert report["params"]["methods"] == [], "nothing was attacked"
    row = report["result"]["surrogate_success"][0]
    assert (row["norm"], row["eps"], row["goal"]) == ("l2", 3.0, "transfer")
    both = json.loads(inside(*command, "--method", "pgd", "--surrogate", "V").stdout)["result"]
    assert {(pair["surrogate"], pair["victim"]) for pair in both["pairs"] if pair["white_box"]} == {
        ("V", "V"),
        ("adv", "R"),
    }


def test_a_set_made_for_robustness_says_so(inside: Run, r: Path, r2: Path, tmp_path: Path) -> None:
    out = tmp_path / "adv.safetensors"
    flags = {}
    for goal in ("robustness", "transfer"):
        assert inside("attack", r, *FEW, "--goal", goal, "-o", out, "-q").returncode == 0
        report = json.loads(inside("transfer-matrix", f"V={r2}", *FEW, "--adversarial", out).stdout)
        flags[goal] = [flag for flag in report["flags"] if "understated" in flag]
    assert flags == {"robustness": [flags["robustness"][0]], "transfer": []}


def test_the_table_has_the_budget_of_a_ready_made_set(r: Path, r2: Path, tmp_path: Path) -> None:
    from advkit.commands import matrix_text
    from advkit.commands.app import run
    from advkit.commands.transfer_matrix import _subtitle
    from advkit.files.results import TransferMatrixResult

    out, report = tmp_path / "adv.safetensors", tmp_path / "m.json"
    few = [str(word) for word in FEW]
    assert run(["attack", str(r), *few, "--norm", "l2", "--eps", "3", "-o", str(out), "--report", str(report)]) == 0
    command = ["transfer-matrix", f"R={r}", f"V={r2}", *few, "--adversarial", str(out), "--report", str(report)]
    assert run(command) == 0
    result = TransferMatrixResult.model_validate(json.loads(report.read_text())["result"])
    assert _subtitle(result) == "L2 eps 3"
    lines = matrix_text.table(result, "cond", _subtitle(result))
    (row,) = [line for line in lines if line.startswith("  adv ")]
    assert row.count("*") == 1, "the maker's own cell is marked"
    assert not any("adv -> R" in line for line in lines)
    assert any("adv -> V" in line for line in lines)


def test_classes_in_another_order_are_refused_and_other_names_are_told(inside: Run, r: Path, tmp_path: Path) -> None:
    from advkit.files.tensors import write_tensors

    names = ["ant", "bee", "cat", "dog", "eel", "fox", "gnu", "hen", "ibis", "jay"]
    images, labels = torch.rand(20, 1, 8, 8), torch.arange(20) % 10
    data = tmp_path / "data.safetensors"
    meta = {"class_names": names}
    write_tensors(data, {"images": images, "labels": labels}, json.dumps(meta, sort_keys=True))
    same = rewritten(r, tmp_path / "same.safetensors", labels=names)
    other = rewritten(r, tmp_path / "other.safetensors", labels=[*names[:9], "jackdaw"])
    moved = rewritten(r, tmp_path / "moved.safetensors", labels=[*names[:8], "jay", "ibis"])
    for command in (["evaluate"], ["transfer-matrix"], ["attack", "-o", tmp_path / "a.safetensors", "--force"]):
        refused = one_line(inside(command[0], moved, "--data", data, *command[1:]))
        assert "class 8 is 'jay'" in refused
        assert "'ibis'" in refused
        assert json.loads(inside(command[0], same, "--data", data, *command[1:]).stdout)["flags"] == []
        told = json.loads(inside(command[0], other, "--data", data, *command[1:]).stdout)["flags"]
        assert [flag for flag in told if "1 classes otherwise" in flag and "jackdaw" in flag], told
        assert "otherwise" not in inside(command[0], r, "--data", data, *command[1:]).stdout, "digits have no names"
