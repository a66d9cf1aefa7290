"""A run that was stopped after any step goes on to the same bits; what is held out is never trained on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from advkit.data import reference as data_reference
from advkit.data.images import ImageSet
from advkit.data.sampling import hold_out
from advkit.files import state_file
from advkit.files.errors import InputError, Interrupted
from advkit.files.signals import Stop
from advkit.files.tensors import read_header, read_tensors, write_tensors
from advkit.models.build import create
from advkit.models.fuse import fuse_conv_bn
from advkit.models.network import Network
from advkit.tasks.classification import CLASSIFICATION
from advkit.tasks.sampling import limited
from advkit.training import loop
from advkit.training.loop import train
from advkit.training.optimizer import make_optimizer
from advkit.training.order import epoch_order
from advkit.training.params import AdversarialParams, MisalignParams, TrainParams
from advkit.training.run import Run, TrainProgress

pytestmark = pytest.mark.usefixtures("one_thread")
BASE = TrainParams(epochs=2, batch_size=16, lr=0.05)
STEPS = 4  # of an epoch: 80 images, a fifth held out, in batches of 16
SETTINGS = {
    "sgd, ema, augmented": replace(BASE, ema=0.9, augment=frozenset({"crop", "flip", "cutout"})),
    "adamw, constant, bfloat16": replace(
        BASE, optimizer="adamw", lr=0.002, schedule="constant", precision="bfloat16", label_smoothing=0.1
    ),
    "misaligned": replace(BASE, misalign=MisalignParams(at=("clean", "noise"), smoothness=0.1)),
    "pgd, half of the images, ema": replace(
        BASE, ema=0.9, adversarial=AdversarialParams("pgd", eps=0.1, steps=2, step_size=0.05, ratio=0.5)
    ),
    "trades, awp": replace(
        BASE, adversarial=AdversarialParams("trades", eps=0.1, steps=2, step_size=0.05, beta=2.0, awp=0.01)
    ),
    "mart": replace(BASE, adversarial=AdversarialParams("mart", eps=0.1, steps=1, step_size=0.1, beta=2.0)),
    "free": replace(BASE, adversarial=AdversarialParams("free", eps=0.1, step_size=0.1, replays=3)),
}


@pytest.fixture(scope="module")
def digits() -> ImageSet:
    return limited(CLASSIFICATION, data_reference.load("digits", role="train"), 80, 0)


def fresh(data: ImageSet, seed: int = 1) -> Network:
    return create("advkit/cnn", num_classes=10, input_size=data.size, mean=(0.3,), std=(0.4,), seed=seed)


def a_run(data: ImageSet, params: TrainParams, path: Path | None = None) -> Run:
    part, held = hold_out(data.targets, 0.2, 0)
    references = [fuse_conv_bn(fresh(data, 7).eval())] if params.misalign else []
    return Run(fresh(data), data, part, held, references, params, path, {"params": params.to_json()})


def go(run: Run, stop_after: int | None = None, resume: bool = False) -> Run:
    stop, taken = Stop(), 0

    def show(progress: TrainProgress) -> None:
        nonlocal taken
        taken += 1
        stop.signum = 15 if taken == stop_after else None

    train(run, resume=resume, stop=stop, show=show)
    return run


def state_of(run: Run) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in run.network.net.state_dict().items()}


def same(a: Run, b: Run) -> bool:
    ours, theirs = state_of(a), state_of(b)
    return a.history == b.history and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("name", SETTINGS)
def test_stopped_after_any_step_it_goes_on_to_the_same_bits(name: str, digits: ImageSet, tmp_path: Path) -> None:
    params = SETTINGS[name]
    whole = go(a_run(digits, params))
    assert len(whole.history) == params.epochs
    for number in (STEPS - 1, STEPS, STEPS + 1):
        path = tmp_path / f"{number}.resume.safetensors"
        with pytest.raises(Interrupted):
            go(a_run(digits, params, path), stop_after=number)
        assert same(go(a_run(digits, params, path), resume=True), whole), number


def test_stopped_twice_and_once_more(digits: ImageSet, tmp_path: Path) -> None:
    params, path = SETTINGS["sgd, ema, augmented"], tmp_path / "t.resume.safetensors"
    for turn in range(3):
        with pytest.raises(Interrupted):
            go(a_run(digits, params, path), stop_after=2, resume=turn > 0)
    assert same(go(a_run(digits, params, path), resume=True), go(a_run(digits, params)))


class RecordedDropout(nn.Dropout):
    """Keeps the masks of training; what comes in is never 0."""

    def __init__(self) -> None:
        super().__init__(0.5)
        self.masks: list[Tensor] = []

    def forward(self, hidden: Tensor) -> Tensor:
        dropped: Tensor = super().forward(hidden)
        if self.training:
            self.masks.append(dropped == 0)
        return dropped


def dropping_run(data: ImageSet, params: TrainParams, path: Path | None = None) -> tuple[Run, list[Tensor]]:
    run, dropout = a_run(data, params, path), RecordedDropout()
    torch.manual_seed(3)
    run.network.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Sigmoid(), dropout, nn.Linear(16, 10))
    torch.seed()  # a run must not depend on what was drawn before it
    return run, dropout.masks


def test_dropout_goes_on_with_the_masks_of_the_steps_to_come(digits: ImageSet, tmp_path: Path) -> None:
    whole, masks = dropping_run(digits, BASE)
    go(whole)
    for number in (1, STEPS - 1, STEPS + 1):
        path = tmp_path / f"{number}.resume.safetensors"
        run, before = dropping_run(digits, BASE, path)
        with pytest.raises(Interrupted):
            go(run, stop_after=number)
        run, after = dropping_run(digits, BASE, path)
        assert same(go(run, resume=True), whole), number
        assert torch.equal(torch.stack(before + after), torch.stack(masks))


def test_every_step_and_every_seed_have_dropout_masks_of_their_own(digits: ImageSet) -> None:
    drawn = []
    for seed in (0, 1):
        run, masks = dropping_run(digits, replace(BASE, seed=seed))
        go(run)
        drawn += [tuple(mask.flatten().tolist()) for mask in masks]
    assert len(drawn) == len(set(drawn)) == 2 * BASE.epochs * STEPS


def test_a_state_that_does_not_fit_is_refused(digits: ImageSet, tmp_path: Path) -> None:
    params, path = SETTINGS["sgd, ema, augmented"], tmp_path / "t.resume.safetensors"
    with pytest.raises(InputError, match="nothing to resume"):
        go(a_run(digits, params, path), resume=True)
    with pytest.raises(Interrupted):
        go(a_run(digits, params, path), stop_after=3)
    with pytest.raises(InputError, match="another lr"):
        go(a_run(digits, replace(params, lr=0.04), path), resume=True)
    with pytest.raises(InputError, match="another momentum"):
        go(a_run(digits, replace(params, momentum=0.5), path), resume=True)
    tensors, meta = read_tensors(path)[0], read_header(path)[1]["advkit"]
    name = next(name for name in tensors if name.startswith("model."))
    write_tensors(path, {key: value for key, value in tensors.items() if key != name}, meta)
    with pytest.raises(InputError, match="checksum does not fit"):
        go(a_run(digits, params, path), resume=True)


def rewritten(path: Path, change: dict[str, Any], tensors: dict[str, Tensor], *, honest: bool) -> None:
    """The state with other metadata and tensors; ``honest``: with the checksum that belongs to them."""
    old, meta = read_tensors(path)[0], json.loads(read_header(path)[1]["advkit"])
    meta, new = {**meta, **change}, {**old, **tensors}
    if honest:
        meta["sha256"] = state_file.checksum(meta, new)
    write_tensors(path, new, json.dumps(meta))


DAMAGES: dict[str, tuple[dict[str, Any], str]] = {
    "epoch beyond the run": ({"epoch": 99}, "at no point of this run"),
    "epoch below 0": ({"epoch": -1}, "at no point of this run"),
    "epoch ahead of its history": ({"epoch": 1}, "at no point of this run"),
    "last step, sums of three": ({"step": STEPS}, "sums are not those of 4 steps"),
    "step beyond the epoch": ({"step": STEPS + 1}, "at no point of this run"),
    "no sums": ({"tallies": {}}, "sums are not those"),
    "no list": ({"history": None}, "at no point of this run"),
    "no number": ({"step": "3"}, "at no point of this run"),
}


@pytest.fixture(scope="module")
def stopped(digits: ImageSet, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The state of a run stopped after three steps."""
    path = tmp_path_factory.mktemp("stopped") / "t.resume.safetensors"
    with pytest.raises(Interrupted):
        go(a_run(digits, SETTINGS["sgd, ema, augmented"], path), stop_after=3)
    return path.read_bytes()


