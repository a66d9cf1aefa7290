"""What ``transfer-matrix`` makes of networks, sets and names that are not as they should be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import handmade
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
    assert any(flag.startswith("N: not finite on 60 clean images, 60 of R's (pgd)") for flag in report["flags"])
    from advkit.reports import transfer_matrix_table
    from advkit.reports.transfer_matrix import TransferMatrixResult

    result = TransferMatrixResult.model_validate(report["result"])
    assert any(
        line.split() == ["R", "N", "-", "on", "0", "images", "that", "have", "a", "gradient"]
        for line in transfer_matrix_table.table(result, "cond", "")
    )


def test_a_set_made_on_a_model_is_no_transfer_to_it(inside: Run, r: Path, r2: Path, tmp_path: Path) -> None:
    out = tmp_path / "adv.safetensors"
    assert (
        inside("attack", r, *FEW, "--norm", "l2", "--eps", "3", "--goal", "transfer", "-o", out, "-q").returncode == 0
    )
    command = ["transfer-matrix", f"R={r}", f"V={r2}", *FEW[:4], "--adversarial", out]
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
        report = json.loads(inside("transfer-matrix", f"V={r2}", *FEW[:4], "--adversarial", out).stdout)
        flags[goal] = [flag for flag in report["flags"] if "understated" in flag]
    assert flags == {"robustness": [flags["robustness"][0]], "transfer": []}


def test_a_bound_needs_a_transfer_to_judge(inside: Run, r: Path, r2: Path, tmp_path: Path) -> None:
    out = tmp_path / "adv.safetensors"
    assert inside("attack", f"R={r}", f"V={r2}", *FEW, "-o", out, "-q").returncode == 0
    for bound in ("--fail-above", "--fail-below"):
        command = ["transfer-matrix", f"R={r}", f"V={r2}", *FEW[:4], "--adversarial", out, bound, "0.5"]
        assert "no transfer to judge" in one_line(inside(*command))
    assert "no pair" in one_line(inside("transfer-matrix", r, *FEW, "--fail-above", "0.5"))


MASKED = """
import torch
from torch import nn

from advkit.models.reference import load


