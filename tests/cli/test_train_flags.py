"""What the report of a training warns of."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from executable import Run as Command

from advkit.data import reference as data_reference
from advkit.files.checkpoint import read_checkpoint
from advkit.models.build import create
from advkit.reports import train as reports
from advkit.tasks.classification import CLASSIFICATION, Classification
from advkit.tasks.sampling import limited
from advkit.training.params import TrainParams
from advkit.training.run import Run


@pytest.mark.parametrize(
    ("train", "held", "told"),
    [
        ((900, 1000), (20, 200), "20 of 200 held-out images right, where guessing gets 1 in 10"),
        ((900, 1000), (36, 200), "36 of 200 held-out"),  # 18 %: not yet sure to be above 15 %
        ((100, 1000), (190, 200), None),
        ((100, 1000), None, "100 of 1000 training images right"),
        ((900, 1000), None, None),
        (None, None, None),
    ],
)
def test_a_training_that_ends_near_chance_is_flagged(
    train: tuple[int, int] | None, held: tuple[int, int] | None, told: str | None
) -> None:
    data = limited(CLASSIFICATION, data_reference.load("digits", role="train"), 20, 0)
    network = create("advkit/cnn", num_classes=10, input_size=data.size, seed=0)
    positions = torch.arange(10)
    run = Run(network, data, positions, positions + 10, [], TrainParams(), None, {})
    if train:
        run.history = [{"right": train[0], "images": train[1]}]
        if held:
            run.history[0] |= {"validation_right": held[0], "validation_images": held[1]}
    found = reports.flags(run)
    assert len(found) == (told is not None)
    assert all(str(told) in flag for flag in found)


def test_the_flag_comes_with_the_report(inside: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("train", "--arch", "advkit/cnn", "--data", "digits", "--epochs", "1", "--limit", "200", "--json")
    for near in (True, False):
        monkeypatch.setattr(Classification, "near_chance", lambda self, correct, images, classes, near=near: near)
        done = inside(*arguments, "--force", "-o", tmp_path / "x.safetensors")
        assert done.returncode == 0, done.stderr
        assert ["near chance" in flag for flag in json.loads(done.stdout)["flags"]] == [True] * near


def test_one_class_is_refused_before_the_training(inside: Command, tmp_path: Path) -> None:
    np.savez(tmp_path / "one.npz", images=np.zeros((40, 8, 8), np.uint8), labels=np.zeros(40, np.int64))
    options = ("--arch", "advkit/cnn", "--data", tmp_path / "one.npz", "-o", tmp_path / "x.safetensors")
    done = inside("train", *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert "one class, 0, and no other" in done.stderr


def test_a_backbone_is_chosen_and_kept(inside: Command, tmp_path: Path) -> None:
    """Packed untrained: the checkpoint alone then says what was built."""
    options = (
        "--data",
        "scenes/photo",
        "--limit",
        "10",
        "--epochs",
        "0",
        "-q",
        "--force",
        "-o",
        tmp_path / "x.safetensors",
    )
    for name in ("timm/resnet10t", "timm/mobilenetv3_small_050"):
        done = inside("train", "--arch", "advkit/ssd", "--backbone", name, *options)
        assert done.returncode == 0, done.stderr
        assert read_checkpoint(tmp_path / "x.safetensors").meta["model_args"] == {"backbone": name}
    refused = inside("adv-pretrain", "--arch", "advkit/cnn", "--backbone", "timm/resnet10t", *options[:4], *options[6:])
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "--backbone timm/resnet10t: is for --arch advkit/ssd" in refused.stderr
