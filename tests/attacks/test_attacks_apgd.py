"""APGD: its losses by hand, its checks by hand, step by step against a peer, and on a linear model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_attacks_closed_form import eigen_weight
from test_attacks_peers import quietly
from test_attacks_square import Lines, margins_in_steps
from torch import Tensor, nn

from advkit.attacks import apgd
from advkit.attacks.methods import parse_method
from advkit.attacks.params import AttackParams
from advkit.attacks.run import attack
from advkit.data import counter_rng
from advkit.files.errors import InputError
from advkit.metrics.norms import Norm
from advkit.models.network import Network
from advkit.tasks.dlr import dlr, targeted_dlr

EPS = {"linf": 0.04, "l2": 0.32}
Digits = tuple[Tensor, Tensor]


def run(network: nn.Module, images: Tensor, labels: Tensor, text: str, **settings: object) -> Tensor:
    params = AttackParams(parse_method(text), **settings)  # type: ignore[arg-type]
    return attack([network], images, labels, torch.arange(len(images)), params).images


def test_the_difference_of_logits_ratio_by_hand() -> None:
    logits = torch.tensor([[5.0, 2.0, 1.0, -3.0]])
    right, wrong, aim = torch.tensor([0]), torch.tensor([2]), torch.tensor([3])
    assert float(dlr(logits, right, False)) == pytest.approx((2 - 5) / (5 - 1))
    assert float(dlr(logits, wrong, False)) == pytest.approx((5 - 1) / (5 - 1))
    assert float(targeted_dlr(logits, right, aim)) == pytest.approx((-3 - 5) / (5 - 0.5 * (1 - 3)))
    assert float(dlr(logits, aim, True)) == pytest.approx(float(targeted_dlr(logits, right, aim)))
    for moved in (logits * 1000, logits - 70):
        assert float(dlr(moved, right, False)) == pytest.approx(-0.75)
        assert float(targeted_dlr(moved, right, aim)) == pytest.approx(-8 / 6)


@pytest.mark.parametrize(("method", "classes"), [("apgd-dlr", 2), ("apgd-t", 3), ("pgd", 2)])
def test_too_few_classes_for_the_loss_are_refused(method: str, classes: int) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, classes))
    loss = {"loss": "dlr"} if method == "pgd" else {}
    with pytest.raises(
        InputError, match=rf"needs {classes + 1} classes or more, here are {classes}; use cross-entropy"
    ):
        run(network, torch.rand(2, 1, 2, 2), torch.zeros(2).long(), method, **loss)


def state(**given: Tensor) -> apgd._State:
    point, number = torch.zeros(3, 1, 1, 1), torch.zeros(3)
    named = dict.fromkeys(("x", "before", "gradient", "best", "best_gradient"), point)
    named |= dict.fromkeys(("loss", "best_loss", "step", "rises", "checked_loss", "halved", "places"), number)
    return apgd._State(**(named | given))


def test_a_check_halves_steps_that_are_no_good_and_goes_back() -> None:
    """The first rose often enough; the second did not; the third did, but its best loss and its step stood still."""
    found = state(
        x=torch.full((3, 1, 1, 1), 1.0),
        best=torch.full((3, 1, 1, 1), 2.0),
        best_gradient=torch.full((3, 1, 1, 1), 5.0),
        step=torch.tensor([0.4, 0.4, 0.4]),
        rises=torch.tensor([17.0, 16.0, 17.0]),
        best_loss=torch.tensor([3.0, 3.0, 2.0]),
        checked_loss=torch.tensor([2.0, 2.0, 2.0]),
        halved=torch.tensor([False, False, False]),
    )
    apgd._halve(found, 0.75 * 22)
    assert found.halved.tolist() == [False, True, True]
    assert found.step.tolist() == pytest.approx([0.4, 0.2, 0.2])
    assert found.x.flatten().tolist() == [1.0, 2.0, 2.0]
    assert found.gradient.flatten().tolist() == [0.0, 5.0, 5.0]
    assert found.checked_loss.tolist() == [3.0, 3.0, 2.0]
    assert found.rises.tolist() == [0.0] * 3
    none = torch.zeros(3, dtype=torch.bool)
    even = state(rises=torch.tensor([15.0, 15.0, 16.0]), best_loss=torch.ones(3), step=torch.ones(3), halved=none)
    apgd._halve(even, 0.75 * 20)
    assert even.step.tolist() == [0.5, 0.5, 1.0], "as many rises as rho asks for are not more"
    found.rises = torch.tensor([17.0] * 3)
    apgd._halve(found, 0.75 * 22)
    assert found.halved.tolist() == [True, False, False], "what was halved at the last check has its chance first"


def test_checks_come_sooner_and_sooner(trained: Network, test_digits: Digits, monkeypatch: pytest.MonkeyPatch) -> None:
    """0.22 of the steps, then 0.03 fewer each time, 0.06 at the least: 22, 41, 57, 70, 80, 87, 93, 99 of 100."""
    seen, steps = [], [0]
    count, halve = apgd._count, apgd._halve

    def counted(*given: object) -> None:
        steps[0] += 1
        count(*given)  # type: ignore[arg-type]

    def halved(*given: object) -> None:
        seen.append(steps[0])
        halve(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(apgd, "_count", counted)
    monkeypatch.setattr(apgd, "_halve", halved)
    run(trained, test_digits[0][:2], test_digits[1][:2], "apgd-ce", eps=0.01, goal="transfer")
    assert seen == [22, 41, 57, 70, 80, 87, 93, 99]


@pytest.mark.parametrize("method", ["apgd-ce:steps=20", "apgd-t:steps=20:targets=2"])
def test_a_point_is_judged_by_its_own_outputs(
    method: str, trained: Network, test_digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a check goes back to the best point."""
    keep, seen = apgd.keep_better, []

    def checked(*given: Any) -> Tensor:
        seen.append(float((given[4] - trained(given[3])).abs().max()))
        return keep(*given)

    monkeypatch.setattr(apgd, "keep_better", checked)
    run(trained, test_digits[0][:12], test_digits[1][:12], method, eps=0.04, goal="transfer")
    assert len(seen) >= 21
    assert max(seen) < 1e-3