class Masked(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = load({weights!r})

    def forward(self, images):
        return self.net(torch.round({levels} * images) / {levels} if {levels} else images)


def net():
    return Masked()
"""


def test_transfer_that_beats_the_attack_on_the_network_itself_is_told(inside: Run, two: Path, tmp_path: Path) -> None:
    r, found = two / "r.safetensors", {}
    few = ("--data", two / "two.npz", "--limit", "40", "--eps", handmade.EPS, "--method", "fgsm")
    for levels in (32, 0):  # the first has no gradients, and the same outputs but for rounding
        (tmp_path / f"v{levels}.py").write_text(MASKED.format(weights=str(r), levels=levels))
        done = inside("transfer-matrix", f"R={r}", f"V={tmp_path}/v{levels}.py:net", *few, "--json", "-q")
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        found[levels] = [flag for flag in report["flags"] if "masked" in flag]
        fooled = {(p["surrogate"], p["victim"]): p["raw"]["successes"] for p in report["result"]["pairs"]}
        assert fooled == {(a, b): 0 if levels and a == "V" else 40 for a in "RV" for b in "RV"}
    assert len(found[32]) == 1
    assert "V: R's examples fool it on" in found[32][0]
    assert not found[0]


@pytest.mark.parametrize("pixel", [float("nan"), 1.5, -0.1])
def test_pixels_that_no_image_has_are_refused(inside: Run, r: Path, tmp_path: Path, pixel: float) -> None:
    from safetensors.torch import load_file

    from advkit.files.tensors import read_header, write_tensors

    out = tmp_path / "adv.safetensors"
    assert inside("attack", r, *FEW, "-o", out, "-q").returncode == 0
    tensors, meta = load_file(out), json.loads(read_header(out)[1]["advkit"])
    tensors["images"][3, 0, 0, 0] = pixel
    meta["attack"]["eps"] = 10.0
    write_tensors(out, tensors, json.dumps(meta, sort_keys=True))
    refused = one_line(inside("transfer-matrix", r, *FEW[:4], "--adversarial", out))
    assert "pixels outside [0, 1]" in refused


@pytest.mark.parametrize(
    "change",
    [
        {"attack": None},
        {"attack": {"eps": "abc"}},
        {"attack": {"norm": "foo"}},
        {"attack": {"seed": "x"}},
        {"attack": {"targeted": 1}},
        {"surrogates": None},
        {"surrogates": ["a"]},
    ],
)
def test_metadata_of_a_set_that_say_nothing(inside: Run, r: Path, tmp_path: Path, change: dict[str, Any]) -> None:
    from safetensors.torch import load_file

    from advkit.files.tensors import read_header, write_tensors

    out = tmp_path / "adv.safetensors"
    assert inside("attack", r, *FEW, "-o", out, "-q").returncode == 0
    meta = json.loads(read_header(out)[1]["advkit"])
    for name, value in change.items():
        meta[name] = meta[name] | value if isinstance(value, dict) else value
    write_tensors(out, load_file(out), json.dumps(meta, sort_keys=True))
    assert "metadata" in one_line(inside("transfer-matrix", r, *FEW[:4], "--adversarial", out))


def test_what_would_do_nothing_is_refused(inside: Run, r: Path, tmp_path: Path) -> None:
    out = tmp_path / "adv.safetensors"
    assert inside("attack", r, *FEW, "-o", out, "-q").returncode == 0
    for option in ("--eps 0.5", "--steps 3", "--norm l2", "--loss margin", "--restarts 2", "--precision bfloat16"):
        refused = one_line(inside("transfer-matrix", r, *FEW[:4], "--adversarial", out, *option.split()))
        assert option.split()[0] in refused
    assert "twice" in one_line(inside("transfer-matrix", f"R={r}", *FEW, "--surrogate", "R", "--surrogate", "R"))


def test_two_names_for_one_network_are_told(inside: Run, two: Path, tmp_path: Path) -> None:
    made, copy = two / "r.safetensors", tmp_path / "copy.safetensors"
    copy.write_bytes(made.read_bytes())
    data = ("--data", two / "two.npz", "--limit", "60", "--eps", "0.25")
    report = json.loads(inside("transfer-matrix", f"A={made}", f"B={copy}", *data).stdout)
    assert report["flags"].count("B: has the weights of A") == 1
    pair = next(one for one in report["result"]["pairs"] if (one["surrogate"], one["victim"]) == ("A", "B"))
    assert pair["cond"]["rate"] == 1.0, "everything transfers to a copy: a gate must see that"
    assert pair["white_box"] is False


def test_white_box_cells_are_each_networks_own(inside: Run, r: Path, r2: Path, tmp_path: Path) -> None:
    """Of a set made on an ensemble: how often each of its networks is fooled, not how often the ensemble is."""
    from advkit.figures import heatmap
    from advkit.reports import transfer_matrix_table
    from advkit.reports.transfer_matrix import TransferMatrixResult
    from advkit.reports.transfer_matrix_table import subtitle

    out, figure = tmp_path / "adv.safetensors", tmp_path / "m.png"
    assert (
        inside("attack", f"R={r}", f"V={r2}", *FEW[:4], "--norm", "l2", "--eps", "3", "-o", out, "-q").returncode == 0
    )
    drawn: list[dict[str, Any]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(heatmap, "draw", lambda path, cells, *names, **more: drawn.append({"cells": cells, **more}))
        command = ["transfer-matrix", f"R={r}", f"V={r2}", *FEW[:4], "--adversarial", out, "--figure", figure]
        result = TransferMatrixResult.model_validate(json.loads(inside(*command).stdout)["result"])
    assert subtitle(result) == "L2 eps 3"
    pairs = {pair.victim: pair for pair in result.pairs}
    assert pairs["R"].white_box
    assert pairs["V"].white_box
    assert drawn[0]["white_box"] == {(0, 0), (0, 1)}
    assert drawn[0]["cells"] == [[pairs["R"].both.rate, pairs["V"].both.rate]]
    lines = transfer_matrix_table.table(result, "cond", "")
    (row,) = [line for line in lines if line.startswith("  adv ")]
    assert row.split()[1:] == [f"{100 * (pairs[name].both.rate or 0):.1f}*" for name in ("R", "V")]
    assert not any("adv ->" in line for line in lines)


def test_budgets_that_differ_stand_beside_their_rows(inside: Run, r: Path, r2: Path, tmp_path: Path) -> None:
    from advkit.reports.transfer_matrix import TransferMatrixResult
    from advkit.reports.transfer_matrix_table import subtitle

    out = tmp_path / "adv.safetensors"
    assert inside("attack", r, *FEW[:4], "--norm", "l2", "--eps", "3", "-o", out, "-q").returncode == 0
    command = ["transfer-matrix", f"R={r}", f"V={r2}", *FEW, "--adversarial", out, "--method", "fgsm"]
    result = TransferMatrixResult.model_validate(json.loads(inside(*command).stdout)["result"])
    assert subtitle(result) == "R V: Linf eps 0.1, adv: L2 eps 3"


def test_budgets_are_told_as_people_write_them() -> None:
    from advkit.reports.rates import budget

    told = [
        budget("linf", 8 / 255),
        budget("linf", 0.1),
        budget("l2", 8 / 255),
        budget("l1", 8 / 255),
        budget("l1", float("inf")),
        budget("linf", 0.0),
        budget("linf", 1.0),
    ]
    assert told == [
        "Linf eps 8/255",
        "Linf eps 0.1",
        "L2 eps 0.03137",
        "L1 eps 0.03137",
        "smallest L1",
        "Linf eps 0",
        "Linf eps 255/255",
    ]


def test_classes_in_another_order_are_found_by_name_and_other_names_are_told(
    inside: Run, r: Path, tmp_path: Path
) -> None:
    from advkit.files.tensors import write_tensors

    names = ["ant", "bee", "cat", "dog", "eel", "fox", "gnu", "hen", "ibis", "jay"]
    images, labels = torch.rand(20, 1, 8, 8), torch.arange(20) % 10
    data = tmp_path / "data.safetensors"
    meta = {"class_names": names}
    write_tensors(data, {"images": images, "labels": labels}, json.dumps(meta, sort_keys=True))
    same = rewritten(r, tmp_path / "same.safetensors", labels=names)
    other = rewritten(r, tmp_path / "other.safetensors", labels=[*names[:9], "jackdaw"])
    moved = rewritten(r, tmp_path / "moved.safetensors", labels=[*names[:8], "jay", "ibis"])
    swapped = rewritten(r, tmp_path / "swapped.safetensors", labels=[*names[:3], "eel", "dog", *names[5:9], "jackdaw"])
    assert "class 3" in one_line(inside("evaluate", swapped, "--data", data)), "one strange name hides no swap"
    assert "class 8" in one_line(inside("transfer-matrix", same, moved, *FEW)), (
        "models are compared with each other too"
    )

    def flags(command: list[Any], model: Path) -> list[str]:
        """Without what speaks against an attack: noise is classified by chance."""
        report = json.loads(inside(command[0], model, "--data", data, *command[1:]).stdout)
        return [flag for flag in report["flags"] if flag not in report["result"].get("suspicions", [])]

    for command in (["evaluate"], ["transfer-matrix"], ["attack", "-o", tmp_path / "a.safetensors", "--force"]):
        (found,) = flags(command, moved)
        assert "its classes are brought into the order of the data's, by name" in found
        assert flags(command, same) == []
        told = flags(command, other)
        assert [flag for flag in told if "1 classes otherwise" in flag and "jackdaw" in flag], told
        assert "otherwise" not in inside(command[0], r, "--data", data, *command[1:]).stdout, "digits have no names"


def test_precision_is_measured_for_all_attacks_of_the_matrix(
    inside: Run, r: Path, r2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = []

    def probe(networks: object, images: object, targets: object, params: object, count: int) -> str:
        counted.append(count)
        return "float32"

    monkeypatch.setattr("advkit.commands.attack_options.pick_precision", lambda asked, device: "bfloat16")
    monkeypatch.setattr("advkit.attacks.faster_precision.faster_precision", probe)
    options = [*FEW, "--precision", "auto", "--method", "fgsm", "--method", "pgd", "--method", "mi", "--steps", "2"]
    assert inside("transfer-matrix", f"R={r}", f"V={r2}", *options).returncode == 0
    assert inside("transfer-matrix", f"R={r}", f"V={r2}", *options, "--surrogate", "R").returncode == 0
    assert counted == [60 * 2 * 3, 60 * 3]


def test_a_method_that_looks_for_the_worst_case_says_so(inside: Run, two: Path) -> None:
    few = ("--data", two / "two.npz", "--limit", "20", "--eps", handmade.EPS, "--json", "-q")
    methods = ("--method", "pgd", "--method", "apgd-ce:steps=3", "--method", "autoattack:steps=2:targets=1:queries=5")
    done = inside("transfer-matrix", two / "r.safetensors", two / "v.safetensors", *few, *methods)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    goals = {row["method"]: row["goal"] for row in report["result"]["surrogate_success"]}
    assert goals == {"pgd": "transfer", "apgd-ce:steps=3": "transfer", methods[-1]: "robustness"}
    told = [flag for flag in report["flags"] if "understated" in flag]
    assert len(told) == 2
    assert all("autoattack" in flag for flag in told)
