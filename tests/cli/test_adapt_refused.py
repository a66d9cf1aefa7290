"""``adapt``: what is refused, in one line, with nothing written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from adapting import SHORT
from executable import Run, one_line

REFUSED = {
    "--method mean-teacher": ("--method mean-teacher",),
    "--method other": ("--method other", "choose from"),
    "--epochs 0": ("--epochs 0", "adabn takes 0"),
    "--weight 0.5": ("--weight", "--method none"),
    "--method dann --weight -1": ("--weight -1",),
    "--method dann --threshold 0.5": ("--threshold", "--method dann"),
    "--method self-training --threshold 2": ("--threshold 2",),
    "--method dann --teacher-ema 0.9": ("--teacher-ema", "--method dann"),
    "--method dann --precise-bn 100": ("--precise-bn", "--method none"),
    "--method adabn --freeze-bn": ("--freeze-bn", "adabn"),
    "--eps 0.1": ("--eps", "--adversarial"),
    "--objective cls": ("--objective", "--adversarial"),
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


# By names, values and files alone, before any data are read: MISSING is never looked for.
EARLY = {
    "--method local": ("--method local: is not for classification", "mcc"),
    "--method adabn --epochs 0 --lr 0.1": ("--lr", "--epochs 0"),
    "--method adabn --epochs 0 --select im": ("--select", "--epochs 0"),
    "--method adabn --epochs 0 --augment crop": ("--augment", "--epochs 0"),
    "--method adabn --epochs 0 --adversarial": ("--adversarial", "--epochs 0"),
    "--method adabn --epochs 0 --validation 0.2": ("--validation", "--epochs 0"),
    "--select im --epochs 1": ("--select", "nothing to choose", "--epochs 1"),
    "--adversarial --objective cls": ("--objective cls", "classification has ce"),
    "--adversarial --eps 8": ("--eps 8", "8/255"),
    "--adversarial --eps much": ("--eps much", "not a number"),
    "--adversarial --eps 0 --objective cls": ("--objective", "--eps 0"),
    "--augment shear": ("--augment shear", "crop"),
    "--optimizer adamw --momentum 0.5": ("--momentum", "--optimizer adamw"),
    "--limit 0": ("--limit 0", "at least one"),
    "--mean 0.5": ("--mean, --std", "brings its own"),
    "--device tpu": ("--device tpu",),
    "--report none/x.json": ("none/x.json", "make it first"),
    "--report x.resume.safetensors": ("--report x.resume.safetensors", "the run writes a network there"),
    "--method mcc --compare MISSING --report x.source-only.safetensors": ("--report x.source-only.safetensors",),
    "-o two.npz.safetensors": ("two.npz.safetensors", "--force replaces it"),
    "-o r.safetensors": ("r.safetensors", "the checkpoint of another run"),
    "-o begun.safetensors": ("begun.resume.safetensors", "--resume"),
    "-o other.safetensors --method mcc --compare MISSING": ("other.source-only.safetensors", "of another run"),
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


@pytest.mark.parametrize("options", EARLY)
def test_what_needs_no_data_is_refused_before_any_are_read(options: str, r: Path, here: Path, inside: Run) -> None:
    for name in ("r.safetensors", "other.source-only.safetensors"):
        Path(name).write_bytes(r.read_bytes())
    Path("two.npz").rename("two.npz.safetensors")
    Path("begun.resume.safetensors").touch()
    before = sorted(here.iterdir())
    command = ["adapt", r, "--source", "MISSING", "--target", "MISSING", "-o", "x.safetensors", "-q"]
    line = one_line(inside(*command, *options.split()))
    assert all(word in line for word in EARLY[options]), line
    assert sorted(here.iterdir()) == before


def test_a_finished_run_of_other_settings_is_found_before_data_are_read(r: Path, here: Path, inside: Run) -> None:
    short = ["--limit", "60", "--epochs", "1", "--batch-size", "24", "-q", "-o", "x.safetensors"]
    done = inside("adapt", r, "--source", "digits", "--target", "digits", *short)
    assert done.returncode == 0, done.stderr
    command = ["adapt", r, "--source", "MISSING", "--target", "MISSING", *short]
    for changed in (
        ["--seed", "1"],
        ["--method", "mcc"],
        ["--validation", "0.2"],
        ["--limit", "50"],
        ["--adversarial"],
    ):
        assert "holds the checkpoint of another run" in one_line(inside(*command, *changed)), changed
    assert "nothing to resume" in one_line(inside(*command, "--resume"))
    for same in ([], ["--seed", "1", "--force"]):
        assert "MISSING: no such data" in one_line(inside(*command, *same))