@pytest.mark.parametrize("honest", [False, True])
@pytest.mark.parametrize("name", DAMAGES)
def test_an_impossible_state_is_refused(
    name: str, honest: bool, stopped: bytes, digits: ImageSet, tmp_path: Path
) -> None:
    change, message = DAMAGES[name]
    path = tmp_path / "t.resume.safetensors"
    path.write_bytes(stopped)
    rewritten(path, change, {}, honest=honest)
    with pytest.raises(InputError, match=message if honest else "checksum does not fit") as refused:
        go(a_run(digits, SETTINGS["sgd, ema, augmented"], path), resume=True)
    assert "--force" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("change", [{"epoch": float("inf")}, {"tallies": {"images": float("nan")}}])
def test_numbers_that_are_none_are_refused(
    change: dict[str, Any], stopped: bytes, digits: ImageSet, tmp_path: Path
) -> None:
    path = tmp_path / "t.resume.safetensors"
    path.write_bytes(stopped)
    rewritten(path, change, {}, honest=False)
    with pytest.raises(InputError, match=r"checksum does not fit.*--force"):
        go(a_run(digits, SETTINGS["sgd, ema, augmented"], path), resume=True)


@pytest.mark.parametrize("part", ["model.", "ema.", "optimizer."])
def test_tensors_with_nan_or_other_bytes_are_refused(
    part: str, stopped: bytes, digits: ImageSet, tmp_path: Path
) -> None:
    path = tmp_path / "t.resume.safetensors"
    path.write_bytes(stopped)
    name, tensor = next(
        (name, tensor) for name, tensor in read_tensors(path)[0].items() if name.startswith(part) and tensor.ndim
    )
    spoilt = tensor.clone()
    spoilt.view(-1)[0] = float("nan")
    for honest, message in ((False, "checksum does not fit"), (True, "holds NaN")):
        rewritten(path, {}, {name: spoilt}, honest=honest)
        with pytest.raises(InputError, match=f"{message}.*--force"):
            go(a_run(digits, SETTINGS["sgd, ema, augmented"], path), resume=True)


