"""Two domains whose shift is known, and a network for them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from advkit.adaptation.method import MethodContext
from advkit.adaptation.objective import Adaptation, adaptation_of
from advkit.adaptation.params import AdaptationParams
from advkit.data.images import ImageSet
from advkit.files.signals import Stop
from advkit.models.network import ModelSpec, Network
from advkit.training.evaluation import accuracy
from advkit.training.loop import train
from advkit.training.params import TrainParams
from advkit.training.run import Run

SIZE = (1, 1, 2)
PARAMS = TrainParams(epochs=20, batch_size=40, lr=0.2, schedule="constant", weight_decay=0.0, momentum=0.0, clip=0.0)


def image_set(pixels: Tensor, labels: Tensor, *, labelled: bool = True) -> ImageSet:
    """Images of two pixels, (N, 2)."""
    rows, images = torch.arange(len(labels)), pixels.view(-1, *SIZE).clamp(0, 1)
    labels = labels if labelled else torch.zeros_like(labels)
    return ImageSet("made", "", ("a", "b"), SIZE, labels, rows, rows, lambda part: images[part])


def evenly_spaced(count: int, width: float) -> Tensor:
    """(count,) evenly over [-width, width]: a cloud without luck."""
    return torch.linspace(-width, width, count)


def shuffled(values: Tensor, seed: int = 0) -> Tensor:
    """``values`` in another order, so that they go with no class."""
    return values[torch.randperm(len(values), generator=torch.Generator().manual_seed(seed))]


def nuisance_shift(count: int = 80) -> tuple[ImageSet, ImageSet]:
    """The first pixel tells the class in both; the second is dark in the source, and in the target whatever it likes.

    A network that reads the second as well gets the source right, and has no reason to stop reading it.
    """
    labels = torch.arange(count) % 2
    first = 0.5 + 0.15 * (labels.float() * 2 - 1) + shuffled(evenly_spaced(count, 0.05))
    source = torch.stack([first, 0.1 + shuffled(evenly_spaced(count, 0.02), 1)], 1)
    target = torch.stack([first, 0.55 + shuffled(evenly_spaced(count, 0.4), 2)], 1)
    return image_set(source, labels), image_set(target, labels)


def informative_feature_shift(count: int = 80) -> tuple[ImageSet, ImageSet]:
    """The first pixel tells the class, in the target only of those images far from the middle; there the second does.

    In the source the second pixel is the same in all.
    """
    labels = torch.arange(count) % 2
    sign = labels.float() * 2 - 1
    source = torch.stack([0.5 + 0.15 * sign + shuffled(evenly_spaced(count, 0.05)), torch.full((count,), 0.5)], 1)
    target = torch.stack([0.5 + 0.12 * sign + shuffled(evenly_spaced(count, 0.25)), 0.5 + 0.3 * sign], 1)
    return image_set(source, labels), image_set(target, labels)


def mean_shift(count: int = 80) -> tuple[ImageSet, ImageSet]:
    """The classes of the target lie as far apart as the source's, but moved so that one straddles the boundary."""
    labels = torch.arange(count) % 2
    sign = labels.float() * 2 - 1
    pixel = 0.4 + 0.2 * sign + shuffled(evenly_spaced(count, 0.08))
    rest = torch.full((count,), 0.5)
    return (
        image_set(torch.stack([pixel, rest], 1), labels),
        image_set(torch.stack([pixel + 0.2, rest], 1), labels),
    )


def contrast_shift(count: int = 80) -> tuple[ImageSet, ImageSet]:
    """The target is the source at less contrast and more brightness, which batch-norm's statistics undo."""
    source, _ = nuisance_shift(count)
    pixels = source.batch(slice(None))[0].view(-1, 2)
    return source, image_set(0.3 * pixels + 0.65, source.targets)


def a_network(*, batch_norm: bool = False, reads_second: bool = True) -> Network:
    """Two features, and a linear layer on them."""
    torch.manual_seed(0)
    norm: list[nn.Module] = [nn.BatchNorm1d(2, affine=False)] if batch_norm else []
    net = nn.Sequential(nn.Flatten(), nn.Linear(2, 2), *norm, nn.Linear(2, 2))
    with torch.no_grad():
        net[1].weight.copy_(torch.eye(2) * 4)
        net[1].bias.fill_(-2.0)
        net[-1].weight.copy_(
            torch.tensor([[-0.5, -0.5], [0.5, 0.5]]) if reads_second else torch.tensor([[-0.5, 0.0], [0.5, 0.0]])
        )
        net[-1].bias.zero_()
    return Network(net, ModelSpec("made", "", "made/net", 2, SIZE, (0.0,), (1.0,), ("a", "b")))


def context_of(network: Network, target: ImageSet, params: TrainParams = PARAMS, **settings: Any) -> MethodContext:
    """With the labels of ``target``, which commands leave closed: a method that looked at them would be seen."""
    return MethodContext(network, target, AdaptationParams(**settings), params)


def a_run(source: ImageSet, target: ImageSet, network: Network, params: TrainParams = PARAMS, **settings: Any) -> Run:
    """A training on all of ``source``, adapted to ``target`` by ``settings``."""
    objective: Adaptation = adaptation_of(context_of(network, target, params, **settings))
    no_positions = torch.empty(0, dtype=torch.int64)
    part = torch.arange(len(source))
    return Run(network, source, part, no_positions, [], params, None, {}, objective=objective)


def trained(run: Run) -> Run:
    train(run, resume=False, stop=Stop(), show=lambda progress: None)
    return run


def accuracy_on(network: Network, data: ImageSet) -> float:
    right, images = accuracy(network, data, torch.arange(len(data)))
    return right / images
