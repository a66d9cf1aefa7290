"""``adapt``: bytes, controls, comparison, gates, resuming and refusals."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
import typing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from executable import Run, done, environment, one_line, start
from PIL import Image
from safetensors.torch import load_file

from advkit.adaptation.params import RULES
from advkit.adaptation.registry import METHODS as METHODS_BY_NAME
from advkit.commands.adapt_config import AdaptConfig, check
from advkit.commands.adapt_setup import adaptation_params, adversarial_params
from advkit.data.reference import load
from advkit.files.errors import InputError

SHORT = ["--source", "digits", "--limit", "120", "--epochs", "2", "--batch-size", "24", "--lr", "0.02", "--quiet"]


@pytest.fixture(scope="module")
def dark(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with ``dark.npz`` and ``test.npz``: digits at a third of their brightness, with labels."""
    folder = tmp_path_factory.mktemp("dark")
    for name, ref in (("dark", "digits#train"), ("test", "digits#test")):
        images, labels = load(ref).batch(slice(200))
        np.savez(folder / f"{name}.npz", images=images.numpy() * np.float32(0.3), labels=labels.numpy())
    return folder


def report(inside: Run, *arguments: str | Path) -> dict[str, Any]:
    found = inside("adapt", *arguments, "--json")
    assert found.returncode == 0, found.stderr
    whole: dict[str, Any] = json.loads(found.stdout)
    return whole


METHODS = ("none", "adabn", "dann", "cdan", "coral", "mcc", "self-training")


@pytest.mark.parametrize("method", METHODS)
def test_an_adaptation_gives_equal_bytes_whatever_the_targets_labels(
    method: str, r: Path, dark: Path, inside: Run, tmp_path: Path
) -> None:
    """The same file name with right labels, with wrong ones, with some that are no numbers, and without."""
    arrays = dict(np.load(dark / "dark.npz"))
    target, found = tmp_path / "target.npz", []
    labels = [arrays["labels"], 9 - arrays["labels"], np.full(len(arrays["labels"]), -7.5), None]
    more = ["--threshold", "0.2"] if method == "self-training" else []
    for k, own in enumerate(labels):
        np.savez(target, images=arrays["images"], **({} if own is None else {"labels": own}))
        out = tmp_path / f"{k}.safetensors"
        told = report(inside, r, *SHORT, "--target", target, "--method", method, "--select", "im", *more, "-o", out)
        found.append((out.read_bytes(), told["result"] | {"checkpoint": ""}, told["inputs"]))
    assert all(one == found[0] for one in found)
    assert found[0][1]["method"] == method
    assert found[0][1]["target_images"] == 120
    assert all(record["oracle_right"] is None for record in found[0][1]["epochs"])


def test_without_a_method_the_tensors_are_those_of_train(r: Path, dark: Path, inside: Run, tmp_path: Path) -> None:
    options = ["--limit", "120", "--epochs", "2", "--batch-size", "24", "--lr", "0.02", "--augment", "crop", "-q"]
    own = [r, "--source", "digits", "--target", dark / "dark.npz", *options]
    for name, tool, more in (
        ("plain", ["train"], []),
        ("fast", ["adv-pretrain", "--method", "fast", "--eps", "0.1"], ["--adversarial", "--eps", "0.1"]),
    ):
        out = tmp_path / f"{name}.safetensors"
        assert inside(*tool, "--init", r, "--data", "digits", *options, "-o", out).returncode == 0
        report(inside, *own, *more, "-o", tmp_path / "own.safetensors", "--force")
        wanted, found = load_file(out), load_file(tmp_path / "own.safetensors")
        assert wanted.keys() == found.keys()
        assert all(wanted[key].numpy().tobytes() == found[key].numpy().tobytes() for key in wanted), name
    files = [tmp_path / "without.safetensors", tmp_path / "zero.safetensors"]
    report(inside, *own, "-o", files[0])
    report(inside, *own, "--adversarial", "--eps", "0", "-o", files[1])
    assert files[0].read_bytes() == files[1].read_bytes()


