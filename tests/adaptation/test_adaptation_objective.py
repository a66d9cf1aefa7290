"""The objective of an adaptation: exact controls, what it sees, what it carries, and the second stream."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from planted import PARAMS, a_network, a_run, context_of, image_set, informative_feature_shift, nuisance_shift, trained
from torch import Tensor, nn

from advkit.adaptation.classifier_features import FeatureRecorder, head_of
from advkit.adaptation.dann import DANN
from advkit.adaptation.objective import adaptation_of
from advkit.adaptation.registry import METHODS, methods_of
from advkit.adaptation.selection import MAX_SCORED, TargetSelection
from advkit.adaptation.target_stream import TargetStream
from advkit.data.images import ImageSet
from advkit.files.errors import InputError, Interrupted
from advkit.files.signals import Stop
from advkit.models.network import ModelSpec, Network
from advkit.parallel import process_group
from advkit.tasks.task import task_named
from advkit.training.loop import train
from advkit.training.objective import TrainingStep, objective_of
from advkit.training.params import AdversarialParams, TrainParams
from advkit.training.run import Run

SHORT = replace(PARAMS, epochs=2, batch_size=16)
ATTACKED = replace(SHORT, adversarial=AdversarialParams("fast", eps=0.05, step_size=0.0625, steps=1))
CLASSIFIERS = ("none", "adabn", "dann", "cdan", "coral", "mcc", "self-training")


def weights(run: Run) -> dict[str, Tensor]:
    return run.network.net.state_dict()


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("params", [SHORT, ATTACKED], ids=["plain", "adversarial"])
def test_without_a_method_the_training_is_that_on_the_source(params: TrainParams) -> None:
    source, target = nuisance_shift()
    found = trained(a_run(source, target, a_network(), params, method="none"))
    plain = a_run(source, target, a_network(), params)
    plain.objective = None  # what the parameters name
    assert same(weights(found), weights(trained(plain)))
    assert found.history == plain.history


def test_the_methods_of_each_task_are_as_the_registry_says() -> None:
    assert tuple(methods_of(task_named("classification"))) == CLASSIFIERS
    detectors = ["none", "global", "local", "local-global", "mean-teacher"]
    assert methods_of(task_named("detection")) == detectors
    assert set(METHODS) == {*CLASSIFIERS, *detectors}
    source, target = nuisance_shift()
    with pytest.raises(InputError, match="--method local: is not for classification; choose one of none, adabn, dann"):
        a_run(source, target, a_network(), method="local")


def a_step(count: int = 4, number: int = 0) -> TrainingStep:
    source, _ = nuisance_shift()
    images, targets = source.batch(slice(count))
    return TrainingStep(images, targets, torch.arange(count), 0, number, 5)


def test_the_source_is_attacked_by_its_loss_and_the_target_stays_clean() -> None:
    _, target = nuisance_shift()
    network = a_network()
    network.train()
    params = replace(ATTACKED, batch_size=4)
    seen: list[Tensor] = []
    network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]) if module.training else None)
    adaptation_of(context_of(network, target, params, method="dann"))(a_step())
    (both,) = seen
    attacked = objective_of(network, [], params, None).points(a_step()).images  # type: ignore[attr-defined]
    assert torch.equal(both[:4], attacked)
    assert not torch.equal(both[:4], a_step().images)
    clean = TargetStream(target, task_named("classification"), params).batch(a_step()).images
    assert torch.equal(both[4:], clean)


@pytest.mark.parametrize("method", CLASSIFIERS)
@pytest.mark.parametrize("params", [SHORT, ATTACKED], ids=["plain", "adversarial"])
def test_labels_of_the_target_change_nothing(method: str, params: TrainParams) -> None:
    """Here they are within reach; commands don't even open them."""
    source, target = informative_feature_shift()
    wrong = replace(target, targets=1 - target.targets)
    networks = [a_network(batch_norm=True) for _ in range(2)]
    runs = [
        trained(a_run(source, own, network, params, method=method, threshold=0.6))
        for own, network in zip((target, wrong), networks, strict=True)
    ]
    assert same(weights(runs[0]), weights(runs[1]))
    assert runs[0].history == runs[1].history


