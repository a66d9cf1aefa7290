"""A second task, made up here: several labels an image. Training, attacks and evaluation take it without asking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advkit.attacks.methods import parse_method
from advkit.attacks.params import AttackParams
from advkit.attacks.run import attack
from advkit.data.images import ImageSet
from advkit.files.errors import InputError
from advkit.files.signals import Stop
from advkit.models.build import create
from advkit.models.network import Network
from advkit.tasks import task as tasks
from advkit.tasks.prediction import predict
from advkit.training.loop import Run, train
from advkit.training.params import TrainParams

LABELS = 3  # is the left half bright, is the right half bright, is the top brighter than the bottom


class Count:
    def __init__(self) -> None:
        self.correct = self.total = 0

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        self.correct += int(((outputs > 0) == targets.bool()).all(1).sum())
        self.total += len(targets)

    def compute(self) -> dict[str, int]:
        return {"correct": self.correct, "total": self.total}


def loss(outputs: Tensor, targets: Tensor, targeted: bool) -> Tensor:
    found = F.binary_cross_entropy_with_logits(outputs, targets.float(), reduction="none").sum(1)
    return -found if targeted else found


class MultiLabel:
    """Outputs (N, K) scores, targets (N, K) of 0 and 1, predictions (N,) whole numbers of K bits."""

    name = "multi-label"
    attack_losses: Mapping[str, tasks.AttackLoss] = {"ce": loss, "margin": loss}
    fallback = "margin"

    def outputs(self, networks: Sequence[nn.Module], images: Tensor) -> Tensor:
        return torch.stack([network(images) for network in networks]).mean(0)

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

    def strata(self, targets: Tensor) -> Tensor:
        return self._bits(targets)

    def pack(self, targets: Tensor) -> dict[str, Tensor]:
        return {"marks": targets}

    def unpack(self, tensors: Mapping[str, Tensor]) -> Tensor:
        return tensors["marks"]

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


def test_models_of_two_tasks_are_not_mixed(network: Network) -> None:
    other = create("advkit/cnn", num_classes=LABELS, input_size=(1, 8, 8), seed=1)
    with pytest.raises(InputError, match="one task"):
        tasks.task_of([network, other])
    with pytest.raises(InputError, match="unknown"):
        tasks.task_named("telepathy")


def test_classification_packs_what_it_unpacks() -> None:
    task = tasks.task_named("classification")
    targets = torch.tensor([3, 1, 2])
    assert torch.equal(task.unpack(task.pack(targets)), targets)
    assert torch.equal(task.strata(targets), targets)
