"""What the report of a training warns of."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from advkit.commands import output, train_result
from advkit.data import reference as data_reference
from advkit.models.build import create
from advkit.training.loop import Run
from advkit.training.misalign import MisalignParams
from advkit.training.params import TrainParams


@pytest.fixture(scope="module")
def run() -> Run:
    data = data_reference.load("digits", role="train", limit=20)
    network = create("advkit/cnn", num_classes=10, input_size=data.size, seed=0)
    positions = torch.arange(10)
    params = TrainParams(misalign=MisalignParams(smoothness=1.0))
    return Run(network, data, positions, positions + 10, [], params, None, {})


@pytest.mark.parametrize(
    ("train", "held", "told"),
    [
        ((900, 1000), (20, 200), "20 of 200 held-out images right, where guessing gets 1 in 10"),
        ((100, 1000), (190, 200), None),
        ((100, 1000), None, "100 of 1000 training images right"),
        ((900, 1000), None, None),
        (None, None, None),
    ],
)
def test_a_training_that_ends_near_chance_is_flagged(
    run: Run, train: tuple[int, int] | None, held: tuple[int, int] | None, told: str | None
) -> None:
    result = train_result.collect(run, Path("x.safetensors"), []).model_copy(
        update={
            "train_accuracy": output.rate(*train) if train else None,
            "validation_accuracy": output.rate(*held) if held else None,
        }
    )
    found = train_result.flags(run, result)
    if told is None:
        assert found == []
    else:
        (flag,) = found
        assert told in flag
        assert "--smoothness-weight" in flag


def test_the_flag_comes_with_the_report(inside, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """Whatever the network learns in one step at a rate of 1e-9, it stays at what it was: an untrained one."""
    import json

    common = ("train", "--arch", "advkit/cnn", "--data", "digits", "--epochs", "1", "--limit", "300", "--json")
    done = inside(*common, "--lr", "1e-9", "-o", tmp_path / "x.safetensors")
    assert done.returncode == 0
    report = json.loads(done.stdout)
    rate = report["result"]["validation_accuracy"] or report["result"]["train_accuracy"]
    assert ["near chance" in flag for flag in report["flags"]] == [True] * (rate["rate"] < 0.15)