def test_statistics_alone_are_no_training(r: Path, dark: Path, inside: Run, tmp_path: Path) -> None:
    out, adabn = tmp_path / "x.safetensors", ["--method", "adabn", "--epochs", "0"]
    common = [r, "--source", "digits", "--target", dark / "dark.npz", "--compare", dark / "test.npz", "-q"]
    found = report(inside, *common, *adabn, "-o", out, "--fail-below", "0.1")["result"]
    before, after = load_file(r), load_file(out)
    changed = {name for name in before if (before[name] != after[name]).any()}
    assert changed
    assert all("running" in name for name in changed)
    assert (found["epochs"], found["kept_epoch"], found["source_images"]) == ([], 0, 0)
    assert [model["name"] for model in found["comparison"]["models"]] == ["source-only", "adapted"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.safetensors"]


def test_the_comparison_counts_the_same_images(r: Path, dark: Path, inside: Run, tmp_path: Path) -> None:
    out = tmp_path / "x.safetensors"
    common = [r, *SHORT, "--target", dark / "dark.npz", "--method", "dann", "-o", out]
    compare = ["--compare", dark / "test.npz", "--target-labels"]
    whole = report(inside, *common, *compare)
    found = whole["result"]["comparison"]
    names = ["source-only", "target-trained", "adapted"]
    assert [model["name"] for model in found["models"]] == names
    assert (found["images"], found["shared"]) == (200, 0)
    right = {model["name"]: model["accuracy"]["successes"] for model in found["models"]}
    for gain in found["gains"]:
        assert gain["accuracy"] == pytest.approx((right["adapted"] - right[gain["less"]]) / 200)
        assert gain["only_adapted"] - gain["only_other"] == right["adapted"] - right[gain["less"]]
        assert gain["accuracy_interval"][0] <= gain["accuracy"] <= gain["accuracy_interval"][1]
    assert [record["oracle_images"] for record in whole["result"]["epochs"]] == [120, 120]
    assert not any("LABELS" in flag for flag in whole["flags"]), "they chose nothing"
    beside = {name: tmp_path / f"x.{name}.safetensors" for name in names[:2]}
    for name in names:
        path = beside.get(name, out)
        told = json.loads(inside("evaluate", path, "--data", dark / "test.npz", "--json", "-q").stdout)
        assert told["result"]["models"][0]["top1"]["successes"] == right[name], name
    control = [r, *SHORT, "--target", dark / "dark.npz", "-o", tmp_path / "none.safetensors"]
    report(inside, *control)
    wanted, own = load_file(tmp_path / "none.safetensors"), load_file(beside["source-only"])
    assert all((wanted[key] == own[key]).all() for key in wanted)
    plain = [*common[:-1], tmp_path / "plain.safetensors"]
    report(inside, *plain)
    alone, beside_others = load_file(tmp_path / "plain.safetensors"), load_file(out)
    assert all((alone[key] == beside_others[key]).all() for key in alone), "what is compared with changes nothing"
    times = [path.stat().st_mtime_ns for path in beside.values()]
    again = report(inside, *common, *compare, "--fail-below", "0")["result"]
    assert again["comparison"] == found
    assert [path.stat().st_mtime_ns for path in beside.values()] == times, "they are not trained again"
    refused = inside("adapt", *common, *compare, "--lr", "0.03")
    assert "holds the checkpoint of another run" in one_line(refused)


def test_gates_are_on_the_adapted_networks_accuracy(r: Path, dark: Path, inside: Run, tmp_path: Path) -> None:
    options = [r, *SHORT, "--epochs", "1", "--target", dark / "dark.npz", "--compare", dark / "test.npz"]
    for bounds, status in ((["--fail-below", "0"], 0), (["--fail-below", "1"], 1), (["--fail-above", "0"], 1)):
        found = inside("adapt", *options, *bounds, "-o", tmp_path / "x.safetensors", "--force", "--json")
        assert found.returncode == status, found.stderr
        told = json.loads(found.stdout)
        (gate,) = told["result"]["gates"]
        assert gate["value"] == told["result"]["comparison"]["models"][-1]["accuracy"]["rate"]
        assert gate["what"] == "accuracy of the adapted network"


def test_what_must_be_said_is_said(r: Path, dark: Path, inside: Run, tmp_path: Path) -> None:
    options = [r, *SHORT, "--target", dark / "dark.npz", "-o", tmp_path / "x.safetensors", "--force"]
    whole = report(inside, *options, "--select", "oracle", "--target-labels", "--compare", dark / "dark.npz")
    assert any("THE TARGET'S LABELS CHOSE THE EPOCH" in flag for flag in whole["flags"])
    shared = whole["result"]["comparison"]["shared"]
    assert shared >= 120
    assert any(f"{shared} of the 200 images compared on were adapted to" in flag for flag in whole["flags"])
    best = max(record["oracle_right"] for record in whole["result"]["epochs"])
    assert whole["result"]["epochs"][whole["result"]["kept_epoch"] - 1]["oracle_right"] == best
    sure = report(inside, *options, "--method", "self-training", "--threshold", "1")
    assert any("reached --threshold 1" in flag for flag in sure["flags"])
    large = np.zeros((30, 12, 10), np.uint8)
    np.savez(tmp_path / "large.npz", x=large)
    other = [r, *SHORT, "--target", tmp_path / "large.npz", "--method", "mcc", "-o", tmp_path / "x.safetensors"]
    assert any("images of 12x10 are resized to 8x8" in flag for flag in report(inside, *other, "--force")["flags"])


def test_an_adaptation_goes_on_to_the_same_bytes(r: Path, dark: Path, inside: Run, tmp_path: Path) -> None:
    """Interrupted as a process, by a signal; whichever of the networks was being trained, none is lost."""
    folder = [tmp_path / name for name in ("whole", "parts")]
    for one in folder:
        one.mkdir()
    options = [r, *SHORT, "--epochs", "6", "--target", dark / "dark.npz", "--method", "cdan", "--ema", "0.9"]
    options += ["--compare", dark / "test.npz", "--select", "snd"]
    whole = report(inside, *options, "-o", folder[0] / "x.safetensors")
    out = folder[1] / "x.safetensors"
    for state in (folder[1] / "x.source-only.resume.safetensors", folder[1] / "x.resume.safetensors"):
        resume = ["--resume"] if list(folder[1].iterdir()) else []
        process = start("adapt", *options, "-o", out, *resume, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while not state.exists() and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        errors = process.communicate(timeout=120)[1]
        assert (process.returncode, out.exists(), state.exists()) == (130, False, True), errors
        assert "--resume" in one_line(inside("adapt", *options, "-o", out))
    assert "weight" in one_line(inside("adapt", *options, "--weight", "0.5", "-o", out, "--resume"))
    again = report(inside, *options, "-o", out, "--resume")
    assert again["result"] | {"checkpoint": ""} == whole["result"] | {"checkpoint": ""}
    names = [sorted(path.name for path in one.iterdir()) for one in folder]
    assert names[0] == names[1] == ["x.safetensors", "x.source-only.safetensors"]
    for name in names[0]:
        assert (folder[0] / name).read_bytes() == (folder[1] / name).read_bytes()
    assert "--force" in one_line(inside("adapt", *options, "--seed", "1", "-o", out))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["dann", "coral", "mcc", "adabn"])
def test_two_processes_adapt_as_one_does(method: str, r: Path, dark: Path, tmp_path: Path, inside: Run) -> None:
    options = [str(r), *SHORT, "--target", str(dark / "dark.npz"), "--method", method, "--precision", "float32"]
    report(inside, *options, "-o", tmp_path / "one.safetensors", "--report", tmp_path / "one.json")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "advkit"]
    more = ["-o", str(tmp_path / "two.safetensors"), "--report", str(tmp_path / "two.json")]
    command = [*torchrun, "adapt", *options, *more]
    found = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=200, check=False)
    assert found.returncode == 0, found.stderr
    one, two = (json.loads((tmp_path / name).read_text())["result"] for name in ("one.json", "two.json"))
    for a, b in zip(one["epochs"], two["epochs"], strict=True):
        assert a["images"] == b["images"]
        for name in ("cross_entropy", "alignment", "im", "bnm"):
            if a[name] is not None:
                assert b[name] == pytest.approx(a[name], rel=2e-2, abs=1e-6), name
        assert abs(a["validation_right"] - b["validation_right"]) <= 1


