"""The same attack by other libraries on the same tensors: ours is not weaker."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from advkit.attacks.methods import parse_method
from advkit.attacks.params import AttackParams
from advkit.attacks.run import attack
from advkit.models.network import Network

EPS, STEPS = 12 / 255, 10
SIZE = 2.5 * EPS / STEPS
HALF_A_POINT = 0.005
LOSS_SLACK = 0.05  # of the loss that the peer reaches

Digits = tuple[Tensor, Tensor]


def ours(network: Network, digits: Digits, name: str, **settings: object) -> Tensor:
    base = {"eps": EPS, "steps": STEPS, "step_size": SIZE}
    params = AttackParams(parse_method(name), **{**base, **settings})  # type: ignore[arg-type]
    return attack([network], *digits, torch.arange(len(digits[1])), params).images


def robust(network: Network, images: Tensor, labels: Tensor) -> float:
    return float((network(images).argmax(1) == labels).double().mean())


def loss(network: Network, images: Tensor, labels: Tensor) -> float:
    return float(F.cross_entropy(network(images), labels))


def check_budget(found: Tensor, images: Tensor) -> None:
    assert float((found - images).abs().max()) <= EPS + 1e-6  # else the peer played by other rules


def quietly(run: Callable[[], Tensor]) -> Tensor:
    """Peers warn of their own dependencies; they also draw from the global generator."""
    with warnings.catch_warnings(), torch.random.fork_rng():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        return run().detach()


def check_pgd(network: Network, digits: Digits, theirs: Callable[[bool], Tensor], **settings: object) -> None:
    """Pixel by pixel from the images themselves; from random points, which are not the peers', by the mean loss."""
    _, labels = digits
    mine, peers = ours(network, digits, "pgd", random_start=False, **settings), theirs(False)
    assert float(((mine - peers).abs() < 1e-5).double().mean()) > 0.95  # but for signs of gradients near 0
    assert robust(network, mine, labels) <= robust(network, peers, labels) + HALF_A_POINT
    mine, peers = ours(network, digits, "pgd", **settings), theirs(True)
    assert loss(network, mine, labels) >= loss(network, peers, labels) * (1 - LOSS_SLACK)
    best = ours(network, digits, "pgd", goal="robustness", **settings)  # the peers return the last iterate
    assert robust(network, best, labels) <= robust(network, mine, labels)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_pgd_against_foolbox(norm: str, trained: Network, test_digits: Digits) -> None:
    foolbox = pytest.importorskip("foolbox", reason="a peer: pip install foolbox")
    images, labels = test_digits
    eps = EPS if norm == "linf" else 0.8
    kind = foolbox.attacks.LinfPGD if norm == "linf" else foolbox.attacks.L2PGD
    size = 2.5 * eps / STEPS
    model = foolbox.PyTorchModel(trained, bounds=(0, 1), device="cpu")

    def theirs(random_start: bool) -> Tensor:
        peer = kind(abs_stepsize=size, steps=STEPS, random_start=random_start)
        return quietly(lambda: peer(model, images, labels, epsilons=eps)[1])

    check_pgd(trained, test_digits, theirs, norm=norm, eps=eps, step_size=size)


def test_pgd_against_torchattacks(trained: Network, test_digits: Digits) -> None:
    torchattacks = pytest.importorskip("torchattacks", reason="a peer: pip install torchattacks")
    images, labels = test_digits

    def theirs(random_start: bool) -> Tensor:
        peer = torchattacks.PGD(trained, eps=EPS, alpha=SIZE, steps=STEPS, random_start=random_start)
        found = quietly(lambda: peer(images, labels))
        check_budget(found, images)
        return found

    check_pgd(trained, test_digits, theirs)


def test_pgd_against_adv_lib(trained: Network, test_digits: Digits) -> None:
    """adv_lib returns any iterate that fools, as ours does for robustness; both from the images themselves."""
    adv_lib = pytest.importorskip("adv_lib.attacks", reason="a peer: pip install adv-lib visdom")
    images, labels = test_digits
    theirs = quietly(
        lambda: adv_lib.pgd_linf(trained, images, labels, EPS, steps=STEPS, random_init=False, absolute_step_size=SIZE)
    )
    check_budget(theirs, images)
    mine = ours(trained, test_digits, "pgd", goal="robustness", random_start=False)
    assert robust(trained, mine, labels) <= robust(trained, theirs, labels) + HALF_A_POINT


@pytest.mark.parametrize(
    ("name", "peer", "settings"),
    [
        ("fgsm", "FGSM", {}),
        ("mi", "MIFGSM", {"decay": 1.0}),
        ("ni", "NIFGSM", {"decay": 1.0}),
        ("mi,di", "DIFGSM", {"decay": 1.0}),
        ("mi,ti", "TIFGSM", {"decay": 1.0, "len_kernel": 5, "diversity_prob": 0.0}),
        ("ni,si", "SINIFGSM", {"decay": 1.0}),
    ],
)
def test_modifiers_against_torchattacks(
    name: str, peer: str, settings: dict[str, float], trained: Network, test_digits: Digits
) -> None:
    torchattacks = pytest.importorskip("torchattacks", reason="a peer: pip install torchattacks")
    images, labels = test_digits[0][:100], test_digits[1][:100]
    budget = {"eps": EPS} if peer == "FGSM" else {"eps": EPS, "alpha": EPS / STEPS, "steps": STEPS}
    other = getattr(torchattacks, peer)(trained, **budget, **settings)
    theirs = quietly(lambda: other(images, labels))
    check_budget(theirs, images)
    mine = ours(trained, (images, labels), name.replace("ti", "ti:kernel=5"), step_size=None)
    clean = loss(trained, images, labels)
    is_success, expected = loss(trained, mine, labels), loss(trained, theirs, labels)
    assert expected > clean + 0.1
    # di draws a resize for each image, the peer one for the batch: equal on average only.
    slack = 0.15 if "di" in name else LOSS_SLACK
    assert is_success >= expected * (1 - slack)
    if "di" not in name:  # deterministic: the same algorithm, up to signs of gradients near 0
        assert is_success <= expected * (1 + slack)
        assert float(((mine - theirs).abs() < 1e-5).float().mean()) > 0.95


def test_success_does_not_come_from_size(trained: Network, test_digits: Digits) -> None:
    images, labels = test_digits
    noise, clean = ours(trained, test_digits, "noise"), robust(trained, images, labels)
    assert robust(trained, noise, labels) > clean - 0.1
    assert robust(trained, ours(trained, test_digits, "pgd"), labels) < clean - 0.3


def test_transfer_beats_noise(trained: Network, other: Network, test_digits: Digits) -> None:
    images, labels = test_digits
    noise = ours(trained, test_digits, "noise", eps=32 / 255)
    moved = ours(trained, test_digits, "mi,ti", eps=32 / 255, step_size=None)
    assert robust(other, moved, labels) < robust(other, noise, labels) - 0.1
    both = AttackParams(parse_method("mi"), eps=16 / 255)
    joint = attack([trained, other], images, labels, torch.arange(len(labels)), both).images
    alone = ours(trained, test_digits, "mi", eps=16 / 255, step_size=None)
    assert robust(other, joint, labels) < robust(other, alone, labels) - 0.1
