"""Attacks in L1: optima of linear models, L1-APGD's phases and checks by hand, peers, and AutoAttack's settings."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from test_attacks_closed_form import Linear, eigen_weight, near_grey
from test_attacks_peers import quietly
from test_attacks_square import Lines, margins_in_steps
from torch import Tensor, nn

from advkit.attacks import apgd, apgd_l1, autoattack, l1_ball, square
from advkit.attacks.methods import parse_method
from advkit.attacks.objective import Batch
from advkit.attacks.params import AttackParams
from advkit.attacks.run import AttackBatch, attack
from advkit.attacks.vmi import neighbours
from advkit.metrics.norms import Norm, flat_norm
from advkit.models.network import Network

INF = float("inf")
Digits = tuple[Tensor, Tensor]


def run(network: nn.Module, images: Tensor, labels: Tensor, text: str, **settings: object) -> AttackBatch:
    params = AttackParams(parse_method(text), **{"norm": "l1", **settings})  # type: ignore[arg-type]
    return attack([network], images, labels, torch.arange(len(images)), params)


def some_digits(network: nn.Module, digits: Digits, count: int) -> Digits:
    """The first ``count`` that ``network`` gets right."""
    right = network(digits[0]).argmax(1) == digits[1]
    return digits[0][right][:count], digits[1][right][:count]


def robust(network: nn.Module, images: Tensor, labels: Tensor) -> int:
    return int((network(images).argmax(1) == labels).sum())


@pytest.mark.parametrize(("name", "short"), [("fgsm", 1e-3), ("mi", 1e-3), ("pgd", 0.03)])
def test_the_optimum_of_a_linear_model_in_ball_and_box(name: str, short: float) -> None:
    """One linear programme an image: with black and white pixels the largest weights are not all to be had.

    What starts at random has only come near by the last step.
    """
    generator = torch.Generator().manual_seed(2)
    weight = torch.randn(1, 5, 5, generator=generator)
    images = torch.rand(6, 1, 5, 5, generator=generator)
    images = torch.where(torch.rand(images.shape, generator=generator) < 0.4, images.round(), images)
    network, slope = Linear(weight, 0.05), weight.flatten().double().numpy()
    for eps in (0.3, 2.0, 6.0):
        found = run(network, images, torch.zeros(6).long(), name, eps=eps, steps=40).images
        for row, image in enumerate(images.flatten(1).double().numpy()):
            room = [*((0, 1 - v) for v in image), *((0, v) for v in image)]
            best = linprog(np.r_[-slope, slope], A_ub=np.ones((1, 50)), b_ub=[eps], bounds=room)
            gained = float(((found - images)[row] * weight).sum())
            assert -best.fun * (1 - short) <= gained <= -best.fun * (1 + 1e-5), (eps, row)


def test_from_image_to_boundary_is_the_margin_over_the_largest_weight() -> None:
    """Of two classes whose logits are -s and s: half the margin over max |w|, reached by what looks for the least."""
    weight = eigen_weight()
    images, network = margins_in_steps(weight, 0.3, "l1", count=8), Lines(weight)
    logits = network(images).detach()
    least = (logits[:, 0] - logits[:, 1]) / (2.0 * float(weight.abs().max()))
    for text in ("fmn", "fab-t:steps=40"):
        reached = flat_norm(run(network, images, torch.zeros(8).long(), text, eps=INF).images - images, "l1")
        assert bool((reached >= least * (1 - 1e-4)).all())
        assert bool((reached <= least * 1.02).all())
    for text, share, place in product(("apgd-ce", "pgd"), (1.02, 0.98), range(8)):
        row, eps = slice(place, place + 1), float(least[place]) * share
        found = run(network, images[row], torch.zeros(1).long(), text, eps=eps, steps=40, goal="robustness")
        assert int(network(found.images).argmax(1)) == int(share > 1), (text, share, place)


def test_noise_is_no_attack_and_of_full_length() -> None:
    images, classes = near_grey(16)
    network = Linear(eigen_weight())
    moved = run(network, images, classes, "noise", eps=8.0).images
    assert flat_norm(moved - images, "l1").tolist() == pytest.approx([8.0] * 16, rel=1e-5)
    gained = (network(moved) - network(images))[:, 1].abs()
    assert float(gained.max()) < 0.25 * 8.0 * float(eigen_weight().abs().max())


def test_radii_shrink_to_eps_in_shares_of_the_steps() -> None:
    assert apgd_l1.phases(100) == [(3.0, 30), (2.0, 30), (1.0, 40)]
    assert apgd_l1.phases(10) == [(3.0, 3), (2.0, 3), (1.0, 4)]
    for steps in range(1, 40):
        told = apgd_l1.phases(steps)
        assert sum(count for _, count in told) == steps
        assert told[-1][0] == 1.0
        assert told[-1][1] >= 1
    assert apgd_l1.phases(2) == [(1.0, 2)]


def test_a_check_starts_anew_where_the_best_point_became_sparser() -> None:
    point, number = torch.zeros(3, 1, 1, 1), torch.zeros(3)
    state = apgd_l1._State(
        x=point + 1.0,
        gradient=point,
        best=point + 2.0,
        best_gradient=point + 5.0,
        best_loss=number,
        step=torch.tensor([0.5, 0.5, 0.11]),
        moved=torch.tensor([100, 100, 100]),
        places=torch.arange(3),
    )
    apgd_l1._adapt(state, torch.tensor([94, 95, 200]), 1.0)
    assert state.step.tolist() == pytest.approx([1.0, 0.5 / 1.5, 0.1])
    assert state.x.flatten().tolist() == [2.0, 1.0, 1.0]
    assert state.gradient.flatten().tolist() == [5.0, 0.0, 0.0]
    assert state.moved.tolist() == [94, 95, 200]


@pytest.mark.parametrize("goal", ["robustness", "transfer"])
def test_points_beyond_eps_are_passed_through_but_never_kept(
    goal: str, trained: Network, test_digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, labels = some_digits(trained, test_digits, 20)
    radii, counts, inside = [], [], apgd_l1._inside

    def noted(x: Tensor, clean: Tensor, radius: float) -> Tensor:
        found = inside(x, clean, radius)
        counts.append((radius, len(x)))
        radii.append((radius, float(flat_norm(found - clean, "l1").max())))
        return found

    monkeypatch.setattr(apgd_l1, "_inside", noted)
    done = run(trained, images, labels, "apgd-ce:steps=20", eps=2.0, goal=goal)
    assert list(dict.fromkeys(radius for radius, _ in radii)) == [6.0, 4.0, 2.0]
    for radius, reached in radii:
        assert reached <= radius * (1 + 1e-5)
    assert max(reached for _, reached in radii) > 5.0
    assert all(count == 20 for radius, count in counts if radius > 2.0), "beyond eps none has fooled"
    size = flat_norm(done.images - images, "l1")
    assert float(size.max()) <= 2.0 * (1 + 1e-5)
    assert 0 < robust(trained, done.images, labels) < 20
    if goal == "transfer":
        assert done.backwards == 20 * 20
        assert done.forwards == 20 * (20 + 3)


def test_restarts_begin_elsewhere_and_the_largest_loss_is_kept(trained: Network, test_digits: Digits) -> None:
    images, labels = some_digits(trained, test_digits, 30)

    def loss(restarts: int) -> Tensor:
        found = run(trained, images, labels, "apgd-ce:steps=10", eps=2.0, goal="transfer", restarts=restarts).images
        return nn.functional.cross_entropy(trained(found), labels, reduction="none")

    one, three = loss(1), loss(3)
    assert bool((three >= one - 1e-4).all())
    assert bool((three > one + 1e-4).any())


@pytest.mark.parametrize("loss", ["ce", "dlr"])
def test_apgd_fools_as_many_as_adv_lib(loss: str, trained: Network, test_digits: Digits) -> None:
    adv_lib = pytest.importorskip("adv_lib.attacks", reason="a peer: pip install adv-lib visdom")
    images, labels = some_digits(trained, test_digits, 80)
    mine = theirs = 0
    for eps in (2.0, 3.0, 4.0):
        settings = {"n_iter": 40, "loss_function": loss, "use_large_reps": True}
        peer = quietly(lambda eps=eps, more=settings: adv_lib.apgd(trained, images, labels, eps, 1, **more))
        assert float(flat_norm(peer - images, "l1").max()) <= eps * (1 + 1e-4)
        theirs += robust(trained, peer, labels)
        found = run(trained, images, labels, f"apgd-{loss}:steps=40", eps=eps, goal="robustness").images
        mine += robust(trained, found, labels)
    assert mine <= theirs + 12  # of 240, whose random starts are others


def test_the_least_distance_is_no_longer_than_adv_libs(trained: Network, test_digits: Digits) -> None:
    adv_lib = pytest.importorskip("adv_lib.attacks", reason="a peer: pip install adv-lib visdom")
    images, labels = some_digits(trained, test_digits, 40)
    peers: dict[str, Callable[[], Tensor]] = {
        "fab-t:steps=20": lambda: adv_lib.fab(trained, images, labels, 1, n_iter=20),
        "fmn:steps=60": lambda: adv_lib.fmn(trained, images, labels, 1, steps=60),
    }
    for text, peer in peers.items():
        theirs, mine = quietly(peer), run(trained, images, labels, text, eps=INF).images
        assert robust(trained, mine, labels) == 0
        found = trained(theirs).argmax(1) != labels
        assert int(found.sum()) >= 30
        ours, other = (flat_norm(one - images, "l1")[found].median() for one in (mine, theirs))
        assert float(ours) <= float(other) * 1.05


@pytest.mark.parametrize("peer", ["L1ProjectedGradientDescentAttack", "SparseL1DescentAttack"])
def test_pgd_fools_as_many_as_foolbox(peer: str, trained: Network, test_digits: Digits) -> None:
    foolbox = pytest.importorskip("foolbox", reason="a peer: pip install foolbox")
    images, labels = some_digits(trained, test_digits, 80)
    model = foolbox.PyTorchModel(trained, bounds=(0, 1), device="cpu")
    mine = theirs = 0
    for eps in (2.0, 3.0, 4.0):
        kind = getattr(foolbox.attacks, peer)(steps=10)
        found = quietly(lambda kind=kind, eps=eps: kind(model, images, labels, epsilons=eps)[1])
        theirs += robust(trained, found, labels)
        mine += robust(trained, run(trained, images, labels, "pgd", eps=eps).images, labels)
    assert mine <= theirs + 6  # of 240


def test_square_moves_and_sparsifies_what_it_has(trained: Network, test_digits: Digits) -> None:
    images, labels = some_digits(trained, test_digits, 30)
    found = run(trained, images, labels, "square:queries=300", eps=6.0, goal="robustness").images
    noise = run(trained, images, labels, "noise", eps=6.0).images
    assert robust(trained, found, labels) <= robust(trained, noise, labels) - 6
    size = flat_norm(found - images, "l1")
    assert float(size.max()) <= 6.0 * (1 + 1e-5)
    assert float(((found - images) != 0).flatten(1).float().mean()) < 0.5
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(square, "_L1_SHARES", 1.0)
        dense = run(trained, images, labels, "square:queries=300", eps=6.0, goal="robustness").images
    assert robust(trained, found, labels) <= robust(trained, dense, labels) - 3


@pytest.mark.parametrize(
    "method", ["pgd", "apgd-ce:steps=9", "apgd-t:steps=9:targets=3", "fab-t:steps=5", "fmn:steps=12",
               "square:queries=60"]
)  # fmt: skip
def test_rounded_to_8_bits_within_the_radius_and_still_fooled(
    method: str, trained: Network, test_digits: Digits
) -> None:
    images, labels = some_digits(trained, test_digits, 16)
    images = torch.round(images * 255) / 255
    labels = trained(images).argmax(1)
    found = run(trained, images, labels, method, eps=5.0, quantize=True, goal="robustness").images
    assert torch.equal(found, torch.round(found * 255) / 255)
    levels = torch.round(found.double() * 255) - torch.round(images.double() * 255)
    assert int(levels.abs().sum((1, 2, 3)).max()) <= 5 * 255
    assert bool((trained(found).argmax(1) != labels).any())


def test_autoattack_has_the_papers_restarts_and_classes(
    trained: Network, test_digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, labels = some_digits(trained, test_digits, 12)
    seen: list[tuple[int, int]] = []
    best_of = apgd._best_of

    def noted(*given: Any) -> Tensor:
        seen.append((len(given[3]), sum(len(streams) for streams, _ in given[3])))
        return best_of(*given)

    monkeypatch.setattr(apgd, "_best_of", noted)
    text = "autoattack:steps=4:queries=10"
    whole = run(trained, images, labels, text, eps=2.0)
    assert seen == [(5, 5), (2, 5)], "five restarts; five classes, the likeliest by itself"
    assert list(whole.stages) == ["apgd-ce", "apgd-t", "fab-t", "square"]
    assert sum(whole.stages.values()) == 12 - robust(trained, whole.images, labels)
    assert float(flat_norm(whole.images - images, "l1").max()) <= 2.0 * (1 + 1e-5)
    seen.clear()
    run(trained, images, labels, text, eps=0.3, norm="l2")
    assert seen == [(1, 1), (2, 9)]
    assert autoattack.AUTOATTACK.norms == ("linf", "l2", "l1")


def test_square_finds_the_same_in_batches_of_any_size(trained: Network, test_digits: Digits) -> None:
    images, labels = test_digits[0][:24], test_digits[1][:24]
    params = AttackParams(parse_method("square:queries=300"), eps=2.0, norm="l1", goal="robustness")
    rows = torch.arange(24)
    whole = attack([trained], images, labels, rows, params).images
    parts = [attack([trained], images[p], labels[p], rows[p], params).images for p in rows.split(7)]
    assert (torch.cat(parts) - whole).abs().max() < 1e-4


def test_the_next_radius_starts_from_the_best_point_not_from_the_last(
    trained: Network, test_digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With steps that go down every radius is best where it began, which the next one therefore begins from."""
    images, labels = some_digits(trained, test_digits, 6)
    ranked, begun, reached, at_radius = l1_ball.ranked_signs, [], [], apgd_l1._at_radius

    def noted(*given: Any) -> Any:
        begun.append(given[3])
        found = at_radius(*given)
        reached.append(found[0])
        return found

    monkeypatch.setattr(l1_ball, "ranked_signs", lambda gradient, count: -ranked(gradient, count))
    monkeypatch.setattr(apgd_l1, "_at_radius", noted)
    run(trained, images, labels, "apgd-ce:steps=20", eps=1.0, goal="transfer")
    assert [torch.equal(one, other) for one, other in zip(begun, reached, strict=True)] == [True] * 3


