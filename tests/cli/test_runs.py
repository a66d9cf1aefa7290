"""Gates, interruption, bad input, equal bytes, two processes."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from executable import Run, advkit, one_line, start, torchrun
from handmade import write_reference
from safetensors.torch import load_file, save_file

from advkit.files.checkpoint import parse_metadata
from advkit.files.tensors import read_header
from advkit.training.state import SPEC

LONG = ["train", "--arch", "advkit/cnn", "--data", "digits", "--limit", "700", "--batch-size", "32", "--epochs", "5"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of an uninterrupted run."""
    out = tmp_path_factory.mktemp("whole") / "whole.safetensors"
    assert advkit(*LONG, "-o", out).returncode == 0
    return out


def test_equal_runs_give_equal_bytes(whole: Path, tmp_path: Path, inside: Run) -> None:
    assert inside(*LONG, "-o", tmp_path / "again.safetensors").returncode == 0
    assert (tmp_path / "again.safetensors").read_bytes() == whole.read_bytes()


@pytest.mark.parametrize(
    ("number", "status"),
    [
        (signal.SIGKILL, -9),
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_run_resumes_to_the_same_bytes(
    whole: Path, tmp_path: Path, inside: Run, number: signal.Signals, status: int
) -> None:
    out, state = tmp_path / "x.safetensors", tmp_path / "x.resume.safetensors"
    process = start(*LONG, "-o", out, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not state.exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(number)
    errors = process.communicate(timeout=120)[1]
    assert process.returncode == status, errors
    assert not out.exists()
    assert "Traceback" not in errors
    assert state.exists()
    refused = inside(*LONG, "-o", out)
    assert "--resume" in one_line(refused)
    changed = inside(*LONG, "--lr", "0.01", "-o", out, "--resume")
    assert "lr" in one_line(changed)
    finished = len(parse_metadata(state, read_header(state)[1], SPEC, "training state")["history"])
    resumed = inside(*LONG, "-o", out, "--resume")
    assert resumed.returncode == 0
    told = [int(epoch) for epoch in re.findall(r"advkit: epoch (\d+)/", resumed.stderr)]
    assert told == list(range(finished + 1, told[-1] + 1)), "each epoch is told by the run that trained it"
    assert out.read_bytes() == whole.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]


def test_a_checkpoint_of_another_run_is_not_replaced_unasked(r: Path, tmp_path: Path, inside: Run) -> None:
    out = tmp_path / "r.safetensors"
    shutil.copy(r, out)
    short = ["train", "--arch", "advkit/cnn", "--data", "digits", "--limit", "200", "--epochs", "1", "-o", out]
    assert "--force" in one_line(inside(*short))
    assert out.read_bytes() == r.read_bytes()
    assert inside(*short, "--force").returncode == 0
    assert out.read_bytes() != r.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("tool", [["train"], ["adv-pretrain", "--method", "fast", "--eps", "0.02"]])
def test_two_processes_report_what_one_does(tool: list[str], tmp_path: Path, inside: Run) -> None:
    """Sums are taken in another order, and rounding grows: losses agree to 1 %, counts to 5 images."""
    options = [*tool, "--arch", "advkit/cnn", "--data", "digits", "--limit", "300", "--epochs", "2"]
    options += ["--batch-size", "32", "--lr", "0.02", "--precision", "float32"]
    assert inside(*options, "-o", tmp_path / "one.safetensors", "--report", tmp_path / "one.json").returncode == 0
    found = torchrun(*options, "-o", tmp_path / "two.safetensors", "--report", tmp_path / "two.json")
    assert found.returncode == 0, found.stderr
    one, two = (json.loads((tmp_path / name).read_text())["result"] for name in ("one.json", "two.json"))
    for a, b in zip(one["epochs"], two["epochs"], strict=True):
        assert a["images"] == b["images"]
        assert abs(a["right"] - b["right"]) <= 5
        assert abs(a["validation_right"] - b["validation_right"]) <= 5
        assert b["cross_entropy"] == pytest.approx(a["cross_entropy"], rel=1e-2)


MATRIX = ["--data", "two.npz", "--limit", "60", "--eps", "0.25"]


@pytest.fixture
def here(two: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the directory of the networks made by hand, where nothing is to be left."""
    monkeypatch.chdir(two)


@pytest.mark.usefixtures("here")
def test_a_report_and_a_figure(tmp_path: Path, inside: Run) -> None:
    found = inside("transfer-matrix", "r.safetensors", "v.safetensors", *MATRIX, "--figure", tmp_path / "m.png")
    report = json.loads(found.stdout)
    assert report["schema"] == "advkit/transfer-matrix/1"
    (pair,) = [pair for pair in report["result"]["pairs"] if (pair["surrogate"], pair["victim"]) == ("r", "v")]
    assert pair["cond"]["total"] == 60
    assert 0 < pair["cond"]["successes"] < 60, "those of class 1"
    assert (tmp_path / "m.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.usefixtures("here")
def test_gates(tmp_path: Path, inside: Run) -> None:
    options = ["transfer-matrix", "r.safetensors", "v.safetensors", *MATRIX, "--report", tmp_path / "r"]
    assert inside(*options, "--fail-above", "1").returncode == 0
    failed = inside(*options, "--fail-above", "0")
    assert failed.returncode == 1
    assert "gate failed" in failed.stderr
    assert json.loads((tmp_path / "r").read_text())["status"] == "gate-failed"
    assert inside(*options, "--fail-below", "1").returncode == 1
    assert inside(*options, "--fail-below", "0").returncode == 0
    nothing = inside(*options, "--method", "identity", "--fail-above", "0.5")
    assert nothing.returncode == 1, "no image fooled the surrogate: the gate has nothing to stand on"
    assert "no images" in nothing.stderr
    for threshold, status in (("0.5", 0), ("0.9", 1)):  # one that says 1 whatever it sees is right on half of them
        write_reference(tmp_path / "one.safetensors", threshold=0.0)
        command = ["evaluate", tmp_path / "one.safetensors", "--data", "two.npz"]
        assert inside(*command, "--fail-below", threshold).returncode == status
        assert inside(*command, "--fail-above", threshold).returncode == 0
    assert inside(*command, "--fail-above", "0.4").returncode == 1


@pytest.mark.usefixtures("here")
def test_an_adversarial_set_is_data_and_a_row(tmp_path: Path, inside: Run) -> None:
    out = tmp_path / "adv.safetensors"
    options = ["attack", "r.safetensors", *MATRIX, "--goal", "transfer", "-o", out]
    made = json.loads(inside(*options).stdout)["result"]["surrogates"][0]
    seen = json.loads(inside("evaluate", "r.safetensors", "--data", out).stdout)["result"]["models"][0]["top1"]
    assert seen["successes"] == made["adversarial_accuracy"]["successes"] == 0
    both = ["transfer-matrix", "R=r.safetensors", "V=v.safetensors", *MATRIX]
    found = json.loads(inside(*both, "--surrogate", "R", "--method", "pgd", "--adversarial", out).stdout)["result"]
    rates = {(pair["surrogate"], pair["victim"]): pair for pair in found["pairs"]}
    assert rates["adv", "V"]["cond"] == rates["R", "V"]["cond"]
    first = out.read_bytes()
    assert inside(*options, "--batch-size", "7").returncode == 0
    other, tensors = tmp_path / "other.safetensors", load_file(out)
    assert len(first) == out.stat().st_size
    tensors["images"] = torch.zeros_like(tensors["images"])
    from advkit.files.tensors import read_header, write_tensors

    write_tensors(other, tensors, read_header(out)[1]["advkit"])
    assert "eps" in one_line(inside(*both[:-2], "--adversarial", other))


BAD = {
    "--eps 8": (["--eps", "8"], "8/255"),
    "method": (["--method", "magic"], "magic"),
    "compose": (["--method", "fgsm,mi"], "fgsm"),
    "loss": (["--loss", "hinge"], "hinge"),
    "target": (["--target", "eleven"], "eleven"),
    "option": (["--no-such"], "--no-such"),
    "data": (["--data", "digit"], "digits"),
    "split": (["--data", "digits#val"], "#train"),
    "directory": (["-o", "nowhere/x.safetensors"], "nowhere"),
    "limit": (["--limit", "0"], "--limit"),
    "device": (["--device", "tpu"], "tpu"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_options_are_one_line(
    name: str, r: Path, tmp_path: Path, inside: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    options, word = BAD[name]
    monkeypatch.chdir(tmp_path)
    found = inside("attack", r, "--data", "digits", "-o", "x.safetensors", *options)
    assert word in one_line(found)
    assert list(tmp_path.iterdir()) == []


def test_damaged_checkpoints_are_one_line(r: Path, tmp_path: Path, inside: Run) -> None:
    whole = r.read_bytes()
    tensors = load_file(r)
    name = next(iter(tensors))
    broken = {f"cut at {k}": whole[:k] for k in [0, 1, 7, 8, 9, 100, 1000, len(whole) // 2, len(whole) - 1]}
    broken["hostile header"] = (2**63 - 1).to_bytes(8, "little") + whole[8:]
    broken["one byte more"] = whole + b"\0"
    path = tmp_path / "bad.safetensors"
    for what, data in broken.items():
        path.write_bytes(data)
        assert "bad.safetensors" in one_line(inside("evaluate", path, "--data", "digits")), what
    changed = {
        "NaN": {**tensors, name: tensors[name] * float("nan")},
        "missing": {key: value for key, value in tensors.items() if key != name},
        "unexpected": {**tensors, "more": tensors[name].clone()},
        "dtype|whole numbers|int": {**tensors, name: tensors[name].to(torch.int32)},
    }
    for what, state in changed.items():
        save_file(state, path)
        assert re.search(what, one_line(inside("evaluate", f"advkit/cnn@{path}", "--data", "digits"))), what


@pytest.mark.usefixtures("here")
def test_attention_is_drawn(tmp_path: Path, inside: Run) -> None:
    figure = tmp_path / "a.png"
    options = ["visualize", "attention", "R=r.safetensors", "V=v.safetensors", "--data", "two.npz", "--figure", figure]
    found = json.loads(inside(*options, "--pick", "all-correct", "--count", "2").stdout)["result"]
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert len(found["images"]) == 2
    assert all(image["predictions"] == {"R": image["label"], "V": image["label"]} for image in found["images"])
    chosen = json.loads(inside(*options, "--index", "17", "--map", "saliency").stdout)["result"]
    assert [image["index"] for image in chosen["images"]] == [17]
    assert list(chosen["mean_agreement"]) == ["saliency"]
    assert "9999" in one_line(inside(*options, "--index", "9999"))
