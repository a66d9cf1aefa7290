"""FAB-T and AutoAttack: hyperplanes in the box, distances to linear boundaries, peers, and the union of the parts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from test_attacks_peers import quietly
from torch import Tensor, nn

from advkit.attacks import autoattack
from advkit.attacks.hyperplane import to_hyperplane
from advkit.attacks.methods import parse_method
from advkit.attacks.objective import Batch, Objective
from advkit.attacks.params import AttackParams
from advkit.attacks.run import AttackBatch, attack
from advkit.files.errors import InputError
from advkit.metrics.norms import Norm, flat_norm
from advkit.models.network import Network
from advkit.tasks.task import task_of

INF = float("inf")
Digits = tuple[Tensor, Tensor]


def run(network: nn.Module, images: Tensor, labels: Tensor, text: str, **settings: object) -> AttackBatch:
    params = AttackParams(parse_method(text), **settings)  # type: ignore[arg-type]
    return attack([network], images, labels, torch.arange(len(images)), params)


def planes(count: int, size: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Points, normals with zeros among them, and reachable distances."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(count, size, generator=generator, dtype=torch.float64)
    w = torch.randn(count, size, generator=generator, dtype=torch.float64)
    w[:, 0] = 0.0
    w[0] = w[0].abs()
    x[1, 2] = 1.0
    most = torch.where(w > 0, w * (1 - x), -w * x).sum(1)
    least = torch.where(w > 0, -w * x, w * (1 - x)).sum(1)
    share = torch.rand(count, generator=generator, dtype=torch.float64)
    c = torch.where(torch.arange(count) % 2 == 0, share * most, share * least)
    return x, w, c


def test_the_smallest_linf_step_to_a_hyperplane_is_the_linear_programmes() -> None:
    x, w, c = planes(12, 9, 0)
    found = to_hyperplane(x, w, c, "linf")
    assert torch.allclose((w * found).sum(1), c, atol=1e-9)
    assert bool(((x + found >= -1e-12) & (x + found <= 1 + 1e-12)).all())
    for row in range(12):
        size = x.shape[1]
        ones = np.ones((size, 1))
        eye = np.eye(size)
        program = linprog(
            np.r_[np.zeros(size), 1.0],
            A_ub=np.block([[eye, -ones], [-eye, -ones]]),
            b_ub=np.zeros(2 * size),
            A_eq=np.r_[w[row].numpy(), 0.0][None],
            b_eq=[float(c[row])],
            bounds=[*((-float(v), 1 - float(v)) for v in x[row]), (0, None)],
        )
        assert float(found[row].abs().max()) == pytest.approx(program.fun, abs=1e-8)


def test_the_smallest_l1_step_to_a_hyperplane_is_the_linear_programmes() -> None:
    """With entries up and entries down as variables of their own."""
    x, w, c = planes(12, 9, 2)
    found = to_hyperplane(x, w, c, "l1")
    assert torch.allclose((w * found).sum(1), c, atol=1e-9)
    assert bool(((x + found >= -1e-12) & (x + found <= 1 + 1e-12)).all())
    for row in range(12):
        normal = w[row].numpy()
        room = [*((0, 1 - float(v)) for v in x[row]), *((0, float(v)) for v in x[row])]
        program = linprog(np.ones(18), A_eq=np.r_[normal, -normal][None], b_eq=[float(c[row])], bounds=room)
        assert float(found[row].abs().sum()) == pytest.approx(program.fun, abs=1e-8)


def test_the_smallest_l2_step_satisfies_the_conditions_of_an_optimum() -> None:
    """Entries inside the box are one multiple of w; those at its edge would go further (Karush, Kuhn and Tucker)."""
    x, w, c = planes(40, 9, 1)
    found = to_hyperplane(x, w, c, "l2")
    assert torch.allclose((w * found).sum(1), c, atol=1e-9)
    assert bool(((x + found >= -1e-12) & (x + found <= 1 + 1e-12)).all())
    for row in range(40):
        free = ((x + found)[row] > 1e-9) & ((x + found)[row] < 1 - 1e-9) & (w[row] != 0)
        factors = (found[row] / w[row])[free]
        assert float(factors.max() - factors.min()) < 1e-9
        edge = ~free & (w[row] != 0)
        beyond = (found[row] / w[row])[edge].abs()
        assert bool((beyond <= factors.abs().max() + 1e-9).all())


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_out_of_reach_it_goes_as_far_as_the_box_lets(norm: Norm) -> None:
    x, w = torch.tensor([[0.2, 0.5, 0.9]]), torch.tensor([[1.0, -2.0, 0.0]])
    found = to_hyperplane(x, w, torch.tensor([100.0]), norm)
    assert found.tolist() == [[pytest.approx(0.8), pytest.approx(-0.5), 0.0]]
    assert to_hyperplane(x, w * 0.0, torch.tensor([1.0]), norm).tolist() == [[0.0] * 3]
    assert to_hyperplane(x, w, torch.tensor([0.0]), norm).tolist() == [[0.0] * 3]


class Linear(nn.Module):
    """Four classes, linear in the pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = 0.3 * torch.randn(4, 27, generator=torch.Generator().manual_seed(4))

    def forward(self, images: Tensor) -> Tensor:
        return (images.flatten(1) - 0.5) @ self.weight.T