REFUSED = {
    "--method local": ("--method local: is not for classification", "mcc"),
    "--method mean-teacher": ("--method mean-teacher",),
    "--method other": ("--method other", "choose from"),
    "--epochs 0": ("--epochs 0", "adabn takes 0"),
    "--method adabn --epochs 0 --select im": ("--select", "--epochs 0"),
    "--weight 0.5": ("--weight", "--method none"),
    "--method dann --weight -1": ("--weight -1",),
    "--method dann --threshold 0.5": ("--threshold", "--method dann"),
    "--method self-training --threshold 2": ("--threshold 2",),
    "--method dann --teacher-ema 0.9": ("--teacher-ema", "--method dann"),
    "--method dann --precise-bn 100": ("--precise-bn", "--method none"),
    "--method adabn --freeze-bn": ("--freeze-bn", "adabn"),
    "--eps 0.1": ("--eps", "--adversarial"),
    "--objective cls": ("--objective", "--adversarial"),
    "--adversarial --objective cls": ("--objective cls", "classification has ce"),
    "--adversarial --eps 8": ("--eps 8", "8/255"),
    "--select oracle": ("--select oracle", "--target-labels"),
    "--select source-val --validation 0": ("--select source-val", "--validation 0"),
    "--target-labels": ("--target-labels", "--compare DATA"),
    "--fail-below 0.5": ("--fail-below", "--compare DATA"),
    "--target empty.npz": ("empty.npz", "no images"),
    "--target nothing.npz": ("nothing.npz", "holds no images"),
    "--target colour.npz": ("colour.npz", "images have 3 channels, 1 are needed"),
    "--target missing": ("missing: no such data",),
    "--source two.npz": ("has 10 classes",),
    "--compare scenes/photo": ("scenes/photo: images have 3 channels, 1 are needed",),
    "--compare twelve.npz": ("twelve.npz: has the classes 12", "the same"),
    "--target twelve.npz --target-labels --compare digits": ("twelve.npz: has the classes 12",),
    "--source one.npz": ("one.npz: one class",),
    "--batch-size 2000 --method mcc": ("lower --batch-size",),
}


