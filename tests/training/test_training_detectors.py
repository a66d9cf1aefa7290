"""What is measured of a detector in training: each image once, clean and under attack."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from advkit.data.boxes import stacked
from advkit.data.canvas import on_canvas
from advkit.data.images import ImageSet
from advkit.models.build import create
from advkit.models.network import Network
from advkit.tasks.detection import DETECTION, Detection
from advkit.tasks.prediction import predict
from advkit.training import robust_check
from advkit.training.evaluation import accuracy, accuracy_and_figures
from advkit.training.robust_check import RobustCheck

pytestmark = pytest.mark.usefixtures("one_thread")
EVERY = torch.arange(3)


@pytest.fixture(scope="module")
def data() -> ImageSet:
    generator = torch.Generator().manual_seed(0)
    images = on_canvas([torch.rand(3, *size, generator=generator) for size in ((96, 96), (90, 96), (96, 80))], (96, 96))
    targets = stacked([torch.tensor([[10, 10, 60, 70, 0, 0.0]])] * 2 + [torch.empty(0, 6)])
    return ImageSet(
        "boxed", "", ("cat", "dog"), (3, 96, 96), targets, EVERY, EVERY, lambda rows: images[rows], task="detection"
    )


@pytest.fixture
def network() -> Network:
    return create("advkit/tiny-ssd", num_classes=2, input_size=(3, 96, 96), seed=1).eval()


@pytest.fixture
def seen(network: Network) -> list[int]:
    """Numbers of images in the passes over the network."""
    counts: list[int] = []
    network.register_forward_hook(lambda module, inputs, output: counts.append(len(inputs[0])))
    return counts


def test_accuracy_and_figures_take_one_pass(data: ImageSet, network: Network, seen: list[int]) -> None:
    for parameter in network.net.head.parameters():  # every class a third: nothing is found at 0.5
        nn.init.zeros_(parameter)
    right, images, found = accuracy_and_figures(network, data, EVERY)
    assert sum(seen) == 3
    assert (right, images) == accuracy(network, data, EVERY) == (1, 3)
    assert set(found) == set(DETECTION.figures)


def test_the_check_looks_once_at_clean_images_and_at_attacked_ones(
    data: ImageSet, network: Network, seen: list[int]
) -> None:
    RobustCheck(EVERY, 8 / 255, 2, 0).measure(network, data)
    assert sum(seen) == 3 * (2 + 1 + 2), "two steps, the loss of the last iterate, and both predictions"


def test_figures_of_the_check_are_of_attacked_images(
    data: ImageSet, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    attacked, judged = [], []
    real = robust_check.attack

    def attack(*arguments: Any) -> Any:
        found = real(*arguments)
        attacked.append(found.images)
        return found

    class Counted:
        def update(self, outputs: Tensor, targets: Tensor) -> None:
            judged.append(outputs)

        def compute(self) -> dict[str, float]:
            return dict.fromkeys(DETECTION.figures, 0.25)

    monkeypatch.setattr(robust_check, "attack", attack)
    monkeypatch.setattr(Detection, "metric", lambda self, num_classes: Counted())
    found = RobustCheck(EVERY, 32 / 255, 2, 0).measure(network, data)
    assert (found["robust_map50"], found["robust_map50_95"]) == (0.25, 0.25)
    assert torch.equal(torch.cat(judged), predict([network], torch.cat(attacked)))
    assert not torch.equal(torch.cat(judged), predict([network], data.batch(EVERY)[0]))


def test_an_image_is_robust_that_is_right_clean_and_attacked(
    data: ImageSet, network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An attack may lead back to the truth; and it meets the network as its user will."""
    met = []

    def attack(networks: list[Network], images: Tensor, *others: Any) -> Any:
        frozen = not any(parameter.requires_grad for parameter in networks[0].parameters())
        met.append((networks[0].training, frozen))
        return SimpleNamespace(images=images)

    def correct(self: Detection, predictions: Tensor, targets: Tensor) -> Tensor:
        return next(verdicts)

    verdicts = iter([torch.tensor([True, False, True]), torch.tensor([True, True, False])])
    monkeypatch.setattr(robust_check, "attack", attack)
    monkeypatch.setattr(Detection, "correct", correct)
    found = RobustCheck(EVERY, 8 / 255, 2, 0).measure(network.train(), data)
    assert (found["check_right"], found["robust_right"]) == (2, 1)
    assert met == [(False, True)]
    assert network.training
