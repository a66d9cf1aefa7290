"""The alarms by histories made by hand, what they do to a training, and what a training that diverges leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from linear_net import network_of, settings, two_classes
from torch import Tensor, nn

from advkit.data.images import ImageSet
from advkit.files.errors import Interrupted
from advkit.files.signals import Stop
from advkit.models import reference as model_reference
from advkit.models.build import create
from advkit.models.network import Network
from advkit.training.adversarial import AdversarialObjective
from advkit.training.loop import train
from advkit.training.overfitting import OverfittingAlarm, best_epoch, find_alarm, first_alarm
from advkit.training.params import TrainParams
from advkit.training.robust_check import OnOverfit, RobustCheck
from advkit.training.run import Diverged, Run, TrainProgress

pytestmark = pytest.mark.usefixtures("one_thread")
Counts = tuple[int, int, int]  # of 1000: right under PGD, right clean, right on adversarial training images


def history(*epochs: Counts, images: int = 1000) -> list[dict[str, Any]]:
    return [
        {
            "epoch": number,
            "robust_right": robust * images // 1000,
            "check_right": clean * images // 1000,
            "check_images": images,
            "adversarial_right": attacked,
            "adversarial_images": 1000,
        }
        for number, (robust, clean, attacked) in enumerate(epochs, 1)
    ]


CASES: dict[str, tuple[list[dict[str, Any]], OverfittingAlarm | None]] = {
    "a collapse": (history((350, 600, 300), (400, 650, 350), (0, 700, 800)), OverfittingAlarm("catastrophic", 3, 2)),
    "over two epochs": (
        history((400, 650, 350), (310, 660, 350), (190, 700, 500)), OverfittingAlarm("catastrophic", 3, 1)
    ),
    "over three": (history((400, 650, 350), (330, 650, 350), (260, 650, 350), (195, 660, 350)), None),
    "19 points of 40": (history((400, 650, 350), (210, 700, 500)), None),
    "20 points": (history((400, 650, 350), (200, 700, 500)), OverfittingAlarm("catastrophic", 2, 1)),
    "half of little": (history((120, 400, 100), (55, 450, 200)), OverfittingAlarm("catastrophic", 2, 1)),
    "half, of few images": (history((120, 400, 100), (55, 450, 200), images=60), None),
    "training fell as well": (history((400, 650, 350), (100, 640, 300)), None),
    "clean fell as well": (history((400, 650, 350), (100, 400, 350)), None),
    "a slow decline": (
        history((400, 600, 400), (420, 650, 450), (370, 670, 500), (365, 690, 550)), OverfittingAlarm("robust", 4, 2)
    ),
    "one bad epoch": (history((400, 600, 400), (420, 650, 450), (360, 670, 500), (375, 690, 550)), None),
    "one bad epoch, the last": (history((400, 600, 400), (420, 650, 450), (375, 670, 500), (360, 690, 550)), None),
    "a decline of training too": (history((400, 600, 400), (420, 650, 450), (370, 670, 445), (365, 690, 440)), None),
    "rising": (history((100, 600, 100), (200, 650, 200), (300, 670, 300)), None),
    "first": (history((0, 600, 900)), None),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_alarms(name: str) -> None:
    epochs, expected = CASES[name]
    assert find_alarm(epochs) == expected
    assert first_alarm(epochs) == expected


def test_the_first_alarm_stays_when_the_training_recovers() -> None:
    epochs = history((400, 650, 350), (0, 700, 800), (390, 700, 810))
    assert find_alarm(epochs) is None
    assert first_alarm(epochs) == OverfittingAlarm("catastrophic", 2, 1)


def test_without_a_check_or_adversarial_images_nothing_is_said() -> None:
    for absent in ("check_images", "adversarial_images"):
        collapse = history((400, 650, 350), (0, 700, 800))
        epochs = [{name: value for name, value in record.items() if name != absent} for record in collapse]
        assert first_alarm(epochs) is None
    assert best_epoch([{"epoch": 1}]) is None
    assert best_epoch(history((300, 0, 0), (400, 0, 0), (400, 0, 0))) == 2


def test_where_training_counts_nothing_its_loss_stands_for_it() -> None:
    for losses, expected in (((2.0, 1.5), OverfittingAlarm("catastrophic", 2, 1)), ((2.0, 2.1), None)):
        epochs = history((400, 650, 0), (0, 700, 0))
        for record, loss in zip(epochs, losses, strict=True):
            record |= {"adversarial_right": None, "cross_entropy": loss}
        assert find_alarm(epochs) == expected


SCRIPT: Sequence[Counts] = ((300, 600, 300), (400, 650, 350), (0, 700, 800), (0, 700, 900), (10, 700, 900))


@dataclass(frozen=True)
class ScriptedCheck(RobustCheck):
    """Says of the k-th measurement of a run what the script has."""

    done: Any = None  # a list that grows

    def measure(self, network: Network, data: ImageSet) -> dict[str, int]:
        robust, clean, _ = SCRIPT[len(self.done)]
        self.done.append(1)
        return {"check_images": 1000, "check_right": clean, "robust_right": robust}


def collapsing(
    monkeypatch: pytest.MonkeyPatch, on_overfit: OnOverfit, path: Path | None = None, done: int = 0, **more: Any
) -> Run:
    """A run whose check and training counts are the script's, ``done`` epochs of which are past."""
    past, epochs = [1] * done, [1] * done

    def record(self: AdversarialObjective, sums: Mapping[str, float]) -> dict[str, Any]:
        epochs.append(1)
        return {"adversarial_right": SCRIPT[len(epochs) - 1][2], "adversarial_images": 1000}

    monkeypatch.setattr(AdversarialObjective, "record", record)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 2))
    params = settings("fast", TrainParams(epochs=5, batch_size=8, lr=0.1, **more), eps=0.1, step_size=0.1)
    check = ScriptedCheck(torch.arange(32, 40), 0.1, 2, 0, on_overfit, past)
    parts = torch.arange(32), torch.arange(32, 40)
    return Run(network_of(net), two_classes(), *parts, [], params, path, {"params": params.to_json()}, check=check)


