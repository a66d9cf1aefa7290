"""A second task, made up here: several labels an image. Training, attacks and evaluation take it without asking."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advkit.attacks.dataset import outcomes
from advkit.attacks.methods import parse_method
from advkit.attacks.params import AttackParams
from advkit.attacks.run import attack
from advkit.data.images import ImageSet
from advkit.figures.saliency import smoothgrad
from advkit.files.adversarial import AdversarialSet
from advkit.files.errors import InputError
from advkit.files.signals import Stop
from advkit.models.build import create
from advkit.models.network import Network
from advkit.reports.transfer_matrix import collect
from advkit.tasks import task as tasks
from advkit.tasks.prediction import predict
from advkit.training.loop import train
from advkit.training.objective import objective_of
from advkit.training.params import AdversarialParams, MisalignParams, TrainParams
from advkit.training.robust_check import RobustCheck
from advkit.training.run import Run
from advkit.transfer.matrix import Plan, measure
from advkit.transfer.precomputed import precomputed

LABELS = 3  # is the left half bright, is the right half bright, is the top brighter than the bottom


class Count:
    def __init__(self) -> None:
        self.correct = self.total = 0

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        self.correct += int(((outputs > 0) == targets.bool()).all(1).sum())
        self.total += len(targets)

    def merge(self, other: Count) -> None:
        self.correct += other.correct
        self.total += other.total

    def compute(self) -> dict[str, int]:
        return {"correct": self.correct, "total": self.total}


def loss(outputs: Tensor, targets: Tensor, targeted: bool) -> Tensor:
    found = F.binary_cross_entropy_with_logits(outputs, targets.float(), reduction="none").sum(1)
    return -found if targeted else found


class MultiLabel:
    """Outputs (N, K) scores, targets (N, K) of 0 and 1, predictions (N,) whole numbers of K bits."""

    name = "multi-label"
    attack_losses: Mapping[str, tasks.AttackLoss] = {"ce": loss, "margin": loss}
    strongest_of: Mapping[str, Sequence[str]] = {}
    fallback = "margin"
    has_places = False
    least_classes = 1
    augmentations: tuple[str, ...] = ()
    stops_early = True
    smooths_labels = True
    counts_in_training = True
    figures: tuple[str, ...] = ()

    def outputs(self, networks: Sequence[nn.Module], images: Tensor) -> Tensor:
        return torch.stack([network(images) for network in networks]).mean(0)

    def joined(self, outputs: Sequence[Tensor], sizes: Sequence[int]) -> Tensor:
        return torch.cat(list(outputs))

    def losses(
        self, network: nn.Module, images: Tensor, targets: Tensor, *, label_smoothing: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        outputs = network(images)
        return loss(outputs, targets, False), self.correct(self.predictions(outputs.detach()), targets).float()

    def _bits(self, values: Tensor) -> Tensor:
        return (values.long() * 2 ** torch.arange(LABELS)).sum(1)

    def predictions(self, outputs: Tensor) -> Tensor:
        return self._bits(outputs > 0)

    def correct(self, predictions: Tensor, targets: Tensor) -> Tensor:
        return predictions == self._bits(targets)

    def is_success(self, predictions: Tensor, targets: Tensor, targeted: bool) -> Tensor:
        return self.correct(predictions, targets) == targeted

    def margin(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return loss(outputs, targets, False)

    def score(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs * targets).sum(1)

    def output_flags(self, first: Tensor, second: Tensor) -> list[str]:
        return [] if torch.equal(first, second) else ["random-forward"]

    def near_chance(self, correct: int, images: int, num_classes: int) -> bool:
        return correct < images / 2**LABELS

    def augmented(
        self, images: Tensor, targets: Tensor, indices: Tensor, kinds: frozenset[str], seed: int, epoch: int
    ) -> tuple[Tensor, Tensor]:
        return images, targets

    def parse_target(self, text: str, class_names: tuple[str, ...]) -> str | int:
        return "opposite" if text == "opposite" else int(text)

    def aim(
        self,
        rule: str | int,
        targets: Tensor,
        indices: Tensor,
        outputs: Callable[[], Tensor],
        num_classes: int,
        seed: int,
    ) -> Tensor:
        """The opposite of the truth, or of one label alone."""
        return 1 - targets if rule == "opposite" else (targets + (torch.arange(LABELS) == rule)) % 2

    def strata(self, targets: Tensor) -> Tensor:
        return self._bits(targets)

    def columns(self, images: Tensor, targets: Tensor, aims: Tensor, predictions: Tensor) -> dict[str, Tensor]:
        return {"marks": targets}

    def metric(self, num_classes: int) -> Count:
        return Count()


MULTI_LABEL = MultiLabel()


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    monkeypatch.setitem(tasks.TASKS, "multi-label", f"{__name__}:MULTI_LABEL")
    made = create("advkit/cnn", num_classes=LABELS, input_size=(1, 8, 8), seed=0)
    made.spec = replace(made.spec, task="multi-label")
    return made


def images() -> ImageSet:
    pixels = torch.rand(96, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    left, right = pixels[..., :4].mean((1, 2, 3)), pixels[..., 4:].mean((1, 2, 3))
    top = pixels[:, :, :4].mean((1, 2, 3)) > pixels[:, :, 4:].mean((1, 2, 3))
    marks = torch.stack([left > 0.5, right > 0.5, top], 1).long()
    rows = torch.arange(96)
    return ImageSet("made", "", ("left", "right", "top"), (1, 8, 8), marks, rows, rows, lambda part: pixels[part])


def fitted(network: Network, epochs: int) -> list[dict[str, float]]:
    params = TrainParams(epochs=epochs, batch_size=32, optimizer="adamw", lr=0.01, clip=0.0)
    run = Run(network, images(), torch.arange(64), torch.arange(64, 96), [], params, None, {})
    return train(run, resume=False, stop=Stop(), show=lambda progress: None)


def test_the_loop_trains_it_and_counts_what_is_correct(network: Network) -> None:
    history = fitted(network, 4)
    assert history[-1]["cross_entropy"] < history[0]["cross_entropy"]
    data = images()
    held = data.subset(torch.arange(64, 96))
    pixels, marks = held.batch(slice(None))
    count = tasks.task_of([network]).metric(LABELS)
    count.update(network(pixels), marks)
    assert count.compute() == {"correct": history[-1]["validation_right"], "total": 32}


@pytest.mark.parametrize("method", ["pgd", "mi,di,ti", "square:queries=40"])
@pytest.mark.parametrize("targeted", [False, True])
def test_attacks_follow_its_losses(network: Network, method: str, targeted: bool) -> None:
    network.eval().requires_grad_(False)
    pixels = images().batch(slice(0, 16))[0]
    own = network(pixels) > 0  # what the network says itself, so that every image is correct
    wanted = (~own if targeted else own).long()
    params = AttackParams(parse_method(method), eps=0.3, steps=5, targeted=targeted)
    found = attack([network], pixels, wanted, torch.arange(16), params)
    before, after = (loss(network(x), wanted, targeted) for x in (pixels, found.images))
    assert bool((after >= before).all())
    assert float((after - before).mean()) > 1e-4
    alone = attack([network], pixels[3:4], wanted[3:4], torch.tensor([3]), params).images
    assert float((alone - found.images[3:4]).abs().mean()) < 1e-3
    assert predict([network], pixels).tolist() == MULTI_LABEL.strata(own.long()).tolist()


@pytest.fixture
def pair(network: Network) -> list[Network]:
    """Two networks that say of each image whether its halves and its top are bright, the second not always."""
    spec = replace(network.spec, mean=(0.0,), std=(1.0,))
    return [Network(HalvesAndTop(blur), spec).eval() for blur in (0.0, 0.6)]


class HalvesAndTop(nn.Module):
    """Linear scores of what :func:`images` marks; ``blur`` mixes the right half into the left one."""

    def __init__(self, blur: float) -> None:
        super().__init__()
        left, top = torch.zeros(8, 8), torch.ones(8, 8)
        left[:, :4], top[4:] = 1.0, -1.0
        self.register_buffer("maps", torch.stack([left + blur * (1 - left), 1 - left, top]))
        self.register_buffer("offsets", torch.tensor([16.0 * (1 + blur), 16.0, 0.0]))

    def forward(self, pixels: Tensor) -> Tensor:
        return torch.einsum("nchw,khw->nk", pixels, self.get_buffer("maps")) - self.get_buffer("offsets")


def test_the_network_made_by_hand_knows_the_marks(pair: list[Network]) -> None:
    pixels, marks = images().batch(slice(None))
    right = [MULTI_LABEL.correct(predict([one], pixels), marks) for one in pair]
    assert right[0].all()
    assert 20 < int(right[1].sum()) < 96


@pytest.mark.parametrize("target", [None, "opposite", 1])
def test_a_transfer_matrix_counts_by_its_judgement(pair: list[Network], target: str | int | None) -> None:
    """Every count of the report again, bit by bit, from the images of an attack made here."""
    data = images()
    params = AttackParams(
        parse_method("pgd"), eps=0.05 if target is None else 0.1, steps=5, targeted=target is not None
    )
    plan = Plan(["A", "B"], pair, pair, [0], [params], target, True, 40, "cpu")
    found = measure(plan, data, lambda done: None)
    report = collect(plan, found, data, [("A", "A", "B")])
    pixels, marks = data.batch(slice(None))
    aims = marks if target is None else MULTI_LABEL.aim(target, marks, data.indices, lambda: marks, LABELS, 0)
    moved = attack([pair[0]], pixels, aims, data.indices, params).images

    def says(network: Network, x: Tensor) -> Tensor:
        return (network(x) > 0).long()

    correct = [(says(one, pixels) == marks).all(1) for one in pair]
    hit = [(says(one, moved) == aims).all(1) == (target is not None) for one in pair]
    assert [one.accuracy.successes for one in report.clean] == [int(one.sum()) for one in correct]
    pairs = {one.victim: one for one in report.pairs}
    held = correct[0] & correct[1] & hit[0]
    assert (pairs["B"].cond.successes, pairs["B"].cond.total) == (int((held & hit[1]).sum()), int(held.sum()))
    alike = (says(pair[0], moved) == says(pair[1], moved)).all(1)
    assert pairs["B"].same.successes == int((held & hit[1] & alike).sum())
    assert pairs["B"].raw.successes == int(hit[1].sum())
    assert 0 < int(held.sum()) < 96
    assert int((held & hit[1]).sum()) > 0
    (comparison,) = report.comparisons
    assert comparison.total == int(held.sum())
    assert report.gradients is not None
    assert report.gradients.images == [[96, 96], [96, 96]]
    assert report.gradients.cosine[0][0] == pytest.approx(1.0)
    assert report.gradients.cosine[0][1] != pytest.approx(1.0, abs=0.01)


def test_sets_made_before_are_rows_too(pair: list[Network]) -> None:
    data = images()
    pixels, marks = data.batch(slice(None))
    params = AttackParams(parse_method("pgd"), eps=0.05, steps=5)
    moved = attack([pair[0]], pixels, marks, data.indices, params).images
    own, correct = predict([pair[0]], moved), MULTI_LABEL.correct(predict([pair[0]], pixels), marks)
    outcome = outcomes(correct, MULTI_LABEL.is_success(own, marks, False))

    meta = {"attack": params.to_json()}
    made = AdversarialSet(Path("made"), meta, marks, data.indices, marks, own, outcome, lambda rows: moved[rows])
    plan = Plan(["A", "B"], pair, pair, [0], [params], None, False, 40, "cpu")
    (attacked,) = measure(plan, data, lambda done: None).attempts
    read = precomputed(plan, data, made, "made", (0,), torch.arange(96), lambda adversarial, clean: None)
    for name in ("own_correct", "own_fooled"):
        assert (getattr(read, name) == getattr(attacked, name)).all(), name
    for name in ("fooled", "alike", "flipped", "noise"):
        assert (getattr(read.victims, name) == getattr(attacked.victims, name)).all(), name


def test_a_misaligned_training_and_attention_take_it(network: Network, pair: list[Network]) -> None:
    data = images()
    params = TrainParams(epochs=1, batch_size=32, lr=0.01, misalign=MisalignParams(warm_up=0.0))
    run = Run(network, data, torch.arange(64), torch.arange(64, 96), [pair[0]], params, None, {})
    (epoch,) = train(run, resume=False, stop=Stop(), show=lambda progress: None)
    assert 0.0 < epoch["absolute_cosine"] < 1.0
    pixels, marks = data.batch(slice(0, 8))
    maps = smoothgrad(pair[0], pixels, marks, indices=torch.arange(8), samples=1, sigma=0.0)
    explained = torch.einsum("nk,khw->nhw", marks.float(), pair[0].net.get_buffer("maps")).abs()
    assert torch.allclose(maps, explained, atol=1e-5)


@pytest.mark.parametrize("method", ["pgd", "fast", "free"])
def test_adversarial_training_takes_it_where_losses_are_enough(network: Network, method: str) -> None:
    data = images()
    own = AdversarialParams(method, eps=0.05, steps=2, step_size=0.05, replays=2)
    params = TrainParams(epochs=1, batch_size=32, lr=0.01, adversarial=own)
    check = RobustCheck(torch.arange(64, 96), 0.05, 2, 0)
    run = Run(network, data, torch.arange(64), torch.arange(64, 96), [], params, None, {}, check=check)
    (epoch,) = train(run, resume=False, stop=Stop(), show=lambda progress: None)
    assert epoch["adversarial_images"] == 64
    assert epoch["robust_right"] <= epoch["check_right"] == epoch["validation_right"]
    with pytest.raises(InputError, match="multi-label give no probabilities"):
        objective_of(network, [], replace(params, adversarial=replace(own, method="trades")), None)


def test_models_of_two_tasks_are_not_mixed(network: Network) -> None:
    other = create("advkit/cnn", num_classes=LABELS, input_size=(1, 8, 8), seed=1)
    with pytest.raises(InputError, match="one task"):
        tasks.task_of([network, other])
    with pytest.raises(InputError, match="unknown"):
        tasks.task_named("telepathy")


def test_classes_are_columns_and_strata() -> None:
    task = tasks.task_named("classification")
    targets, aims, found = torch.tensor([3, 1, 2]), torch.tensor([4, 2, 3]), torch.tensor([3, 0, 2])
    columns = task.columns(torch.rand(3, 1, 8, 8), targets, aims, found)
    assert {name: column.tolist() for name, column in columns.items()} == {
        "labels": [3, 1, 2],
        "target": [4, 2, 3],
        "prediction": [3, 0, 2],
    }
    assert torch.equal(task.strata(targets), targets)
