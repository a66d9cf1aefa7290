"""A small trained network and its data, shared by the tests of attacks."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from advkit.data.builtin import digits
from advkit.data.raw_dataset import LoadOptions
from advkit.models.build import create
from advkit.models.nets import cnn
from advkit.models.network import Network

# Third-party modules that warn while they are imported: once here, quietly, so that pytest's "error" meets none.
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    for _module in ("foolbox", "torchattacks", "adv_lib.attacks"):
        try:
            __import__(_module)
        except ImportError:  # the peers' tests skip by themselves and say why
            continue


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _digits(split: str) -> tuple[Tensor, Tensor]:
    """Digits in colour at 12x12: peers want three channels, and resizing wants some room."""
    source = digits()[split](LoadOptions(channels=3))
    rows = torch.arange(len(source.targets))
    images = F.interpolate(source.read(rows), size=(12, 12), mode="bilinear", align_corners=False)
    return images.clamp(0, 1), source.targets


@pytest.fixture(scope="session")
def test_digits() -> tuple[Tensor, Tensor]:
    images, labels = _digits("test")
    return images[:200], labels[:200]


def _train(seed: int) -> Network:
    """A third as wide as ``advkit/cnn``: attacks find in it what they find there, in a quarter of the time."""
    images, labels = _digits("train")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cnn, "CHANNELS", (12, 24, 48))
        network = create("advkit/cnn", num_classes=10, input_size=(3, 12, 12), seed=seed)
    network.train()
    optimizer = torch.optim.AdamW(network.net.parameters(), lr=4e-3)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(3):
        for rows in torch.randperm(len(labels), generator=generator).split(64):
            optimizer.zero_grad()
            torch.autograd.backward(F.cross_entropy(network(images[rows]), labels[rows]))
            optimizer.step()
    return network.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def trained(test_digits: tuple[Tensor, Tensor]) -> Network:
    network = _train(0)
    assert (network(test_digits[0]).argmax(1) == test_digits[1]).float().mean() > 0.9
    return network


@pytest.fixture(scope="session")
def other(one_thread: None) -> Network:
    """A second network, as a victim or an ensemble's other member."""
    return _train(1)