@pytest.fixture
def here(r: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with sets that don't fit ``r``."""
    monkeypatch.chdir(tmp_path)
    images = np.zeros((24, 8, 8), np.uint8)
    np.savez("empty.npz", images=images[:0], labels=np.zeros(0, np.int64))
    np.savez("nothing.npz", labels=np.arange(24))
    np.savez("colour.npz", images=np.zeros((24, 8, 8, 3), np.uint8))
    np.savez("two.npz", images=images, labels=np.arange(24) % 2)
    np.savez("one.npz", images=images, labels=np.zeros(24, np.int64))
    np.savez("twelve.npz", images=images, labels=np.arange(24) % 12)
    return tmp_path


@pytest.mark.parametrize("options", REFUSED)
def test_what_can_not_be_is_refused(options: str, r: Path, here: Path, inside: Run) -> None:
    before = sorted(here.iterdir())
    line = one_line(inside("adapt", r, *SHORT, "--target", "digits", *options.split(), "-o", "x.safetensors"))
    assert all(word in line for word in REFUSED[options]), line
    assert sorted(here.iterdir()) == before


def test_classes_go_by_name(inside: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    for folder, names in (("a", ("cat", "dog")), ("b", ("cat", "owl"))):
        for name in names:
            Path(folder, name).mkdir(parents=True)
            for k in range(8):
                Image.fromarray(generator.integers(0, 256, (16, 16, 3), np.uint8)).save(f"{folder}/{name}/{k}.png")
    short = ["--epochs", "1", "--batch-size", "4", "-q"]
    assert inside("train", "--arch", "advkit/cnn", "--data", "a", *short, "-o", "m.safetensors").returncode == 0
    common = ["adapt", "m.safetensors", "--method", "coral", *short, "-o", "x.safetensors"]
    line = one_line(inside(*common, "--source", "b", "--target", "a"))
    assert "cat, owl" in line
    assert "cat, dog" in line
    line = one_line(inside(*common, "--source", "a", "--target", "b", "--compare", "b"))
    assert "b: has the classes 2 (cat, owl)" in line
    assert inside(*common, "--source", "a", "--target", "b").returncode == 0, "the target's folders are no classes"


def test_the_options_of_a_mean_teacher_reach_it() -> None:
    asked = AdaptConfig(out=Path("x"), model="m", source="a", target="b", method="mean-teacher", teacher_ema=0.99)
    found = adaptation_params(asked)
    assert (found.teacher_ema, found.threshold, found.weight, found.method) == (0.99, 0.8, 1.0, "mean-teacher")
    usual = AdaptConfig(out=Path("x"), model="m", source="a", target="b", method="mean-teacher")
    assert adaptation_params(usual).teacher_ema == 0.9996
    other = AdaptConfig(out=Path("x"), model="m", source="a", target="b", method="self-training")
    assert adaptation_params(other).threshold == 0.9
    refused = AdaptConfig(
        out=Path("x.safetensors"), model="m", source="a", target="b", method="mean-teacher", ema=0.9,
        explicit=frozenset({"ema"}),
    )  # fmt: skip
    with pytest.raises(InputError, match="--ema: is a second average"):
        check(refused)


def test_every_method_and_rule_can_be_asked_for() -> None:
    hints = typing.get_type_hints(AdaptConfig)
    assert typing.get_args(hints["method"]) == tuple(METHODS_BY_NAME)
    assert typing.get_args(hints["select"]) == RULES


def test_what_the_attack_of_an_adaptation_raises_is_chosen() -> None:
    common: dict[str, Any] = {"out": Path("x"), "model": "m", "source": "a", "target": "b"}
    found = adversarial_params(AdaptConfig(**common, adversarial=True, eps="4/255", objective="mtd"))
    assert found is not None
    assert (found.method, found.objective) == ("fast", "mtd")
    assert (found.eps, found.step_size) == pytest.approx((4 / 255, 5 / 255))
    assert adversarial_params(AdaptConfig(**common)) is None
    assert adversarial_params(AdaptConfig(**common, adversarial=True, eps="0")) is None


def voc(folder: Path, seed: int, count: int = 8) -> Path:
    """Noise with a bright square that is an object."""
    generator = np.random.default_rng(seed)
    for name in ("JPEGImages", "Annotations"):
        (folder / name).mkdir(parents=True)
    for k in range(count):
        pixels = generator.integers(0, 120, (96, 96, 3), np.uint8)
        x, y = (int(value) for value in generator.integers(4, 50, 2))
        pixels[y : y + 40, x : x + 40] = 220
        Image.fromarray(pixels).save(folder / "JPEGImages" / f"{k}.png")
        box = f"<xmin>{x + 1}</xmin><ymin>{y + 1}</ymin><xmax>{x + 40}</xmax><ymax>{y + 40}</ymax>"
        text = f"<annotation><object><name>square</name><bndbox>{box}</bndbox></object></annotation>"
        (folder / "Annotations" / f"{k}.xml").write_text(text)
    return folder


@pytest.mark.parametrize("method", ["local-global", "mean-teacher"])
def test_a_detector_is_adapted_without_the_targets_boxes(
    method: str, inside: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a process: its boxes are garbled, then deleted."""
    monkeypatch.chdir(tmp_path)
    voc(Path("source"), 0), voc(Path("target"), 1), voc(Path("test"), 2, 4)
    short = ["--epochs", "1", "--batch-size", "4", "--optimizer", "adamw", "--lr", "0.001", "--validation", "0", "-q"]
    own = ["--threshold", "0.05"] if method == "mean-teacher" else ["--adversarial", "--eps", "4/255"]
    command = ["adapt", "advkit/tiny-ssd", "--source", "source", "--target", "target", "--method", method, *own, *short]
    found = []
    for k in range(3):
        if k == 1:
            for file in Path("target/Annotations").iterdir():
                file.write_text("garbled")
        elif k == 2:
            shutil.rmtree("target/Annotations")
        compare = ["--compare", "test"] if k == 0 else []
        run = done if k == 0 else inside
        told = run(*command, *compare, "-o", f"{k}.safetensors", "--json")
        assert told.returncode == 0, told.stderr
        found.append((Path(f"{k}.safetensors").read_bytes(), json.loads(told.stdout)["result"]["epochs"]))
        if k == 0:
            result = json.loads(told.stdout)["result"]
    assert found[1] == found[2]
    assert found[0][1] == found[1][1]
    tensors = [load_file(f"{k}.safetensors") for k in range(2)]
    assert all((tensors[0][key] == tensors[1][key]).all() for key in tensors[0])
    (record,) = result["epochs"]
    if method == "mean-teacher":
        assert record["target_images"] == 8
        assert record["pseudo_boxes"] >= record["pseudo_images"]
    else:
        assert 0.0 <= record["local_domain_accuracy"] <= 1.0
        assert 0.0 <= record["global_domain_accuracy"] <= 1.0
        assert record["forwards_per_image"] == 2.0
    comparison = result["comparison"]
    assert [model["objects"] for model in comparison["models"]] == [4, 4]
    (gain,) = comparison["gains"]
    rates = [model["map50"] for model in comparison["models"]]
    assert gain["map50"] == pytest.approx(rates[1] - rates[0])
    assert gain["accuracy"] is None