@pytest.mark.parametrize("method", [method for method in CLASSIFIERS if method not in ("none", "adabn")])
def test_the_weight_and_the_target_reach_the_weights(method: str) -> None:
    source, target = informative_feature_shift()
    other = image_set(1 - target.batch(slice(None))[0], target.targets)
    found = [
        weights(trained(a_run(source, images, a_network(), SHORT, method=method, weight=weight, threshold=0.5)))
        for images, weight in ((target, 1.0), (other, 1.0), (target, 0.5), (target, 1.0))
    ]
    assert same(found[0], found[3])
    assert not same(found[0], found[1])
    assert not same(found[0], found[2])


def test_progress_rises_from_0_over_all_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[float] = []
    real = DANN.adaptation_loss

    def spy(self: DANN, source: Any, target: Any, batch: Any, progress: float) -> Any:
        told.append(progress)
        return real(self, source, target, batch, progress)

    monkeypatch.setattr(DANN, "adaptation_loss", spy)
    source, target = informative_feature_shift()
    trained(a_run(source, target, a_network(), SHORT, method="dann"))
    assert len(told) > 3
    assert told == pytest.approx([k / len(told) for k in range(len(told))])


def interrupted(make: Callable[[], Run], after: int) -> Run:
    """What :func:`make` makes, stopped after so many steps and gone on with by another one."""
    stop, taken = Stop(), 0

    def show(progress: Any) -> None:
        nonlocal taken
        taken += 1
        stop.signum = 15 if taken == after else None

    with pytest.raises(Interrupted):
        train(make(), resume=False, stop=stop, show=show)
    run = make()
    train(run, resume=True, stop=Stop(), show=lambda progress: None)
    return run


@pytest.mark.parametrize("method", CLASSIFIERS)
@pytest.mark.parametrize("after", [3, 5, 7])  # within an epoch, at its end, and in the next one
def test_an_interrupted_adaptation_goes_on_to_the_same_bits(method: str, after: int, tmp_path: Path) -> None:
    source, target = informative_feature_shift()
    params = replace(ATTACKED, momentum=0.9, ema=0.5)

    def make() -> Run:
        run = a_run(source, target, a_network(batch_norm=True), params, method=method, threshold=0.6)
        run.selection = TargetSelection("im", target, None, 0)
        return run

    whole = trained(make())

    def kept() -> Run:
        run = make()
        run.state_path = tmp_path / "x.resume.safetensors"
        return run

    again = interrupted(kept, after)
    assert same(weights(whole), weights(again))
    assert whole.history == again.history
    assert whole.kept_epoch == again.kept_epoch


def test_a_state_of_another_method_is_refused(tmp_path: Path) -> None:
    source, target = informative_feature_shift()

    def make(method: str) -> Run:
        run = a_run(source, target, a_network(), SHORT, method=method)
        run.state_path = tmp_path / "x.resume.safetensors"
        run.objective.measures = ("loss", "correct", "alignment", "domain_right", "domain_images")  # type: ignore[union-attr]
        return run

    stop = Stop()
    stop.signum = 15
    with pytest.raises(Interrupted):
        train(make("dann"), resume=False, stop=stop, show=lambda progress: None)
    with pytest.raises(InputError, match=r"x\.resume\.safetensors: .*fit"):
        train(make("cdan"), resume=True, stop=Stop(), show=lambda progress: None)


