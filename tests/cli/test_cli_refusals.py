"""What a command line can say wrongly: one line that names the option; and what it may say in silence elsewhere."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from executable import Run, one_line

DIGITS = "--data digits --limit 20 -q"
ATTACK = f"attack r.safetensors {DIGITS} -o a.safetensors"
MATRIX = f"transfer-matrix R=r.safetensors V=r2.safetensors {DIGITS}"
TRAIN = "train --arch advkit/cnn --data digits --limit 100 --batch-size 16 --epochs 1 -q -o t.safetensors"
PENALTY = f"{TRAIN} --misalign-from r.safetensors"
VISUALIZE = f"visualize attention r.safetensors {DIGITS} --figure f.png"
FEATURES = f"visualize features r.safetensors {DIGITS} --figure f.png"
BAD = {  # command line: words of the answer
    f"{ATTACK} --method pgd:decay=0.5": ("pgd", "'decay'"),
    f"{ATTACK} --method ti:kernel=4": ("ti:kernel=4", "odd"),
    f"{ATTACK} --method mi:decay=-1": ("mi:decay=-1", "0 to"),
    f"{ATTACK} --method di:probability=1.5": ("di:probability=1.5", "0 to 1"),
    f"{ATTACK} --method noise --steps 10": ("--steps", "noise"),
    f"{ATTACK} --method noise --restarts 1": ("--restarts", "noise"),
    f"{MATRIX} --method pgd --method noise --loss ce": ("--loss", "noise"),
    f"{ATTACK} --norm l2 --eps 8.001": ("--eps 8.001", "1x8x8", "further apart than 8"),
    f"{MATRIX} --norm l2 --eps 9": ("--eps 9", "further apart than 8"),
    f"{ATTACK} --norm l1 --eps 64.1": ("--eps 64.1", "1x8x8", "further apart than 64"),
    f"{ATTACK} --norm l1 --eps 5 --step-size 65": ("--step-size 65", "further apart than 64"),
    f"{ATTACK} --norm l1 --method cw": ("--norm l1", "cw has l2 only"),
    f"{ATTACK} --norm l1 --method apgd-ce:rho=0.5": ("apgd-ce:rho does nothing in l1", "leave it out"),
    f"{ATTACK} --steps 0": ("--steps",),
    f"{ATTACK} --eps eight": ("--eps eight", "8/255"),
    f"{ATTACK} --norm l3": ("--norm l3", "linf, l2, l1"),
    f"{ATTACK} --goal win": ("--goal win", "robustness, transfer"),
    f"{ATTACK} --precision half": ("--precision half", "bfloat16"),
    f"{ATTACK} -o a.npz": ("a.npz", ".safetensors"),
    f"{ATTACK} --target 3 --target 11": ("--target 11",),
    f"{MATRIX} --fail-above 2": ("--fail-above 2", "[0, 1]"),
    f"{MATRIX} --fail-below nan": ("--fail-below",),
    f"transfer-matrix r.safetensors {DIGITS} --fail-above 0.5": ("--fail-above", "two models"),
    f"transfer-matrix r.safetensors r.safetensors {DIGITS}": ("two models are called r", "NAME=MODEL"),
    f"{MATRIX} --surrogate X": ("--surrogate X", "R, V"),
    f"{MATRIX} --compare R:X,V": ("--compare R:X,V", "'X'"),
    f"{MATRIX} --compare RV": ("--compare RV", "R:A,B"),
    f"{MATRIX} --rate most": ("--rate most", "cond, both, raw, same"),
    f"{MATRIX} --figure m.gif": ("m.gif", ".svg"),
    f"{MATRIX} --method pgd --method pgd": ("--method", "twice"),
    f"{VISUALIZE} --count 51": ("--count", "50"),
    f"{VISUALIZE} --index 1": ("--index 1", "20 images"),
    f"{VISUALIZE} {' '.join(['--index 491'] * 51)}": ("--index", "50"),
    f"{VISUALIZE} --pick best": ("--pick best", "disagree"),
    f"{VISUALIZE} --map cam": ("--map cam", "grad-cam"),
    f"{VISUALIZE} --sigma -1": ("--sigma -1",),
    f"{VISUALIZE} --index 491 --pick first": ("--pick:", "does nothing with --index"),
    f"{VISUALIZE} --index 491 --count 1": ("--count:", "does nothing with --index"),
    f"{VISUALIZE} --map grad-cam --samples 16": ("--samples:", "does nothing without saliency"),
    f"{VISUALIZE} --map grad-cam --sigma 0.1": ("--sigma:", "does nothing without saliency"),
    f"{FEATURES} --layer features.o": ("r.safetensors: no layer 'features.o'", "such as features.9"),
    f"{FEATURES} --show dreams": ("--show dreams", "inversion, maximisation"),
    f"{FEATURES} --show inversion --eps 1": ("--eps:", "does nothing without maximisation"),
    f"{FEATURES} --show inversion --start noise": ("--start:", "does nothing without maximisation"),
    f"{FEATURES} --show maximisation --layer features": ("--layer:", "does nothing without inversion"),
    f"{FEATURES} --start here": ("--start here", "noise, image"),
    f"{FEATURES} --steps 0": ("--steps",),
    f"{FEATURES} --step-size 0": ("--step-size 0", "nothing would move"),
    f"{FEATURES} --step-size 9": ("--step-size 9", "further apart than 8"),
    f"{FEATURES} --eps 0": ("--eps 0", "nothing would move"),
    f"{FEATURES} --eps 8.1": ("--eps 8.1", "further apart than 8"),
    f"{FEATURES} --eps one": ("--eps one", "not a number"),
    f"{FEATURES} --figure f.gif": ("f.gif", ".svg"),
    f"{FEATURES} --index 491 --count 1": ("--count:", "does nothing with --index"),
    f"{TRAIN} --optimizer adam": ("--optimizer adam", "adamw"),
    f"{TRAIN} --lr -1": ("--lr -1",),
    f"{TRAIN} --validation 1": ("--validation 1", "[0, 1)"),
    f"{TRAIN} --augment rotate": ("--augment rotate", "crop"),
    f"{TRAIN} --augment scale-jitter": ("--augment scale-jitter", "crop, flip, cutout, photometric"),
    "train --arch advkit/tiny-ssd --data scenes/photo --limit 8 -o t.safetensors --augment crop,scale-jitter":
        ("--augment crop,scale-jitter", "one of them"),
    f"{TRAIN} --mean a": ("--mean a", "numbers"),
    f"{TRAIN} --mean 0.1,0.2": ("mean", "1 channels"),
    f"{TRAIN} --misalign-weight 2": ("--misalign-weight", "--misalign-from"),
    f"{TRAIN} --misalign-weight 1.0": ("--misalign-weight", "--misalign-from"),
    f"{TRAIN} --misalign-steps 2": ("--misalign-steps", "--misalign-from"),
    f"{TRAIN} --smoothness-weight 0": ("--smoothness-weight", "--misalign-from"),
    f"{TRAIN} --optimizer adamw --momentum 0.9": ("--momentum:", "does nothing with --optimizer adamw"),
    f"{PENALTY} --misalign-eps 8/255": ("--misalign-eps:", "does nothing without noise or adversarial"),
    f"{PENALTY} --misalign-steps 2": ("--misalign-steps:", "does nothing without adversarial"),
    f"{PENALTY} --misalign-at clean,noise --misalign-steps 2": ("--misalign-steps:", "without adversarial"),
    f"{PENALTY} --misalign-at noisy --misalign-eps 0.1": ("--misalign-at noisy", "adversarial"),
    "train digits --arch advkit/cnn -o t.safetensors": ("train: unexpected digits", "--data digits"),
    "evolve r.safetensors digits -o e.safetensors": ("--data",),
    f"{TRAIN} --batch-size 1000": ("100", "--batch-size"),
    "train --data digits -o t.safetensors": ("--arch", "--init"),
    "train --arch advkit/cnn -o t.safetensors": ("--data",),
    "train --arch advkit/cnn --data digits -o t.pt": ("t.pt", ".safetensors"),
    f"evaluate nothing.safetensors {DIGITS}": ("nothing.safetensors", "no such file"),
    f"evaluate advkit/resnet21 {DIGITS}": ("advkit/resnet21", "advkit/resnet20"),
    "evaluate r.safetensors": ("--data",),
    "evaluate --data digits": ("MODEL",),
    "--schema nothing": ("--schema nothing", "transfer-matrix"),
    "nothing": ("nothing",),
}  # fmt: skip


@pytest.mark.parametrize("line", BAD, ids=lambda line: line.replace(DIGITS, "").replace(".safetensors", "")[-60:])
def test_refused(line: str, r: Path, r2: Path, inside: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for file in (r, r2):
        shutil.copy(file, tmp_path)
    answer = one_line(inside(*line.split()))
    assert len(answer) < 400
    for word in BAD[line]:
        assert word in answer
    assert sorted(path.name for path in tmp_path.iterdir()) == ["r.safetensors", "r2.safetensors"]


@pytest.mark.parametrize(
    "line",
    [
        f"{TRAIN} --optimizer sgd --momentum 0.5",
        f"{TRAIN} --optimizer adamw --lr 0.001",
        f"{PENALTY} --misalign-at noise --misalign-eps 0.1",
        f"{PENALTY} --misalign-at clean,adversarial --misalign-eps 0.1 --misalign-steps 1",
        f"{VISUALIZE} --index 491 --index 17 --map grad-cam",
        f"{VISUALIZE} --pick first --count 1 --map saliency,grad-cam --samples 1 --sigma 0.2",
    ],
    ids=lambda line: line.replace(DIGITS, "").replace(".safetensors", "")[-60:],
)
def test_options_that_go_together_are_taken(
    line: str, r: Path, inside: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(r, tmp_path)
    found = inside(*line.replace("--limit 20 -q --figure", "-q --figure").split())
    assert found.returncode == 0, found.stderr


def test_a_radius_is_no_bound_only_beyond_rounding(r: Path, inside: Run, tmp_path: Path) -> None:
    command = ["attack", r, "--data", "digits", "--limit", "8", "-q", "--steps", "1", "-o", tmp_path / "a.safetensors"]
    for norm, eps, status in (
        ("l2", "8.000001", 0),
        ("l2", "8.0001", 2),
        ("l1", "64.00001", 0),
        ("l1", "64.001", 2),
        ("linf", "1.0000001", 0),
        ("linf", "1.001", 2),
    ):
        assert inside(*command, "--norm", norm, "--eps", eps).returncode == status, (norm, eps)


def test_fresh_weights_are_flagged(r: Path, inside: Run, tmp_path: Path) -> None:
    def flags(*arguments: object) -> list[str]:
        found = inside(*map(str, arguments), "--data", "digits", "--limit", "8", "-q")
        assert found.returncode == 0, found.stderr
        return [flag for flag in json.loads(found.stdout)["flags"] if "never trained" in flag]

    assert flags("evaluate", r) == flags("evaluate", f"advkit/cnn@{r}") == []
    for command in (
        ["evaluate", f"R={r}", "advkit/cnn"],
        ["attack", "advkit/cnn", "-o", tmp_path / "a.safetensors"],
        ["transfer-matrix", f"R={r}", "advkit/cnn"],
        ["visualize", "attention", f"R={r}", "advkit/cnn", "--count", "1", "--figure", tmp_path / "f.png"],
    ):
        assert [flag.partition(":")[0] for flag in flags(*command)] == ["cnn"]


@pytest.mark.parametrize("seed", ["-1", "99999999999999999999"])
def test_any_whole_number_is_a_seed(seed: str, r: Path, inside: Run, tmp_path: Path) -> None:
    few = ["--data", "digits", "--limit", "40", "--seed", seed, "-q"]
    for command in (
        ["train", "--arch", "advkit/cnn", "--epochs", "1", "--batch-size", "16", "-o", tmp_path / "t.safetensors"],
        ["attack", r, "--method", "di", "--target", "random", "-o", tmp_path / "a.safetensors"],
        ["transfer-matrix", f"A={r}", f"B={r}", "--compare", "A:A,B"],
        ["visualize", "attention", r, "--count", "1", "--figure", tmp_path / "f.png"],
    ):
        assert inside(*command, *few).returncode == 0