def test_a_moved_bump_takes_what_the_budget_has_left() -> None:
    images = torch.full((2, 3, 12, 12), 0.5)
    batch = Batch(images, torch.tensor([0, 1]), torch.arange(2), torch.arange(2))
    params = AttackParams(parse_method("square"), eps=1.0, norm="l1")
    plan = square._Plan(0, 100, 0.8, images)
    query = torch.ones(2, dtype=torch.long)
    for length in (0.0, 0.25, 1.0):
        corner = torch.zeros_like(images)
        corner[:, :, 0, 0] = length / 3
        found = square._moved_bump(images + corner, batch, params, plan, query)
        assert flat_norm(found - images, "l1").tolist() == pytest.approx([1.0, 1.0], rel=1e-4)


@pytest.mark.parametrize(("norm", "spread"), [("l1", 2.0), ("l2", math.pi / 2)])
def test_neighbours_lie_evenly_in_the_ball_of_the_norm(norm: Norm, spread: float) -> None:
    """Mean squares of entries, over the square of their mean size: 2 in directions of the L1 ball, pi/2 of normals."""
    x = torch.full((4, 3, 16, 16), 0.5)
    found = neighbours(x, torch.arange(4), 0, (0, 0), 3.0, norm, samples=8, beta=1.5)
    offsets = torch.stack([one - x for one in found]).flatten(0, 1)
    length = flat_norm(offsets, norm)
    assert (length <= 4.5 * (1 + 1e-5)).all()
    assert (length > 4.5 * 0.97).all(), "nearly all of a ball of so many dimensions is its rind"
    assert len({round(float(one), 6) for one in length}) > 20
    flat = offsets.flatten(1)
    ratio = flat.square().mean() / flat.abs().mean().square()
    assert float(ratio) == pytest.approx(spread, rel=0.05)