@pytest.mark.parametrize("loss", ["ce", "dlr"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_step_by_step_it_is_the_peers(
    norm: Norm, loss: str, trained: Network, test_digits: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the peer's own random points; its first rise is one over a loss of 0, so that ours is made so here."""
    torchattacks = pytest.importorskip("torchattacks", reason="a peer: pip install --no-deps torchattacks")
    images, labels = test_digits[0][:40], test_digits[1][:40]
    eps, steps = EPS[norm], 20
    count, calls = apgd._count, []

    def counted(state: apgd._State, losses: Tensor) -> None:
        if not calls:
            state.loss = torch.zeros_like(state.loss)
        calls.append(1)
        count(state, losses)

    monkeypatch.setattr(apgd, "_count", counted)

    def start(batch: object, params: AttackParams, number: int) -> Tensor:
        drawn = 2 * torch.rand(images.shape) - 1 if norm == "linf" else torch.randn(images.shape)
        flat = drawn.flatten(1)
        length = flat.abs().amax(1) if norm == "linf" else flat.norm(dim=1)
        return (images + eps * drawn / length.view(-1, 1, 1, 1)).clamp(0, 1) - images

    monkeypatch.setattr(apgd, "_edge_start", start)
    peer = torchattacks.APGD(trained, norm={"linf": "Linf", "l2": "L2"}[norm], eps=eps, steps=steps, loss=loss)
    theirs = quietly(lambda: peer.attack_single_run(images, labels)[0])
    mine = quietly(lambda: run(trained, images, labels, f"apgd-{loss}:steps={steps}", eps=eps, norm=norm))
    same = ((mine - theirs).abs() < 1e-4).flatten(1).all(1)
    assert float(same.double().mean()) > 0.8  # but for signs of gradients near 0


@pytest.mark.parametrize("method", ["apgd-ce", "apgd-dlr", pytest.param("apgd-t", marks=pytest.mark.slow)])
@pytest.mark.parametrize("norm", ["linf", pytest.param("l2", marks=pytest.mark.slow)])
def test_it_fools_as_many_as_the_peer(method: str, norm: Norm, trained: Network, test_digits: Digits) -> None:
    torchattacks = pytest.importorskip("torchattacks", reason="a peer: pip install --no-deps torchattacks")
    images, labels = test_digits[0][:100], test_digits[1][:100]
    steps, norms = 20, {"linf": "Linf", "l2": "L2"}
    settings: dict[str, Any] = {"eps": EPS[norm], "norm": norm, "goal": "robustness"}

    def left(found: Tensor) -> int:
        return int((trained(found).argmax(1) == labels).sum())

    mine = theirs = 0
    for seed in range(3):  # random starts are others, of which hang one or two images more or less
        common = {"norm": norms[norm], "eps": EPS[norm], "steps": steps, "seed": seed}
        if method == "apgd-t":
            peer = torchattacks.APGDT(trained, n_classes=10, **common)
        else:
            peer = torchattacks.APGD(trained, loss=method.rpartition("-")[2], **common)
        theirs += left(quietly(lambda peer=peer: peer(images, labels)))
        mine += left(run(trained, images, labels, f"{method}:steps={steps}", seed=seed, **settings))
    assert mine <= theirs + 10
    if method == "apgd-t":
        assert mine <= 3 * left(run(trained, images, labels, "pgd", steps=steps, **settings))


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_on_a_linear_model_it_fools_all_within_reach(norm: Norm) -> None:
    """Margins rise in twelfths of what eps can move: those of at most 6.24 twelfths are fooled."""
    weight, eps = eigen_weight(), {"linf": 0.1, "l2": 1.0, "l1": 0.3}[norm]
    images, network = margins_in_steps(weight, eps, norm, count=12), Lines(weight)
    settings = {"norm": norm, "eps": eps * 0.52, "goal": "robustness"}
    found = run(network, images, torch.zeros(12, dtype=torch.int64), "apgd-ce", **settings)
    assert network(found).argmax(1).tolist() == [1] * 6 + [0] * 6


def test_restarts_and_targets_start_elsewhere_and_the_best_is_kept(trained: Network, test_digits: Digits) -> None:
    images, labels = test_digits[0][:30], test_digits[1][:30]
    seen: list[list[int]] = []
    run_one = apgd._run

    def noted(*given: Any) -> Any:
        streams = list(dict.fromkeys(given[3].tolist()))
        seen.extend([] if seen[-1:] == [streams] else [streams])  # a run may go block by block
        return run_one(*given)

    losses = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(apgd, "_run", noted)
        for restarts in (1, 3):
            found = run(trained, images, labels, "apgd-ce:steps=3", eps=0.03, restarts=restarts, goal="transfer")
            losses.append(torch.nn.functional.cross_entropy(trained(found), labels, reduction="none"))
        run(trained, images, labels, "apgd-t:steps=2:targets=3", eps=1e-4, restarts=2, goal="transfer")
    starts = [int(counter_rng.streams("apgd start", [(number,)])) for number in range(7)]
    runs = [[0], [1], [2], [1], [2, 3], [4], [5, 6]]  # the likeliest class alone, the others together
    assert seen == [[starts[number] for number in one] for one in runs]
    assert float((losses[0] - losses[1]).max()) <= 1e-4
    assert bool((losses[1] > losses[0] + 1e-4).any())


class Cliff(nn.Module):
    """Four classes: the first until a mean of 0.6, and no number at all beyond."""

    def forward(self, images: Tensor) -> Tensor:
        mean = images.mean((1, 2, 3))
        logits = torch.stack([1.0 - mean, mean - 1.0, mean * 0.0 - 5.0, mean * 0.0 - 6.0], 1)
        return torch.where(mean[:, None] > 0.6, torch.nan, logits)


def test_where_logits_are_no_numbers_the_attack_has_won() -> None:
    images = torch.full((2, 1, 4, 4), 0.5)
    for goal in ("transfer", "robustness"):
        found = run(Cliff(), images, torch.zeros(2).long(), "apgd-ce:steps=12", eps=0.3, goal=goal)
        assert bool((found.mean((1, 2, 3)) > 0.6).all()), "the largest loss, and it fools"


def test_the_start_lies_on_the_edge_and_belongs_to_the_image(trained: Network) -> None:
    from advkit.attacks.objective import Batch

    grey = torch.full((3, 3, 12, 12), 0.5)
    batch = Batch(grey, torch.zeros(3).long(), torch.tensor([4, 4, 7]), torch.arange(3))
    first, second = (counter_rng.streams("apgd start", [(number,)] * 3) for number in range(2))
    for norm in ("linf", "l2"):
        params = AttackParams(parse_method("apgd-ce"), eps=0.1, norm=norm)
        found = apgd._edge_start(batch, params, first)
        size = found.flatten(1).abs().amax(1) if norm == "linf" else found.flatten(1).norm(dim=1)
        assert size.tolist() == pytest.approx([0.1] * 3)
        assert torch.equal(found[0], found[1])
        assert not torch.equal(found[0], found[2])
        assert not torch.equal(found, apgd._edge_start(batch, params, second))


def test_each_wrong_class_is_aimed_at_once_likeliest_first(trained: Network, test_digits: Digits) -> None:
    from advkit.attacks.objective import Batch, Objective
    from advkit.attacks.target_ranks import ranked_targets

    images, labels = test_digits[0][:20], test_digits[1][:20]
    objective = Objective([trained], AttackParams(parse_method("apgd-t")), 20, images.device)
    batch = Batch(images, labels, torch.arange(20), torch.arange(20))
    ranks = ranked_targets(objective, batch, 99)
    assert ranks.shape == (20, 9)
    assert not bool((ranks == labels[:, None]).any())
    logits = trained(images).gather(1, ranks)
    assert bool((logits[:, :-1] >= logits[:, 1:]).all())
    assert torch.equal(ranked_targets(objective, batch, 3), ranks[:, :3])


def test_targets_of_the_user_are_refused_where_the_attack_has_its_own(trained: Network, test_digits: Digits) -> None:
    for method in ("apgd-t", "fab-t", "autoattack"):
        with pytest.raises(InputError, match=f"--target: {method} chooses its targets itself; use apgd-ce or pgd"):
            run(trained, test_digits[0][:2], test_digits[1][:2], method, targeted=True)
