"""FMN against the distance to a linear model's boundary, against a peer, and inside a budget."""

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
from advkit.metrics.norms import Norm, flat_norm
from advkit.models.network import Network

INF = float("inf")
EPS = {"linf": 0.1, "l2": 1.0, "l1": 0.3}


def run(network: nn.Module, images: Tensor, labels: Tensor, text: str = "fmn", **settings: object) -> Tensor:
    params = AttackParams(parse_method(text), **{"eps": INF, **settings})  # type: ignore[arg-type]
    return attack([network], images, labels, torch.arange(len(images)), params).images


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("targeted", [False, True])
def test_it_finds_the_distance_to_a_linear_models_boundary(norm: Norm, targeted: bool) -> None:
    """|<w, x - 0.5>| over the dual norm of w is the distance; the images are so grey that the box never binds."""
    weight, eps = eigen_weight(), EPS[norm]
    images, network = margins_in_steps(weight, eps, norm, count=12), Lines(weight)
    wanted = torch.ones(12, dtype=torch.int64) if targeted else torch.zeros(12, dtype=torch.int64)
    found = run(network, images, wanted, norm=norm, targeted=targeted)
    assert bool((network(found).argmax(1) == 1).all())
    expected = eps * torch.arange(1, 13) / 12
    reached = flat_norm(found - images, norm)
    assert bool((reached >= expected * (1 - 1e-4)).all())  # nearer is impossible
    assert bool((reached <= expected * 1.02).all())


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_with_an_eps_what_lies_beyond_stays_clean(norm: Norm) -> None:
    weight, eps = eigen_weight(), EPS[norm]
    images, network = margins_in_steps(weight, eps, norm, count=12), Lines(weight)
    found = run(network, images, torch.zeros(12, dtype=torch.int64), norm=norm, eps=eps * 0.52)
    assert network(found).argmax(1).tolist() == [1] * 6 + [0] * 6
    assert torch.equal(found[6:], images[6:])
    assert float(flat_norm(found - images, norm).max()) <= eps * 0.52 * (1 + 1e-5)


def test_what_is_wrong_already_needs_nothing(trained: Network, test_digits: tuple[Tensor, Tensor]) -> None:
    images = test_digits[0][:10]
    wrong = (trained(images).argmax(1) + 1) % 10
    assert torch.equal(run(trained, images, wrong, "fmn:steps=5"), images)


def test_more_steps_come_closer(trained: Network, test_digits: tuple[Tensor, Tensor]) -> None:
    images, labels = test_digits[0][:40], test_digits[1][:40]
    far, near = (
        flat_norm(run(trained, images, labels, f"fmn:steps={steps}", norm="l2") - images, "l2").mean()
        for steps in (10, 60)
    )
    assert float(near) < float(far)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_fmn_against_foolbox(norm: Norm, trained: Network, test_digits: tuple[Tensor, Tensor]) -> None:
    foolbox = pytest.importorskip("foolbox", reason="a peer: pip install foolbox")
    images, labels = test_digits[0][:60], test_digits[1][:60]
    kept = trained(images).argmax(1) == labels
    images, labels = images[kept], labels[kept]
    kind = getattr(foolbox.attacks, {"linf": "LInfFMNAttack", "l2": "L2FMNAttack", "l1": "L1FMNAttack"}[norm])
    model = foolbox.PyTorchModel(trained, bounds=(0, 1), device="cpu")
    theirs = quietly(lambda: kind(steps=100)(model, images, labels, epsilons=None)[0])
    mine = run(trained, images, labels, norm=norm)
    assert bool((trained(mine).argmax(1) != labels).all())
    found = trained(theirs).argmax(1) != labels  # in L1 the peer leaves some images clean, whose radius is not found
    assert int(found.sum()) > 40
    ours, peer = (flat_norm(x - images, norm)[found].median() for x in (mine, theirs))
    assert float(ours) <= float(peer) * (1.05 if norm == "l1" else 1.02)