def test_a_state_without_checksum_or_of_another_network_is_refused(
    stopped: bytes, digits: ImageSet, tmp_path: Path
) -> None:
    params, path = SETTINGS["sgd, ema, augmented"], tmp_path / "t.resume.safetensors"
    path.write_bytes(stopped)
    tensors, meta = read_tensors(path)[0], json.loads(read_header(path)[1]["advkit"])
    for part, message in (("model.", "does not fit the network"), ("ema.", "do not fit the network")):
        first = next(name for name in tensors if name.startswith(part))
        fewer = {name: tensor for name, tensor in tensors.items() if name != first}
        write_tensors(path, fewer, json.dumps(meta | {"sha256": state_file.checksum(meta, fewer)}))
        with pytest.raises(InputError, match=f"{message}.*--force"):
            go(a_run(digits, params, path), resume=True)
    del meta["sha256"]
    write_tensors(path, tensors, json.dumps(meta))
    with pytest.raises(InputError, match="without checksum; start anew with --force"):
        go(a_run(digits, params, path), resume=True)


def test_a_run_does_not_touch_the_global_randomness_it_starts_from(digits: ImageSet) -> None:
    first = go(a_run(digits, BASE))
    torch.manual_seed(12345)
    torch.rand(10)
    assert same(go(a_run(digits, BASE)), first)


