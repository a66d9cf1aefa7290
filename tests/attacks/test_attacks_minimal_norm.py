"""DDN and C&W against the distance to a linear model's boundary, against a peer, and inside a budget."""

from __future__ import annotations

import pytest
import torch
from test_attacks_closed_form import eigen_weight
from test_attacks_peers import quietly
from test_attacks_square import Lines, margins_in_steps
from torch import Tensor, nn

from advkit.attacks.methods import parse_method
from advkit.attacks.params import AttackParams
from advkit.attacks.run import attack
from advkit.metrics.norms import flat_norm
from advkit.models.network import Network

INF = float("inf")
METHODS = {"ddn": "ddn:steps=200", "cw": "cw:steps=800"}


def run(network: nn.Module, images: Tensor, labels: Tensor, text: str, **settings: object) -> Tensor:
    params = AttackParams(parse_method(text), **{"eps": INF, "norm": "l2", **settings})  # type: ignore[arg-type]
    return attack([network], images, labels, torch.arange(len(images)), params).images


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("targeted", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_it_finds_the_distance_to_a_linear_models_boundary(method: str, targeted: bool) -> None:
    weight = eigen_weight()
    images, network = margins_in_steps(weight, 1.0, "l2", count=12), Lines(weight)
    wanted = torch.ones(12, dtype=torch.int64) if targeted else torch.zeros(12, dtype=torch.int64)
    found = run(network, images, wanted, METHODS[method], targeted=targeted)
    assert bool((network(found).argmax(1) == 1).all())
    expected = torch.arange(1, 13) / 12
    reached = flat_norm(found - images, "l2")
    assert bool((reached >= expected * (1 - 1e-4)).all())  # nearer is impossible
    assert bool((reached <= expected * 1.04).all())
    bound = run(network, images, torch.zeros(12, dtype=torch.int64), METHODS[method], eps=0.55)
    assert network(bound).argmax(1).tolist() == [1] * 6 + [0] * 6
    assert torch.equal(bound[6:], images[6:])


@pytest.mark.parametrize("method", METHODS)
def test_what_is_wrong_already_needs_nothing(method: str, trained: Network, test_digits: tuple[Tensor, Tensor]) -> None:
    images = test_digits[0][:6]
    wrong = (trained(images).argmax(1) + 1) % 10
    assert torch.equal(run(trained, images, wrong, f"{method}:steps=4"), images)


@pytest.mark.parametrize("method", ["ddn", pytest.param("cw", marks=pytest.mark.slow)])
def test_it_comes_as_near_as_the_peer(method: str, trained: Network, test_digits: tuple[Tensor, Tensor]) -> None:
    foolbox = pytest.importorskip("foolbox", reason="a peer: pip install foolbox")
    images, labels = test_digits[0][:16], test_digits[1][:16]
    if method == "ddn":
        peer, mine = foolbox.attacks.DDNAttack(steps=60), "ddn:steps=60"
    else:
        peer = foolbox.attacks.L2CarliniWagnerAttack(steps=80, binary_search_steps=9, stepsize=0.01)
        mine = "cw:steps=80"
    model = foolbox.PyTorchModel(trained, bounds=(0, 1), device="cpu")
    theirs = quietly(lambda: peer(model, images, labels, epsilons=None)[1])
    found = run(trained, images, labels, mine)
    fooled, by_peer = (trained(one).argmax(1) != labels for one in (found, theirs))
    assert int(fooled.sum()) >= int(by_peer.sum()) >= 10
    sizes = [flat_norm(one - images, "l2")[fooled & by_peer].median() for one in (found, theirs)]
    assert float(sizes[0]) <= float(sizes[1]) * 1.02


def test_confidence_buys_a_margin_with_distance(trained: Network, test_digits: tuple[Tensor, Tensor]) -> None:
    images, labels = test_digits[0][:4], test_digits[1][:4]
    near, sure = (run(trained, images, labels, f"cw:steps=100:searches=5:rate=0.03:confidence={c}") for c in (0, 2))
    logits = trained(sure)
    own = logits.gather(1, labels[:, None]).squeeze(1)
    other = logits.scatter(1, labels[:, None], -INF).amax(1)
    moved = flat_norm(sure - images, "l2") > 0
    assert bool(moved.any())
    assert bool((other - own >= 2.0 - 1e-3)[moved].all())
    both = moved & (flat_norm(near - images, "l2") > 0)
    assert bool((flat_norm(sure - images, "l2") > flat_norm(near - images, "l2"))[both].all())


@pytest.mark.parametrize("method", ["ddn:steps=12", "cw:steps=20:searches=3:rate=0.1"])
def test_batch_mates_change_nothing(method: str, trained: Network, test_digits: tuple[Tensor, Tensor]) -> None:
    """But for the rare image where rounding turns a ReLU on or off, whose gradient then is another one."""
    images, labels = test_digits[0][:12], test_digits[1][:12]
    whole = run(trained, images, labels, method)
    apart = []
    for part in (slice(0, 3), slice(3, 4), slice(4, 12)):
        params = AttackParams(parse_method(method), eps=INF, norm="l2")
        apart.append(attack([trained], images[part], labels[part], torch.arange(12)[part], params).images)
    differ = (whole - torch.cat(apart)).flatten(1).abs().amax(1)
    assert int((differ > 1e-4).sum()) <= 2
    assert float(differ.max()) <= 0.1
