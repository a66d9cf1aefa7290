"""The real executable: streams, gates, interruption, bad input, equal bytes."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from executable import Run, advkit, environment, one_line, start
from safetensors.torch import load_file, save_file

LONG = ["train", "--arch", "advkit/cnn", "--data", "digits", "--batch-size", "32", "--epochs", "4"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of an uninterrupted run."""
    out = tmp_path_factory.mktemp("whole") / "whole.safetensors"
    assert advkit(*LONG, "-o", out).returncode == 0
    return out


def test_equal_runs_give_equal_bytes(whole: Path, tmp_path: Path) -> None:
    assert advkit(*LONG, "-o", tmp_path / "again.safetensors").returncode == 0
    assert (tmp_path / "again.safetensors").read_bytes() == whole.read_bytes()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_an_interrupted_run_resumes_to_the_same_bytes(
    whole: Path, tmp_path: Path, number: signal.Signals, status: int
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
    refused = advkit(*LONG, "-o", out)
    assert "--resume" in one_line(refused)
    changed = advkit(*LONG, "--lr", "0.01", "-o", out, "--resume")
    assert "lr" in one_line(changed)
    assert advkit(*LONG, "-o", out, "--resume").returncode == 0
    assert out.read_bytes() == whole.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]


def test_a_checkpoint_of_another_run_is_not_replaced_unasked(r: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.safetensors"
    shutil.copy(r, out)
    short = ["train", "--arch", "advkit/cnn", "--data", "digits", "--limit", "200", "--epochs", "1", "-o", out]
    assert "--force" in one_line(advkit(*short))
    assert out.read_bytes() == r.read_bytes()
    assert advkit(*short, "--force").returncode == 0
    assert out.read_bytes() != r.read_bytes()


def test_two_processes_report_what_one_does(tmp_path: Path) -> None:
    """Sums are taken in another order, and rounding grows: losses agree to 1 %, counts to 5 images."""
    options = [
        "train",
        "--arch",
        "advkit/cnn",
        "--data",
        "digits",
        "--limit",
        "300",
        "--epochs",
        "2",
        "--batch-size",
        "32",
    ]
    options += ["--lr", "0.02", "--precision", "float32"]
    assert advkit(*options, "-o", tmp_path / "one.safetensors", "--report", tmp_path / "one.json").returncode == 0
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "advkit"]
    command = [*torchrun, *options, "-o", str(tmp_path / "two.safetensors"), "--report", str(tmp_path / "two.json")]
    found = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=200, check=False)
    assert found.returncode == 0, found.stderr
    half = [*command, "--precision", "bfloat16", "--epochs", "1", "-o", str(tmp_path / "half.safetensors")]
    half += ["--report", str(tmp_path / "half.json")]
    found = subprocess.run(half, capture_output=True, text=True, env=environment(), timeout=200, check=False)
    assert found.returncode == 0, found.stderr
    odd = subprocess.run(
        [*half, "--batch-size", "33", "--force"], capture_output=True, text=True, env=environment(), check=False
    )
    assert "not shared evenly by 2 processes" in odd.stderr
    one, two = (json.loads((tmp_path / name).read_text())["result"] for name in ("one.json", "two.json"))
    for a, b in zip(one["epochs"], two["epochs"], strict=True):
        assert a["images"] == b["images"]
        assert abs(a["right"] - b["right"]) <= 5
        assert abs(a["validation_right"] - b["validation_right"]) <= 5
        assert b["cross_entropy"] == pytest.approx(a["cross_entropy"], rel=1e-2)


def test_json_in_a_pipe_a_table_on_a_terminal(r: Path, r2: Path, tmp_path: Path) -> None:
    options = ["transfer-matrix", r, r2, "--data", "digits", "--limit", "60", "--eps", "0.1"]
    piped = advkit(*options)
    report = json.loads(piped.stdout)
    assert report["schema"] == "advkit/transfer-matrix/1"
    pair = next(pair for pair in report["result"]["pairs"] if pair["surrogate"] != pair["victim"])
    assert pair["cond"]["total"] >= pair["cond"]["successes"] > 0
    primary, secondary = pty.openpty()
    process = start(*options, "--figure", tmp_path / "m.png", stdout=secondary, stderr=subprocess.DEVNULL)
    os.close(secondary)
    text = b""
    while True:
        try:
            part = os.read(primary, 4096)
        except OSError:
            break
        if not part:
            break
        text += part
    assert process.wait() == 0
    lines = text.decode().splitlines()
    assert not lines[0].startswith("{")
    assert max(map(len, lines)) <= 80
    assert any("T_cond" in line for line in lines)
    assert (tmp_path / "m.png").read_bytes().startswith(b"\x89PNG")


