"""``adv-pretrain``: bytes, the control, resuming, gates, alarms and refusals."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from executable import Run, one_line, start
from safetensors.torch import load_file

from advkit.commands.adv_pretrain import adversarial_params
from advkit.commands.adv_pretrain_config import AdvPretrainConfig
from advkit.training import overfitting, robust_check
from advkit.training.overfitting import OverfittingAlarm

SHORT = ["--arch", "advkit/cnn", "--data", "digits", "--limit", "200", "--batch-size", "32", "--quiet"]
OWN = ["adv-pretrain", *SHORT, "--eps", "0.1"]
METHODS = ("pgd", "trades", "mart", "fast", "free")


def report(inside: Run, *arguments: str | Path) -> dict[str, Any]:
    found = inside(*arguments, "--json")
    assert found.returncode == 0, found.stderr
    whole: dict[str, Any] = json.loads(found.stdout)
    return whole


@pytest.mark.parametrize(
    "method", [name if name in ("trades", "free") else pytest.param(name, marks=pytest.mark.slow) for name in METHODS]
)
def test_adversarial_training_gives_equal_bytes(method: str, inside: Run, tmp_path: Path) -> None:
    names = [tmp_path / f"{k}.safetensors" for k in range(2)]
    attack = ["--steps", "2"] if method in ("pgd", "trades", "mart") else []
    found = [report(inside, *OWN, "--epochs", "2", "--method", method, *attack, "-o", name) for name in names]
    assert names[0].read_bytes() == names[1].read_bytes()
    assert found[0]["result"] | {"checkpoint": ""} == found[1]["result"] | {"checkpoint": ""}
    assert found[0]["schema"] == "advkit/adv-pretrain/1"
    assert found[0]["result"]["robust_accuracy"]["total"] == 20


def test_the_control_has_the_bytes_of_train(inside: Run, tmp_path: Path) -> None:
    """Its tensors; the metadata say another command."""
    options = [*SHORT, "--epochs", "2", "--ema", "0.9", "--augment", "crop", "--label-smoothing", "0.1"]
    report(inside, "train", *options, "-o", tmp_path / "t.safetensors")
    plain = load_file(tmp_path / "t.safetensors")
    for method in METHODS:
        out = tmp_path / f"{method}.safetensors"
        more = ["--eps", "0", "--check-eps", "0.1", "--awp", "0.01", "--method", method]
        found = report(inside, "adv-pretrain", *options, *more, "-o", out)["result"]
        own = load_file(out)
        assert own.keys() == plain.keys()
        assert all(own[name].numpy().tobytes() == plain[name].numpy().tobytes() for name in plain), method
        assert found["cost"] == {"forwards": 1.0, "backwards": 1.0}
        assert [record["adversarial_images"] for record in found["epochs"]] == [None, None]
        assert found["check"]["eps"] == 0.1


def test_adversarial_training_goes_on_to_the_same_bytes(inside: Run, tmp_path: Path) -> None:
    """Interrupted as a process, by a signal; what is carried from step to step is in the state."""
    options = [*OWN, "--method", "free", "--replays", "3", "--epochs", "6", "--awp", "0.01"]
    report(inside, *options, "-o", tmp_path / "whole.safetensors")
    out, state = tmp_path / "x.safetensors", tmp_path / "x.resume.safetensors"
    process = start(*options, "-o", out, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not state.exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    errors = process.communicate(timeout=120)[1]
    assert (process.returncode, out.exists(), state.exists()) == (130, False, True), errors
    assert "--resume" in one_line(inside(*options, "-o", out))
    changed = inside(*options, "--replays", "2", "-o", out, "--resume")
    assert "replays" in one_line(changed)
    assert "on_overfit" in one_line(inside(*options, "--on-overfit", "stop", "-o", out, "--resume"))
    report(inside, *options, "-o", out, "--resume")
    assert out.read_bytes() == (tmp_path / "whole.safetensors").read_bytes()
    assert not state.exists()
    assert "--force" in one_line(inside(*options, "--seed", "1", "-o", out))
    assert inside(*options, "--seed", "1", "-o", out, "--force").returncode == 0


ENDS = {"rollback": (2, 1), "stop": (2, 2), "ignore": (3, 3)}


@pytest.mark.parametrize("on_overfit", ENDS)
def test_an_alarm_does_what_the_option_says(
    on_overfit: str, inside: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def alarm(history: list[dict[str, Any]]) -> OverfittingAlarm | None:
        return OverfittingAlarm("catastrophic", 2, 1) if len(history) == 2 else None

    for module in (overfitting, robust_check):
        monkeypatch.setattr(module, "find_alarm", alarm)
    for module_name in ("loop", "measurement"):  # whatever this training makes of it, the first epoch was the best
        monkeypatch.setattr(f"advkit.training.{module_name}.best_epoch", lambda history: 1)
    options = [*OWN, "--method", "fast", "--epochs", "3", "--schedule", "constant"]
    found = report(inside, *options, "--on-overfit", on_overfit, "-o", tmp_path / "x.safetensors")
    result = found["result"]
    assert (len(result["epochs"]), result["kept_epoch"]) == ENDS[on_overfit]
    assert result["overfitting"] == {"kind": "catastrophic", "epoch": 2, "since": 1, "action": on_overfit}
    flag = next(flag for flag in found["flags"] if "catastrophic overfitting after epoch 2" in flag)
    kept = result["epochs"][result["kept_epoch"] - 1]
    assert result["robust_accuracy"]["successes"] == kept["robust_right"]
    assert result["clean_accuracy"]["successes"] == kept["validation_right"]
    assert ("of epoch 1" in flag, "of epoch 2" in flag) == (on_overfit == "rollback", on_overfit == "stop")
    one = tmp_path / "one.safetensors"
    if on_overfit == "rollback":  # a constant rate: one epoch alone is the same training
        report(inside, *options, "--epochs", "1", "-o", one)
        rolled = load_file(tmp_path / "x.safetensors")
        assert all((tensor == rolled[name]).all() for name, tensor in load_file(one).items())


def test_gates_are_on_robust_accuracy(inside: Run, tmp_path: Path) -> None:
    options = [*OWN, "--method", "fast", "--epochs", "1", "--eps", "0.9", "--force", "-o", tmp_path / "x.safetensors"]
    for bounds, status in ((["--fail-below", "0"], 0), (["--fail-below", "1"], 1), (["--fail-above", "0.99"], 0)):
        found = inside(*options, *bounds, "--json")
        assert found.returncode == status, found.stderr
        told = json.loads(found.stdout)
        assert told["status"] == ("gate-failed" if status else "done")
        assert [gate["what"] for gate in told["result"]["gates"]] == ["robust accuracy"]
        assert (tmp_path / "x.safetensors").exists()


def test_without_anything_held_out_there_is_no_check(inside: Run, tmp_path: Path) -> None:
    options = [*OWN, "--method", "fast", "--epochs", "1", "--validation", "0", "-o", tmp_path / "x.safetensors"]
    found = report(inside, *options)
    assert found["result"]["robust_accuracy"] is None
    assert found["result"]["check"] is None
    assert any("nothing held out" in flag for flag in found["flags"])
    for option in ("--check-steps 3", "--check-images 3", "--check-eps 0.1", "--on-overfit stop", "--fail-below 0.1"):
        assert option.split()[0] in one_line(inside(*options, *option.split()))


REFUSED = {
    "--method fast --steps 3": ("--steps", "--method fast"),
    "--method free --steps 3": ("--steps", "--method free"),
    "--method pgd --replays 3": ("--replays", "--method pgd"),
    "--method mart --replays 4": ("--replays", "--method mart"),
    "--method fast --beta 3": ("--beta", "--method fast"),
    "--eps 8": ("--eps 8", "8/255"),
    "--eps nan": ("--eps nan",),
    "--step-size 2": ("--step-size 2", "2/255"),
    "--check-eps 3": ("--check-eps 3",),
    "--adversarial-ratio 0": ("--adversarial-ratio 0", "--eps 0"),
    "--adversarial-ratio 1.5": ("--adversarial-ratio",),
    "--method trades --beta -1": ("--beta",),
    "--awp 2": ("--awp",),
    "--method cw": ("--method cw", "trades"),
    "--epochs 0": ("--epochs 0", "train"),
    "--fail-below 2": ("--fail-below",),
    "--optimizer adamw --momentum 0.5": ("--momentum",),
}


@pytest.mark.parametrize("options", REFUSED)
def test_what_can_not_be_is_refused(options: str, inside: Run, tmp_path: Path) -> None:
    line = one_line(inside("adv-pretrain", *SHORT, *options.split(), "-o", tmp_path / "x.safetensors"))
    assert all(word in line for word in REFUSED[options]), line
    assert list(tmp_path.iterdir()) == []


def test_steps_and_factors_are_those_of_the_papers() -> None:
    eps = 8 / 255
    for method, step_size, beta in (
        ("pgd", eps / 4, 0.0),
        ("trades", eps / 4, 6.0),
        ("mart", eps / 4, 5.0),
        ("fast", 1.25 * eps, 0.0),
        ("free", eps, 0.0),
    ):
        found = adversarial_params(AdvPretrainConfig(out=Path("x"), method=method))  # type: ignore[arg-type]
        assert (found.eps, found.step_size, found.beta) == pytest.approx((eps, step_size, beta))
    asked = AdvPretrainConfig(out=Path("x"), method="fast", eps="4/255", step_size="3/255")
    assert adversarial_params(asked).step_size == pytest.approx(3 / 255)