def near_grey(network: Linear, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Images so grey that the box never binds, their classes, and differences of the weights (N, K, D)."""
    images = 0.5 + 0.05 * torch.randn(count, 3, 3, 3, generator=torch.Generator().manual_seed(5))
    labels = network(images).argmax(1)
    return images, labels, network.weight[labels][:, None] - network.weight[None]


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_it_finds_the_nearest_of_all_linear_boundaries(norm: Norm) -> None:
    network = Linear()
    images, labels, normals = near_grey(network, 20)
    logits = network(images)
    gaps = logits.gather(1, labels[:, None]) - logits
    dual = {"linf": normals.abs().sum(2), "l2": normals.norm(dim=2), "l1": normals.abs().amax(2)}[norm]
    nearest = torch.where(dual > 0, gaps / dual, INF).amin(1)
    found = run(network, images, labels, "fab-t:steps=30", norm=norm, eps=INF).images
    assert bool((network(found).argmax(1) != labels).all())
    reached = flat_norm(found - images, norm)
    assert bool((reached >= nearest * (1 - 1e-4)).all())
    assert bool((reached <= nearest * 1.02).all())
    eps = float(nearest.median()) * 1.03
    bound = run(network, images, labels, "fab-t:steps=30", norm=norm, eps=eps, goal="robustness").images
    hit = network(bound).argmax(1) != labels
    assert bool((hit == (nearest <= eps))[(nearest * 1.03 <= eps) | (nearest > eps)].all())
    assert float(flat_norm(bound - images, norm).max()) <= eps * (1 + 1e-5)


@pytest.mark.parametrize("norm", ["linf", pytest.param("l2", marks=pytest.mark.slow)])
def test_fab_fools_as_many_as_the_peer(norm: Norm, trained: Network, test_digits: Digits) -> None:
    torchattacks = pytest.importorskip("torchattacks", reason="a peer: pip install --no-deps torchattacks")
    images, labels = test_digits[0][:60], test_digits[1][:60]
    eps = {"linf": 0.04, "l2": 0.32}[norm]
    peer = torchattacks.FAB(
        trained, norm={"linf": "Linf", "l2": "L2"}[norm], eps=eps, steps=10, n_classes=10, multi_targeted=True
    )
    theirs = trained(quietly(lambda: peer(images, labels))).argmax(1) == labels
    found = run(trained, images, labels, "fab-t:steps=10", eps=eps, norm=norm, goal="robustness").images
    assert int((trained(found).argmax(1) == labels).sum()) <= int(theirs.sum()) + 1


def test_the_pull_towards_the_clean_image_is_the_nearer_ones_share() -> None:
    """From 0.4 towards a boundary at 0.5 of the first pixel: 0.1 from there, 0.5 from the clean image."""
    from advkit.attacks.fab import _step

    clean, x = torch.zeros(1, 1, 1, 2), torch.tensor([[[[0.4, 0.3]]]])
    gradient, ahead = torch.tensor([[[[1.0, 0.0]]]]), torch.tensor([-0.1])
    params = AttackParams(parse_method("fab-t"), eps=INF, norm="l2")
    found = _step(x, clean, ahead, gradient, params, 1.0, 1.0)
    share = 0.1 / (0.1 + 0.5)
    assert found.flatten().tolist() == pytest.approx([0.5, 0.3 * (1 - share)], abs=1e-5)


@pytest.mark.parametrize("method", ["fab-t:steps=3", "autoattack:steps=2:queries=2", "apgd-ce:steps=2"])
def test_what_is_wrong_already_stays(method: str, trained: Network, test_digits: Digits) -> None:
    images = test_digits[0][:6]
    wrong = (trained(images).argmax(1) + 1) % 10
    found = run(trained, images, wrong, method, eps=0.1, goal="robustness")
    assert torch.equal(found.images, images)
    assert sum(found.stages.values()) == 0


ROUNDED = (
    "fab-t:steps=4",
    "cw:steps=40:searches=4:rate=0.1",
    "ddn:steps=9",
    "fmn:steps=9",
    "autoattack:steps=4:queries=9",
)


@pytest.mark.parametrize("method", ROUNDED)
def test_rounded_to_8_bits_within_an_l2_radius(method: str, trained: Network, test_digits: Digits) -> None:
    images = torch.round(test_digits[0][:12] * 255) / 255
    labels = trained(images).argmax(1)
    found = run(trained, images, labels, method, norm="l2", eps=1.5, quantize=True, goal="robustness").images
    assert torch.equal(found, torch.round(found * 255) / 255)
    assert float(flat_norm(found - images, "l2").max()) <= 1.5 * (1 + 1e-4)
    assert bool((trained(found).argmax(1) != labels).any())


class Brightness(nn.Module):
    """Two classes by the mean alone, whose gradient is one number in memory."""

    def forward(self, images: Tensor) -> Tensor:
        score = images.mean((1, 2, 3)) - 0.5
        return torch.stack([-score, score], 1)


def test_a_gradient_that_is_one_number_everywhere() -> None:
    images = torch.tensor([0.4, 0.55, 0.7]).view(3, 1, 1, 1).expand(3, 1, 4, 4).contiguous()
    labels = torch.tensor([0, 1, 1])
    found = run(Brightness(), images, labels, "fab-t:steps=20", eps=INF)
    assert (found.images - images).flatten(1).abs().amax(1).tolist() == pytest.approx([0.1, 0.05, 0.2], rel=0.02)
    # One pass forth and back at the start, one for every step, and one more where a point went back to its half way.
    assert found.backwards <= 3 * 2 * 20


def test_autoattack_is_the_union_of_its_parts(trained: Network, test_digits: Digits) -> None:
    """Each image's draws are its own, so that it fares in a stage as it would in that attack alone."""
    images, labels = test_digits[0][:80], test_digits[1][:80]
    settings = {"eps": 0.03, "goal": "robustness"}
    parts = ["apgd-ce:steps=8", "apgd-t:steps=8:targets=3", "fab-t:steps=8:targets=3", "square:queries=60:rescale=0"]
    fooled = [trained(run(trained, images, labels, part, **settings).images).argmax(1) != labels for part in parts]
    whole = run(trained, images, labels, "autoattack:steps=8:targets=3:queries=60", **settings)
    differ = (trained(whole.images).argmax(1) != labels) != torch.stack(fooled).any(0)
    assert int(differ.sum()) <= 1  # convolutions of other batch sizes sum in another order
    assert list(whole.stages) == ["apgd-ce", "apgd-t", "fab-t", "square"]
    right = trained(images).argmax(1) == labels
    assert whole.stages["apgd-ce"] == int((fooled[0] & right).sum())
    assert sum(whole.stages.values()) == int(((trained(whole.images).argmax(1) != labels) & right).sum())
    again = run(trained, images, labels, "autoattack:steps=8:targets=3:queries=60", eps=0.03, goal="transfer")
    assert torch.equal(again.images, whole.images), "whatever the goal, a worst case is looked for"


@pytest.mark.parametrize("goal", ["robustness", "transfer"])
def test_every_part_of_autoattack_looks_for_the_worst_case(goal: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What keeps the better of two points goes by the goal of the objective, the parts by that of their settings."""
    seen = []

    def part(objective: Objective, batch: Batch, params: AttackParams, **settings: int) -> Tensor:
        seen.append((objective.params.goal, params.goal))
        return batch.images

    for name in ("APGD_CE", "FAB_T", "SQUARE"):
        monkeypatch.setattr(autoattack, name, replace(getattr(autoattack, name), function=part))
    run(Brightness(), torch.full((2, 1, 2, 2), 0.3), torch.zeros(2, dtype=torch.int64), "autoattack", goal=goal)
    assert seen == [("robustness", "robustness")] * 3


def test_with_two_classes_apgd_t_is_left_out() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    images = torch.rand(4, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    labels = network(images).argmax(1)
    found = run(network, images, labels, "autoattack:steps=3:queries=5", eps=1e-6)
    assert "apgd-t" not in found.stages
    assert "fab-t" in found.stages


@pytest.mark.parametrize("method", ["apgd-ce", "fab-t", "autoattack"])
def test_detectors_have_no_logits_of_classes(method: str) -> None:
    from advkit.models.build import create

    network = create("advkit/tiny-ssd", num_classes=2, input_size=(3, 96, 96), mean=(0.5,) * 3, std=(0.5,) * 3)
    assert not task_of([network]).exclusive
    with pytest.raises(InputError, match="use pgd"):
        run(network.eval(), torch.rand(1, 3, 96, 96), torch.zeros(1, 1, 6), method)
