"""Square against a linear model's optimum, against a peer, and on a network without gradients."""

from __future__ import annotations

import pytest
import torch
from test_attacks_closed_form import Linear, eigen_weight, near_grey, optimum
from test_attacks_peers import quietly
from torch import Tensor, nn

from advkit.attacks.methods import parse_method
from advkit.attacks.params import AttackParams
from advkit.attacks.run import attack
from advkit.attacks.square import bump, square_side
from advkit.metrics.norms import Norm, flat_norm
from advkit.models.network import Network


def run(network: nn.Module, images: Tensor, labels: Tensor, text: str = "square", **settings: object) -> Tensor:
    params = AttackParams(parse_method(text), **settings)  # type: ignore[arg-type]
    return attack([network], images, labels, torch.arange(len(images)), params).images


@pytest.mark.parametrize(("norm", "part"), [("linf", 0.75), ("l2", 0.25), ("l1", 0.3)])
@pytest.mark.parametrize("targeted", [False, True])
def test_it_comes_near_a_linear_models_optimum(norm: Norm, part: float, targeted: bool) -> None:
    """Each channel of the weight has one sign, so that squares can do it; a random search comes near, not there."""
    images, classes = near_grey()
    weight = torch.ones(3, 12, 12) * torch.tensor([1.0, -2.0, 0.5]).view(3, 1, 1)
    eps = 0.1 if norm == "linf" else 1.0
    network = Linear(weight, 0.05)
    found = run(network, images, classes, "square:queries=600", eps=eps, norm=norm, targeted=targeted)
    best = optimum(images, weight, classes, eps, norm, targeted)
    gained, possible = (network(x)[:, 1] - network(images)[:, 1] for x in (found, best))
    assert bool((gained / possible > part).all())
    assert float(flat_norm(found - images, norm).max()) <= eps * (1 + 1e-5)


def test_more_queries_and_restarts_never_weaken(trained: Network, test_digits: tuple[Tensor, Tensor]) -> None:
    images, labels = test_digits[0][:40], test_digits[1][:40]

    def margins(text: str, **settings: object) -> Tensor:
        logits = trained(run(trained, images, labels, text, eps=0.1, **settings))
        own = logits.gather(1, labels[:, None]).squeeze(1)
        return logits.scatter(1, labels[:, None], -torch.inf).amax(1) - own

    clean = margins("identity")
    few, restarts = margins("square:queries=30"), margins("square:queries=30", restarts=3)
    assert bool((few >= clean - 1e-5).all())
    assert float((few - clean).mean()) > 0.1
    assert bool((restarts >= few - 1e-5).all())
    assert bool((restarts > few + 1e-5).any())


class Step(nn.Module):
    """Two classes by a count of bright pixels: no gradient anywhere."""

    def forward(self, images: Tensor) -> Tensor:
        bright = (images > 0.5).float().flatten(1).mean(1)
        return torch.stack([bright, 1.0 - bright], 1).detach()


def test_it_needs_no_gradients_and_stops_on_fooled_images() -> None:
    images = torch.full((6, 1, 8, 8), 0.52)
    labels = torch.tensor([0, 0, 0, 0, 1, 1])
    params = AttackParams(parse_method("square:queries=50"), eps=0.1, goal="robustness")
    found = attack([Step()], images, labels, torch.arange(6), params)
    assert Step()(found.images).argmax(1).tolist() == [1, 1, 1, 1, 0, 0]
    assert found.backwards == 0
    assert found.forwards < 6 * 50


def test_batches_make_no_difference(trained: Network, test_digits: tuple[Tensor, Tensor]) -> None:
    images, labels = test_digits[0][:12].double(), test_digits[1][:12]
    import copy

    network = copy.deepcopy(trained).double()
    for norm, eps in (("linf", 0.1), ("l2", 1.0), ("l1", 5.0)):
        params = AttackParams(parse_method("square:queries=40"), eps=eps, norm=norm)  # type: ignore[arg-type]
        whole = attack([network], images, labels, torch.arange(12), params).images
        parts = [attack([network], images[r], labels[r], r, params).images for r in torch.arange(12).split(5)]
        assert float((torch.cat(parts) - whole).abs().max()) < 1e-9


def test_the_schedule_and_the_bump() -> None:
    x = torch.zeros(1, 3, 32, 32)
    sides = [square_side(query, 5000, 0.8, x) for query in (1, 6, 26, 101, 5000)]
    assert sides == [29, 20, 14, 10, 1]  # sqrt(0.8 / 2^k * 1024) rounded, k = 0, 1, 2, 3, 9
    for side in (1, 3, 5, 8):
        shape = bump(side, x)
        assert shape.shape == (side, side)
        assert float(shape.norm()) == pytest.approx(1.0)
    assert float(bump(8, x)[:4].min()) > 0 > float(bump(8, x)[4:].max())


def margins_in_steps(weight: Tensor, eps: float, norm: str, count: int = 60) -> Tensor:
    """Near-grey images whose margin is 1/count, 2/count, ... of what the optimum of :class:`Lines` takes off."""
    generator = torch.Generator().manual_seed(1)
    base = 0.5 + 0.05 * (torch.rand(count, *weight.shape, generator=generator) - 0.5)
    dual = {"linf": weight.abs().sum(), "l2": weight.norm(), "l1": weight.abs().max()}
    most = eps * dual[norm]
    unit = weight / weight.norm()
    score = ((base - 0.5) * unit).flatten(1).sum(1)
    wanted = torch.arange(1, count + 1) / count * most / weight.norm()
    return base + (wanted - score).view(-1, 1, 1, 1) * unit


class Lines(nn.Module):
    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, images: Tensor) -> Tensor:
        score = ((images - 0.5) * self.weight).flatten(1).sum(1)
        return torch.stack([score, -score], 1)


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.05), ("l2", 0.5)])
def test_square_against_torchattacks(norm: Norm, eps: float) -> None:
    torchattacks = pytest.importorskip("torchattacks", reason="a peer: pip install --no-deps torchattacks")
    weight = torch.randn(3, 15, 15, generator=torch.Generator().manual_seed(2))  # the peer's L2 needs such a side
    images, network = margins_in_steps(weight, eps, norm), Lines(weight).eval()
    labels = torch.zeros(len(images), dtype=torch.int64)
    name = {"linf": "Linf", "l2": "L2"}[norm]
    peer = torchattacks.Square(network, norm=name, eps=eps, n_queries=300, p_init=0.8, seed=0)
    theirs = quietly(lambda: peer(images, labels))
    mine = run(network, images, labels, "square:queries=300", eps=eps, norm=norm, goal="robustness")
    fooled = [int((network(x).argmax(1) == 1).sum()) for x in (mine, theirs)]
    assert fooled[1] > 5
    assert fooled[0] >= fooled[1] - 2


def test_it_follows_weights_not_signs_of_its_own() -> None:
    """Noise of the same size gains about nothing on weights of both signs; the search gains a good part."""
    images, classes = near_grey(8)
    network = Linear(eigen_weight(), 0.05)
    gains = []
    for text in ("noise", "square:queries=400"):
        moved = network(run(network, images, classes, text, eps=0.1))
        gains.append((moved - network(images)).gather(1, 1 - classes[:, None]).squeeze(1))
    assert bool((gains[1] > 2 * gains[0].abs()).all())