def go(run: Run, *, resume: bool = False, stop_after: int | None = None) -> list[dict[str, Tensor]]:
    """Train; returns the weights after each step of this call."""
    stop, states = Stop(), []

    def show(progress: TrainProgress) -> None:
        source = run.ema or run.network.net.state_dict()
        states.append({name: tensor.clone() for name, tensor in source.items()})
        stop.signum = 15 if len(states) == stop_after else None

    train(run, resume=resume, stop=stop, show=show)
    return states


def equal(run: Run, weights: Mapping[str, Tensor]) -> bool:
    return all(torch.equal(tensor, weights[name]) for name, tensor in run.network.net.state_dict().items())


@pytest.mark.parametrize(("on_overfit", "epochs", "kept"), [("rollback", 3, 2), ("stop", 3, 3), ("ignore", 5, 5)])
@pytest.mark.parametrize("ema", [0.0, 0.5])
def test_a_collapse_ends_the_training_as_the_option_says(
    on_overfit: OnOverfit, epochs: int, kept: int, ema: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = collapsing(monkeypatch, on_overfit, ema=ema)
    states = go(run)
    assert len(run.history) == epochs
    assert run.kept_epoch == kept
    assert equal(run, states[4 * kept - 1])
    assert not equal(run, states[4 * kept - 2])
    assert not run.network.training


def test_the_best_weights_survive_an_interruption(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    whole = collapsing(monkeypatch, "rollback")
    go(whole)
    path = tmp_path / "t.resume.safetensors"
    with pytest.raises(Interrupted):
        go(collapsing(monkeypatch, "rollback", path), stop_after=10)  # in the third epoch
    run = collapsing(monkeypatch, "rollback", path, done=2)
    go(run, resume=True)
    assert (run.kept_epoch, run.history) == (2, whole.history)
    assert equal(run, whole.network.net.state_dict())


def test_precise_statistics_are_those_that_were_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    run = collapsing(monkeypatch, "rollback", precise_bn=16)
    seen: list[dict[str, Tensor]] = []
    original = ScriptedCheck.measure

    def measure(self: ScriptedCheck, network: Network, data: ImageSet) -> dict[str, int]:
        seen.append({name: tensor.clone() for name, tensor in network.net.state_dict().items()})
        return original(self, network, data)

    monkeypatch.setattr(ScriptedCheck, "measure", measure)
    go(run)
    assert equal(run, seen[1])


@pytest.mark.parametrize("when", ["in an epoch", "in its last step"])
def test_weights_that_are_no_numbers_leave_the_last_good_state(when: str, tmp_path: Path) -> None:
    params = settings("fast", TrainParams(epochs=4, batch_size=8, lr=0.1), eps=0.1, step_size=0.1)
    path = tmp_path / "t.resume.safetensors"
    network = create("advkit/cnn", num_classes=2, input_size=(1, 8, 8), mean=(0.0,), std=(1.0,), seed=0)
    parts = torch.arange(32), torch.arange(32, 40)
    run = Run(network, two_classes(), *parts, [], params, path, {"params": params.to_json()})
    taken, good = 0, dict[str, Tensor]()

    def show(progress: TrainProgress) -> None:
        nonlocal taken
        taken += 1
        if taken == 8:
            good.update({name: tensor.clone() for name, tensor in run.network.net.state_dict().items()})
        if taken == (10 if when == "in an epoch" else 12):
            with torch.no_grad():
                next(run.network.net.parameters()).fill_(float("nan"))

    with pytest.raises(Diverged, match=f"epoch 3: .* not finite; .*the state after epoch 2 is in {path}") as found:
        train(run, resume=False, stop=Stop(), show=show)
    reference = str(found.value).partition("--init ")[2].partition(",")[0].replace("made/net", "advkit/cnn")
    loaded = model_reference.load(reference, num_classes=2, input_size=(1, 8, 8))
    assert all(torch.equal(tensor, good[name]) for name, tensor in loaded.net.state_dict().items())
    assert "after epoch" not in found.value.why


def test_there_is_no_state_to_name_in_the_first_epoch(tmp_path: Path) -> None:
    params = replace(settings("fast", eps=0.1, step_size=0.1), batch_size=8)
    net = network_of(nn.Sequential(nn.Flatten(), nn.Linear(64, 2)))
    with torch.no_grad():
        net.net[1].weight.fill_(float("nan"))
    run = Run(net, two_classes(), torch.arange(32), torch.arange(0), [], params, tmp_path / "t.resume.safetensors", {})
    with pytest.raises(Diverged, match=r"epoch 1: the loss is not finite; lower --lr or the weights$"):
        train(run, resume=False, stop=Stop(), show=lambda progress: None)


def test_of_a_detector_average_precision_under_attack_decides() -> None:
    def told(*epochs: tuple[float, float]) -> list[dict[str, Any]]:
        rest = {"check_images": 50, "check_right": 0, "robust_right": 0, "adversarial_images": 500, "right": None}
        return [
            rest
            | {"epoch": k + 1, "adversarial_right": None, "cross_entropy": 5.0 - k}
            | {"validation_map50": clean, "robust_map50": robust}
            for k, (clean, robust) in enumerate(epochs)
        ]

    collapsed = told((0.5, 0.2), (0.6, 0.3), (0.62, 0.05))
    assert best_epoch(collapsed) == 2
    assert find_alarm(collapsed) == OverfittingAlarm("catastrophic", 3, 2)
    assert find_alarm(told((0.5, 0.2), (0.6, 0.3), (0.3, 0.05))) is None  # it got worse altogether
    assert find_alarm(told((0.01, 0.034), (0.03, 0.011))) is None  # a young detector, whose points come and go
    declined = told((0.5, 0.3), (0.6, 0.31), (0.6, 0.25), (0.62, 0.24))
    assert find_alarm(declined) == OverfittingAlarm("robust", 4, 2)
    assert find_alarm(told((0.5, 0.2), (0.6, 0.3), (0.6, 0.31))) is None
