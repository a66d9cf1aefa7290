"""Networks whose losses and gradients are known."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from advkit.data.images import ImageSet
from advkit.models.network import ModelSpec, Network
from advkit.training.objective import TrainingStep
from advkit.training.params import AdversarialParams, TrainParams


def network_of(net: nn.Module, size: tuple[int, int, int] = (1, 8, 8), classes: int = 2) -> Network:
    """``net`` behind a normalisation that does nothing."""
    return Network(net, ModelSpec("made", "", "made/net", classes, size, (0.0,), (1.0,)))


def linear(weight: Tensor, size: tuple[int, int, int] = (1, 8, 8)) -> Network:
    """Logits ``weight`` (K, C H W) times the pixels."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    with torch.no_grad():
        layer.weight.copy_(weight)
    return network_of(nn.Sequential(nn.Flatten(), layer), size, weight.shape[0])


def with_batch_norm(seed: int = 0) -> Network:
    """Batch-norm (one of them frozen) and dropout, in training mode."""
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Sigmoid(), nn.Dropout(0.5), nn.BatchNorm2d(4), nn.Flatten(),
        nn.Linear(4 * 36, 2),
    )  # fmt: skip
    network = network_of(net)
    network.train()
    net[4].eval()
    return network


def a_step(images: Tensor, targets: Tensor, epoch: int = 0, number: int = 0) -> TrainingStep:
    return TrainingStep(images, targets, torch.arange(len(images)), epoch, number, 10)


def a_batch(count: int = 6, seed: int = 0) -> TrainingStep:
    generator = torch.Generator().manual_seed(seed)
    return a_step(torch.rand(count, 1, 8, 8, generator=generator), torch.arange(count) % 2)


def settings(method: str, more: TrainParams | None = None, **values: float) -> TrainParams:
    """Settings of a run with ``method``."""
    own = AdversarialParams(method=method, **values)  # type: ignore[arg-type]
    return replace(more or TrainParams(epochs=2, batch_size=4, lr=0.05), adversarial=own)


def two_classes(count: int = 40) -> ImageSet:
    """8x8 images, dark (class 0: pixels around 0.3) or bright (class 1: around 0.7), in turn."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(count) % 2
    pixels = torch.where(labels.bool(), 0.7, 0.3)[:, None, None, None]
    pixels = pixels + (torch.rand(count, 1, 8, 8, generator=generator) - 0.5) * 0.1
    rows = torch.arange(count)
    return ImageSet("made", "", ("dark", "bright"), (1, 8, 8), labels, rows, rows, lambda part: pixels[part])