def test_the_epoch_with_the_best_score_is_kept() -> None:
    """Weights and record; a score that is planted, so that the second of three epochs is best."""
    source, target = informative_feature_shift()
    params = replace(SHORT, epochs=3)

    class Planted(TargetSelection):
        def measure(self, network: Network) -> dict[str, Any]:
            scores.append(0.0)
            kept.append({name: tensor.clone() for name, tensor in network.net.state_dict().items()})
            return super().measure(network) | {"im": [0.1, 0.9, 0.5][len(scores) - 1]}

    scores: list[float] = []
    kept: list[dict[str, Tensor]] = []
    run = a_run(source, target, a_network(), params, method="dann")
    run.selection = Planted("im", target, None, 0)
    trained(run)
    assert run.kept_epoch == 2
    assert same(weights(run), kept[1])
    assert not same(weights(run), kept[2])
    scores.clear()
    last = a_run(source, target, a_network(), params, method="dann")
    last.selection = Planted("last", target, None, 0)
    trained(last)
    assert last.kept_epoch == 3
    assert same(weights(last), kept[2])


def test_scores_are_of_inference_and_leave_the_network_as_it_was() -> None:
    source, target = informative_feature_shift()
    run = trained(a_run(source, target, a_network(batch_norm=True), SHORT))
    selection = TargetSelection("im", target, target, 0)
    wanted = selection.measure(run.network.eval())
    before = {name: tensor.clone() for name, tensor in weights(run).items()}
    assert selection.measure(run.network.train()) == wanted
    assert same(before, weights(run))
    right = (run.network.eval()(target.batch(slice(None))[0]).max(1).indices == target.targets).sum()
    assert (wanted["oracle_right"], wanted["oracle_images"]) == (int(right), len(target))


