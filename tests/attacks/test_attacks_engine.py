"""What makes attacks quick changes nothing: parts of a batch, windows of images on their way, queries ahead."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from advkit.attacks import dataset, square
from advkit.attacks.dataset import attack_set
from advkit.attacks.hyperplane import to_hyperplane
from advkit.attacks.methods import parse_method
from advkit.attacks.params import AttackParams
from advkit.attacks.run import attack
from advkit.data.images import ImageSet
from advkit.models.network import Network

Digits = tuple[Tensor, Tensor]


@pytest.fixture(scope="module")
def double(trained: Network) -> Network:
    return copy.deepcopy(trained).double()


@pytest.mark.parametrize(
    "method",
    [
        "pgd",
        "mi,ti,si",
        "apgd-ce:steps=8",
        "apgd-t:steps=4:targets=4",
        "fab-t:steps=4:targets=4",
        "square:queries=60",
        "autoattack:steps=4:targets=3:queries=30",
        "fmn:steps=8",
        "ddn:steps=8",
        "cw:steps=8:searches=2",
    ],
)
@pytest.mark.parametrize("goal", ["robustness", "transfer"])
def test_parts_that_go_through_the_network_together(
    method: str, goal: str, double: Network, test_digits: Digits
) -> None:
    images, labels = test_digits[0][:14].double(), test_digits[1][:14]
    norm = "l2" if method.startswith(("ddn", "cw")) else "linf"
    eps = 0.8 if norm == "l2" else 0.06
    params = AttackParams(parse_method(method), eps=eps, norm=norm, goal=goal)  # type: ignore[arg-type]
    whole = attack([double], images, labels, torch.arange(14), params)
    for at_once in (1, 5):
        parts = attack([double], images, labels, torch.arange(14), params, at_once=at_once)
        assert torch.allclose(parts.images, whole.images, atol=1e-9)
        assert parts.backwards == whole.backwards
        assert torch.equal(parts.zero_gradients, whole.zero_gradients)
        assert parts.stages == whole.stages


@pytest.mark.parametrize("quantize", [False, True])
def test_queries_looked_at_ahead_are_those_asked_one_by_one(
    quantize: bool, double: Network, test_digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, labels = test_digits[0][:10].double(), test_digits[1][:10]
    found = {}
    for ahead in (1, 3, 32):
        monkeypatch.setattr(square, "_MOST_AHEAD", ahead)
        params = AttackParams(parse_method("square:queries=120"), eps=0.08, goal="robustness", quantize=quantize)
        found[ahead] = attack([double], images, labels, torch.arange(10), params, at_once=64)
    for ahead in (3, 32):
        assert torch.equal(found[ahead].images, found[1].images)
        assert found[ahead].forwards > found[1].forwards, "what is thrown away counts too"


class Noted(nn.Module):
    """A network that remembers how many images each pass had, and of what kind they came."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.sizes, self.halves = net, list[int](), 0

    def forward(self, images: Tensor) -> Tensor:
        self.sizes.append(len(images))
        found: Tensor = self.net(images)
        self.halves += found.dtype == torch.bfloat16
        return found


def test_passes_stay_full_while_images_leave(
    trained: Network, test_digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, labels = test_digits[0][:60], test_digits[1][:60]
    names = tuple(map(str, range(10)))
    rows = torch.arange(60)
    data = ImageSet("made", "", names, tuple(images.shape[1:]), labels, rows, rows, lambda part: images[part])  # type: ignore[arg-type]
    params = AttackParams(parse_method("pgd"), eps=0.08, goal="robustness")
    adversarial, sizes = [], []
    for window in (1, 2**30):
        monkeypatch.setattr(dataset, "_WINDOW", window)
        network = Noted(trained)
        parts = list(attack_set([trained], [network], data, params, None, batch_size=10, device="cpu"))
        assert [len(part.indices) for part in parts] == [10] * 6
        adversarial.append(torch.cat([part.adversarial for part in parts]))
        sizes.append(network.sizes)
        assert sum(network.sizes) == sum(part.batch.forwards for part in parts)
    assert torch.allclose(adversarial[0], adversarial[1], atol=1e-5)
    assert sum(sizes[0]) == sum(sizes[1]), "the same images are looked at"
    assert len(sizes[1]) < 0.8 * len(sizes[0])
    params = AttackParams(parse_method("pgd"), eps=0.08, goal="transfer")
    network = Noted(trained)
    list(attack_set([trained], [network], data, params, None, batch_size=10, device="cpu"))
    assert set(network.sizes) == {10}


def test_small_differences_of_logits_are_taken_in_float32(trained: Network, test_digits: Digits) -> None:
    images, labels = test_digits[0][:6], test_digits[1][:6]
    for method, halves in (("fab-t:steps=3", False), ("apgd-ce:steps=3", True)):
        network = Noted(trained)
        params = AttackParams(parse_method(method), eps=0.05, goal="robustness", precision="bfloat16")
        attack([network], images, labels, torch.arange(6), params)
        assert (network.halves > 0) == halves


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_hyperplanes_are_reached_in_float32_too(norm: str) -> None:
    """3,072 pixels, many of them black or white, and slopes over many orders of magnitude."""
    generator = torch.Generator().manual_seed(0)
    x, w = torch.rand(64, 3072, generator=generator), torch.randn(64, 3072, generator=generator)
    x[:, ::7], x[:, ::11], w = 0.0, 1.0, w * torch.rand(64, 3072, generator=generator) ** 3
    c = torch.randn(64, generator=generator) * torch.tensor([0.01, 1.0, 30.0, 60.0]).repeat(16)
    found = to_hyperplane(x, w, c, norm)  # type: ignore[arg-type]
    assert bool(((w.double() * found.double()).sum(1) - c).abs().le(1e-5 * c.abs()).all())
    exact = to_hyperplane(x.double(), w.double(), c.double(), norm)  # type: ignore[arg-type]
    assert torch.allclose(found.double(), exact, atol=1e-6)