def test_gates(r: Path, r2: Path, tmp_path: Path) -> None:
    options = [
        "transfer-matrix",
        r,
        r2,
        "--data",
        "digits",
        "--limit",
        "60",
        "--eps",
        "0.1",
        "--report",
        tmp_path / "r",
    ]
    assert advkit(*options, "--fail-above", "1").returncode == 0
    failed = advkit(*options, "--fail-above", "0")
    assert failed.returncode == 1
    assert "gate failed" in failed.stderr
    assert json.loads((tmp_path / "r").read_text())["status"] == "gate-failed"
    assert advkit(*options, "--fail-below", "1").returncode == 1
    nothing = advkit(*options, "--method", "identity", "--fail-above", "0.5")
    assert nothing.returncode == 1, "no image fooled the surrogate: the gate has nothing to stand on"
    assert "no images" in nothing.stderr
    assert advkit("evaluate", r, "--data", "digits", "--fail-below", "1").returncode == 1
    assert advkit("evaluate", r, "--data", "digits", "--fail-above", "1").returncode == 0


def test_an_adversarial_set_is_data_and_a_row(r: Path, r2: Path, tmp_path: Path) -> None:
    out = tmp_path / "adv.safetensors"
    options = ["attack", r, "--data", "digits", "--limit", "80", "--eps", "0.1", "--goal", "transfer", "-o", out]
    made = json.loads(advkit(*options).stdout)["result"]["surrogates"][0]
    seen = json.loads(advkit("evaluate", r, "--data", out).stdout)["result"]["models"][0]["top1"]
    assert seen["successes"] == made["adversarial_accuracy"]["successes"]
    both = ["transfer-matrix", f"R={r}", f"V={r2}", "--data", "digits", "--limit", "80", "--eps", "0.1"]
    found = json.loads(advkit(*both, "--surrogate", "R", "--method", "pgd", "--adversarial", out).stdout)["result"]
    rates = {(pair["surrogate"], pair["victim"]): pair for pair in found["pairs"]}
    assert rates["adv", "V"]["cond"] == rates["R", "V"]["cond"]
    first = out.read_bytes()
    assert advkit(*options, "--batch-size", "7").returncode == 0
    other, tensors = tmp_path / "other.safetensors", load_file(out)
    assert len(first) == out.stat().st_size
    tensors["images"] = (tensors["images"] + 0.5) % 1.0
    from advkit.files.tensors import read_header, write_tensors

    write_tensors(other, tensors, read_header(out)[1]["advkit"])
    assert "eps" in one_line(advkit(*both[:-2], "--adversarial", other))


def test_a_reader_that_leaves_is_no_error(r: Path) -> None:
    command = f"{sys.executable} -m advkit evaluate {r} --data digits --limit 50 | true; exit ${{PIPESTATUS[0]}}"
    found = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=environment(), check=False)
    assert found.returncode in (0, 141)
    assert "Traceback" not in found.stderr


def test_a_full_disk_leaves_nothing_half_written(r: Path, tmp_path: Path) -> None:
    out = tmp_path / "adv.safetensors"
    out.write_bytes(b"")
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000));"
        "from advkit.commands.app import run; sys.exit(run(sys.argv[1:]))"
    )
    arguments = ["attack", str(r), "--data", "digits", "--eps", "0.1", "-o", str(out), "--force"]
    command = [sys.executable, "-c", code, *arguments]
    found = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    assert "cannot write" in one_line(found)
    assert [path.name for path in tmp_path.iterdir()] == ["adv.safetensors"]
    assert out.read_bytes() == b""


BAD = {
    "--eps 8": (["--eps", "8"], "8/255"),
    "method": (["--method", "magic"], "magic"),
    "compose": (["--method", "fgsm,mi"], "fgsm"),
    "loss": (["--loss", "dlr"], "dlr"),
    "target": (["--target", "eleven"], "eleven"),
    "option": (["--no-such"], "--no-such"),
    "data": (["--data", "digit"], "digits"),
    "split": (["--data", "digits#val"], "#train"),
    "directory": (["-o", "nowhere/x.safetensors"], "nowhere"),
    "limit": (["--limit", "0"], "--limit"),
    "device": (["--device", "tpu"], "tpu"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_options_are_one_line(name: str, r: Path, tmp_path: Path) -> None:
    options, word = BAD[name]
    found = advkit("attack", r, "--data", "digits", "-o", "x.safetensors", *options, cwd=tmp_path)
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


def test_attention_is_drawn(r: Path, r2: Path, tmp_path: Path) -> None:
    figure = tmp_path / "a.png"
    options = ["visualize", "attention", f"R={r}", f"V={r2}", "--data", "digits", "--figure", figure]
    found = json.loads(advkit(*options, "--pick", "all-correct", "--count", "2").stdout)["result"]
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert len(found["images"]) == 2
    assert all(image["predictions"] == {"R": image["label"], "V": image["label"]} for image in found["images"])
    chosen = json.loads(advkit(*options, "--index", "17", "--map", "saliency").stdout)["result"]
    assert [image["index"] for image in chosen["images"]] == [17]
    assert list(chosen["mean_agreement"]) == ["saliency"]
    assert "9999" in one_line(advkit(*options, "--index", "9999"))