def test_held_out_images_are_never_trained_on(digits: ImageSet) -> None:
    _, held = hold_out(digits.targets, 0.2, 0)
    hidden = set(digits.rows[held].tolist())
    read = digits.read

    def blackened(rows: Tensor) -> Tensor:
        keep = torch.tensor([float(row not in hidden) for row in rows.tolist()])
        return read(rows) * keep[:, None, None, None]

    other = go(a_run(replace(digits, read=blackened), BASE))
    plain = go(a_run(digits, BASE))
    ours, theirs = state_of(other), state_of(plain)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    correct = [run.history[-1]["validation_right"] for run in (other, plain)]
    assert correct[0] != correct[1], "the held-out images were looked at, in vain"


def test_every_image_is_seen_once_an_epoch(digits: ImageSet, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    step = loop._step

    def watched(run: Run, optimizer: Any, misalignment: Any, positions: Tensor, *more: Any) -> None:
        seen.extend(positions.tolist())
        step(run, optimizer, misalignment, positions, *more)

    monkeypatch.setattr(loop, "_step", watched)
    run = go(a_run(digits, BASE))
    half = len(seen) // 2
    assert sorted(seen[:half]) == sorted(seen[half:]) == sorted(run.train.tolist())
    assert seen[:half] != seen[half:]


def test_the_order_belongs_to_seed_and_epoch() -> None:
    orders = [epoch_order(50, seed, epoch).tolist() for seed, epoch in ((0, 0), (0, 0), (0, 1), (1, 0))]
    assert orders[0] == orders[1]
    assert orders[0] != orders[2] != orders[3] != orders[0]
    assert all(sorted(order) == list(range(50)) for order in orders)


def test_the_average_of_the_weights_is_the_recurrence(digits: ImageSet) -> None:
    """Decay d after a short memory at first: d_n = min(d, (1 + n) / (10 + n))."""
    run = a_run(digits, replace(BASE, ema=0.5, epochs=1))
    expected = state_of(run)
    number = 0

    def show(progress: TrainProgress) -> None:
        nonlocal number
        decay = min(0.5, (1 + number) / (10 + number))
        for name, tensor in run.network.net.state_dict().items():
            if tensor.is_floating_point():
                expected[name] = decay * expected[name] + (1 - decay) * tensor
        number += 1

    train(run, resume=False, stop=Stop(), show=show)
    assert number == STEPS
    for name, tensor in run.network.net.state_dict().items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, expected[name], rtol=1e-5, atol=1e-6)


def test_measuring_an_epoch_leaves_the_weights_in_training_alone(digits: ImageSet) -> None:
    """It is taken on the averaged weights: were they left in place, the next epoch would go on from them."""
    params = replace(BASE, ema=0.9)
    measured, blind = a_run(digits, params), a_run(digits, params)
    blind.validation = blind.validation[:0]
    ours, theirs = state_of(go(measured)), state_of(go(blind))
    assert "validation_right" in measured.history[0]
    assert "validation_right" not in blind.history[0]
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_only_weights_decay(digits: ImageSet) -> None:
    network = fresh(digits)
    for kind in ("sgd", "adamw"):
        optimizer = make_optimizer(network, replace(BASE, optimizer=kind, weight_decay=0.3))  # type: ignore[arg-type]
        decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
        assert len(decays) == len(list(network.net.parameters()))
        assert all(decays[id(p)] == (0.3 if p.ndim > 1 else 0.0) for p in network.net.parameters())