def test_two_thousand_target_images_are_scored_drawn_by_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the manual says; of fewer all."""
    read: list[Tensor] = []
    pixels = torch.rand(2100, 1, 1, 2, generator=torch.Generator().manual_seed(0))

    def images(count: int) -> ImageSet:
        rows = torch.arange(count)
        return ImageSet(
            "many", "", ("a", "b"), (1, 1, 2), torch.zeros_like(rows), rows, rows,
            lambda part: read.append(part) or pixels[part],  # type: ignore[func-returns-value]
        )  # fmt: skip

    found = []
    for count, seed in ((2100, 0), (2100, 0), (2100, 1), (1999, 0)):
        read.clear()
        TargetSelection("im", images(count), None, seed).measure(a_network())
        found.append(torch.cat(read))
    assert MAX_SCORED == 2000
    assert [len(part.unique()) for part in found] == [2000, 2000, 2000, 1999]
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_the_stream_gives_each_image_once_before_any_twice() -> None:
    _, target = nuisance_shift(10)
    stream = TargetStream(target, task_named("classification"), replace(SHORT, batch_size=4, seed=5))
    items = torch.cat([stream.positions(4 * number, 4) for number in range(5)])
    assert sorted(items[:10].tolist()) == sorted(items[10:20].tolist()) == list(range(10))
    assert items[:10].tolist() != items[10:20].tolist()
    another = TargetStream(target, task_named("classification"), replace(SHORT, batch_size=4, seed=5))
    assert torch.equal(another.positions(8, 4), items[8:12]), "a function of the step alone"
    few = TargetStream(nuisance_shift(4)[1], task_named("classification"), replace(SHORT, batch_size=16))
    assert sorted(few.positions(0, 16).tolist()) == sorted([*range(4)] * 4)


def test_ranks_share_the_stream_out(monkeypatch: pytest.MonkeyPatch) -> None:
    _, target = nuisance_shift()
    params = replace(SHORT, batch_size=6)
    whole = TargetStream(target, task_named("classification"), params).batch(a_step(number=3)).keys
    monkeypatch.setattr(process_group, "world_size", lambda: 2)
    parts = []
    for rank in range(2):
        monkeypatch.setattr(process_group, "rank", lambda rank=rank: rank)
        parts.append(TargetStream(target, task_named("classification"), params).batch(a_step(number=3)).keys)
    assert torch.equal(torch.stack(parts, 1).flatten(), whole)


def noise(count: int, side: int = 8) -> ImageSet:
    """(count, 1, side, side): no two augmentations of one image are equal."""
    pixels, rows = torch.rand(count, 1, side, side, generator=torch.Generator().manual_seed(0)), torch.arange(count)
    labels = torch.zeros(count, dtype=torch.int64)
    return ImageSet("noise", "", ("a", "b"), (1, side, side), labels, rows, rows, lambda part: pixels[part])


AUGMENTED = replace(SHORT, augment=frozenset({"crop", "flip", "cutout"}))


def test_copies_of_an_image_are_augmented_each_by_itself() -> None:
    """Within a batch, where there are few images or one pass over them ends, and from pass to pass."""
    target = noise(6)
    stream = TargetStream(target, task_named("classification"), replace(AUGMENTED, batch_size=16))
    batch = stream.batch(a_step())
    assert len(batch.keys.unique()) == 16
    for position in range(6):
        where = (batch.images == target.batch(slice(None))[0][position]).flatten(1).all(1)
        copies = batch.augmented[where].flatten(1)
        assert len(copies) in (2, 3)
        assert len(copies.unique(dim=0)) > 1


def test_how_an_image_is_augmented_depends_on_its_pass_and_not_on_the_batch() -> None:
    target, found = noise(6), []
    for size in (4, 12):
        stream = TargetStream(target, task_named("classification"), replace(AUGMENTED, batch_size=size))
        batches = [stream.batch(a_step(number=number)) for number in range(12 // size)]
        found.append([torch.cat([getattr(batch, name) for batch in batches]) for name in ("keys", "augmented")])
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


def test_a_classifier_sees_augmented_target_images_and_takes_pseudo_labels_on_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target, params = noise(8), replace(AUGMENTED, batch_size=4)
    spec = ModelSpec("noise", "", "noise/net", 2, (1, 8, 8), (0.0,), (1.0,), ("a", "b"))
    network = Network(nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), spec)
    network.train()
    seen: list[tuple[bool, Tensor]] = []
    network.register_forward_pre_hook(lambda module, inputs: seen.append((module.training, inputs[0])))
    step = TrainingStep(noise(4).batch(slice(4))[0], torch.zeros(4, dtype=torch.int64), torch.arange(4), 0, 0, 5)
    adaptation_of(context_of(network, target, params, method="self-training"))(step)
    batch = TargetStream(target, task_named("classification"), params).batch(step)
    assert not torch.equal(batch.images, batch.augmented)
    ((learns, both), (guesses, plain)) = seen
    assert (learns, guesses) == (True, False)
    assert torch.equal(both[4:], batch.augmented)
    assert torch.equal(plain, batch.images)


class Branching(nn.Module):
    """A second linear layer that is no head, one that runs last, and logits that are none's output."""

    def __init__(self, after: str) -> None:
        super().__init__()
        self.head, self.aside, self.after = nn.Linear(2, 2), nn.Linear(2, 2), after

    def forward(self, x: Tensor) -> Tensor:
        side = self.aside(x.flatten(1))
        logits: Tensor = self.head(x.flatten(1) + side)
        return logits * 2 if self.after == "scaled" else logits


def test_the_head_is_the_layer_that_gives_the_logits() -> None:
    spec = ModelSpec("made", "", "made/net", 2, (1, 1, 2), (0.0,), (1.0,))
    network = Network(Branching(""), spec)
    assert head_of(network) is network.net.head
    with pytest.raises(InputError, match="made: no linear layer gives its logits"):
        head_of(Network(Branching("scaled"), spec))
    recorder, images = FeatureRecorder(network), torch.rand(3, 1, 1, 2)
    network.train()
    logits = network(images)
    network.eval()
    network(torch.rand(5, 1, 1, 2))
    features = recorder.pop()
    torch.testing.assert_close(network.net.head(features), logits)
