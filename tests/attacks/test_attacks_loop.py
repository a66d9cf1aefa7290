"""What holds for every attack: budgets, independence of images, restarts and goals."""

from __future__ import annotations

import copy
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from advkit.attacks import budget
from advkit.attacks.admix import Partners
from advkit.attacks.methods import NAMES, parse_method
from advkit.attacks.params import AttackParams
from advkit.attacks.run import attack
from advkit.metrics.norms import Norm, flat_norm
from advkit.models.network import Network
from advkit.models.prediction import classes_of

FLOAT_SLACK = 1e-6  # one unit in the last place of a pixel near 1, a few times
BATCH_TOLERANCE = 1e-5  # of a pixel; convolutions of other batch sizes sum in another order
ALL = [*NAMES, "mi,di,ti", "pgd,mi,ni,di,ti,si"]
SHORT = {
    "square": "square:queries=60",
    "apgd-ce": "apgd-ce:steps=6",
    "apgd-dlr": "apgd-dlr:steps=6",
    "apgd-t": "apgd-t:steps=4",
    "fab-t": "fab-t:steps=4",
    "cw": "cw:steps=4:searches=2",
    "vmi": "vmi:samples=2",
    "ssa": "ssa:views=2",
    "bsr": "bsr:views=2",
    "admix": "admix:partners=2,si:scales=2",
    "autoattack": "autoattack:steps=3:queries=20",
}


class Tiny(nn.Module):
    """Four classes, smooth, with weights from a seed."""

    def __init__(self, seed: int = 0, channels: int = 3) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.first = torch.randn(6, channels, 3, 3, generator=generator) * 0.7
        self.last = torch.randn(4, 6, generator=generator) * 2

    def forward(self, images: Tensor) -> Tensor:
        hidden = torch.tanh(torch.nn.functional.conv2d(images - 0.5, self.first, padding=1))
        return hidden.square().mean((2, 3)) @ self.last.T


class Residual(Tiny):
    """The same with a block around a skip, for methods that live on one."""

    def forward(self, images: Tensor) -> Tensor:
        hidden = torch.tanh(torch.nn.functional.conv2d(images - 0.5, self.first, padding=1))
        hidden = hidden + torch.tanh(
            torch.nn.functional.conv2d(hidden[:, : self.first.shape[1]], self.first, padding=1)
        )
        return hidden.square().mean((2, 3)) @ self.last.T


def suited(method: str) -> type[Tiny]:
    """A network that ``method`` can be made on."""
    return Residual if "sgm" in parse_method(method) else Tiny


def some_partners(images: Tensor, classes: Tensor) -> Partners:
    """Eight images of noise, two of each of four classes."""
    pool = torch.rand(8, *images.shape[1:], generator=torch.Generator().manual_seed(9))
    return Partners(pool, classes[:, None] != torch.arange(8) % 4)


class Dead(nn.Module):
    """Says 0 whatever it sees, without a gradient to follow."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1).sum(1, keepdim=True) * 0.0 + torch.tensor([3.0, 1.0, 0.0])


def run(network: nn.Module, images: Tensor, classes: Tensor, first: int = 0, **settings: object) -> Tensor:
    name = settings.pop("method", "pgd")
    params = AttackParams(parse_method(str(name)), **settings)  # type: ignore[arg-type]
    keys, mates = torch.arange(first, first + len(images)), some_partners(images, classes)
    return attack([network], images, classes, keys, params, partners=mates).images


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    count=st.integers(1, 4),
    height=st.integers(5, 11),
    width=st.integers(5, 11),
    channels=st.sampled_from([1, 3]),
    eps=st.one_of(st.floats(1e-4, 1.0), st.sampled_from([1 / 255, 8 / 255, 16 / 255])),
    norm=st.sampled_from(["linf", "l2", "l1"]),
    method=st.sampled_from(ALL),
    loss=st.sampled_from(["ce", "margin", "logit"]),
    targeted=st.booleans(),
    restarts=st.integers(1, 2),
    goal=st.sampled_from(["transfer", "robustness"]),
    eight_bit=st.booleans(),
)
def test_result_is_an_image_inside_the_budget(
    seed: int,
    count: int,
    height: int,
    width: int,
    channels: int,
    eps: float,
    norm: Norm,
    method: str,
    loss: str,
    targeted: bool,
    restarts: int,
    goal: str,
    eight_bit: bool,
) -> None:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(count, channels, height, width, generator=generator)
    if eight_bit:
        images = torch.round(images * 255) / 255
    classes = torch.randint(0, 4, (count,), generator=generator)
    kept = images.clone()
    found = run(
        suited(method)(channels=channels),
        images,
        classes,
        method=SHORT.get(method, method),
        eps=eps,
        norm=norm if norm in parse_method(method).attack.norms else "l2",
        steps=3,
        loss=loss,
        targeted=targeted and not parse_method(method).attack.chooses_targets,
        restarts=restarts,
        goal=goal,
        seed=seed,
    )
    assert torch.equal(images, kept)
    assert found.dtype == torch.float32
    assert found.shape == images.shape
    assert bool(((found >= 0) & (found <= 1)).all())
    norm = norm if norm in parse_method(method).attack.norms else "l2"
    assert float(flat_norm(found - images, norm).max()) <= eps * (1 + 1e-5) + FLOAT_SLACK
    if eight_bit:
        levels = budget.quantize(found, images, eps, norm)
        assert levels.dtype == torch.uint8
        moved = levels.double() - torch.round(images.double() * 255)
        assert float(flat_norm(moved, norm).max()) <= eps * 255 + 2e-3


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("method", ALL)
def test_eps_zero_changes_nothing(method: str, norm: Norm) -> None:
    images = torch.rand(5, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    found = run(Tiny(), images, torch.arange(5) % 4, method=method, eps=0.0, norm=norm)
    assert torch.equal(found, images)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize(
    "method",
    ["pgd", "mi,di,ti", "ni,si", "noise", "apgd-dlr:steps=6", "apgd-t:steps=4:targets=2", "fab-t:steps=3:targets=2"],
)
def test_batches_and_order_make_no_difference(
    method: str, norm: Norm, trained: Network, test_digits: tuple[Tensor, Tensor]
) -> None:
    images, labels = test_digits[0][:32], test_digits[1][:32]
    eps = {"linf": 8 / 255, "l2": 0.5, "l1": 3.0}[norm]
    params = AttackParams(parse_method(method), eps=eps, norm=norm, steps=3, seed=5)
    indices = torch.arange(32) * 7 + 3
    # float64: a sign is a cliff, and a last bit decides which side of it a gradient near 0 falls on.
    network = _doubled(trained)

    def by(size: int, rows: Tensor) -> Tensor:
        parts = [attack([network], images[r], labels[r], indices[r], params).images for r in rows.split(size)]
        return torch.cat(parts)

    whole = by(32, torch.arange(32))
    few = torch.arange(8)  # one at a time is slow
    assert float((by(1, few) - whole[few]).abs().max()) <= BATCH_TOLERANCE
    assert float((by(7, torch.arange(32)) - whole).abs().max()) <= BATCH_TOLERANCE
    shuffled = torch.randperm(32, generator=torch.Generator().manual_seed(1))
    assert float((by(7, shuffled) - whole[shuffled]).abs().max()) <= BATCH_TOLERANCE
    assert bool((flat_norm(whole - images, norm) > 0.5 * eps).any())


class _Doubled(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images.double())


def _doubled(network: Network) -> nn.Module:
    return _Doubled(copy.deepcopy(network).double())


def test_same_index_same_start_other_index_another() -> None:
    image = torch.full((2, 3, 9, 9), 0.5)
    same = attack([Dead()], image, torch.zeros(2).long(), torch.tensor([4, 4]), AttackParams(parse_method("pgd")))
    differs = attack([Dead()], image, torch.zeros(2).long(), torch.tensor([4, 5]), AttackParams(parse_method("pgd")))
    assert torch.equal(same.images[0], same.images[1])
    assert torch.equal(same.images[0], differs.images[0])
    assert not torch.equal(differs.images[0], differs.images[1])


def test_seed_decides_and_is_enough() -> None:
    images, classes = torch.rand(3, 3, 9, 9, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2])
    runs = [run(Tiny(), images, classes, method="pgd,di", steps=1, step_size=0.001, seed=s) for s in (0, 0, 1)]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_success_grows_with_eps(norm: Norm, trained: Network, test_digits: tuple[Tensor, Tensor]) -> None:
    images, labels = test_digits[0][:100], test_digits[1][:100]
    successes = []
    for eps in (0.0, 2 / 255, 4 / 255, 8 / 255, 16 / 255, 32 / 255):
        radius = eps * {"linf": 1, "l2": 20, "l1": 60}[norm]
        found = run(trained, images, labels, eps=radius, norm=norm, steps=5, goal="robustness")
        successes.append(float((trained(found).argmax(1) != labels).float().mean()))
    assert all(more >= fewer - 0.03 for fewer, more in pairwise(successes))  # a few images may hang on the random start
    assert successes[-1] > successes[0] + 0.5


@pytest.mark.parametrize("goal", ["transfer", "robustness"])
def test_restarts_never_weaken(goal: str, trained: Network, test_digits: tuple[Tensor, Tensor]) -> None:
    images, labels = test_digits[0][:60], test_digits[1][:60]
    losses, hits = [], []
    for restarts in (1, 2, 4):
        found = run(trained, images, labels, eps=6 / 255, steps=3, restarts=restarts, goal=goal)
        logits = trained(found)
        losses.append(nn.functional.cross_entropy(logits, labels, reduction="none"))
        hits.append(classes_of(logits) != labels)
    for (fewer, more), (early, late) in zip(pairwise(losses), pairwise(hits), strict=True):
        assert bool((late | ~early).all())
        if goal == "transfer":
            assert float((fewer - more).max()) <= 1e-4
        else:  # an image once fooled is left alone; the others climb
            assert float((fewer - more)[~early & ~late].max()) <= 1e-4
    assert bool((losses[0] != losses[-1]).any())


def test_robustness_stops_early_and_transfer_does_not(trained: Network, test_digits: tuple[Tensor, Tensor]) -> None:
    images, labels = test_digits[0][:60], test_digits[1][:60]
    indices = torch.arange(60)

    def cost(goal: str, restarts: int = 1) -> tuple[int, int, Tensor]:
        params = AttackParams(parse_method("pgd"), eps=16 / 255, goal=goal, restarts=restarts)  # type: ignore[arg-type]
        found = attack([trained], images, labels, indices, params)
        return found.forwards, found.backwards, found.images

    assert cost("transfer")[:2] == (600, 600)
    assert cost("transfer", 2)[:2] == (2 * 600 + 2 * 60, 1200)  # comparing restarts takes a pass of each
    forwards, backwards, _ = cost("robustness")
    assert backwards < 400
    assert forwards < 460
    assert cost("robustness", 3)[1] < 3 * backwards
    # What is wrong already costs one pass and stays untouched.
    predicted = trained(images).argmax(1)
    params = AttackParams(parse_method("mi"), goal="robustness", restarts=3)
    found = attack([trained], images, (predicted + 1) % 10, indices, params)
    assert torch.equal(found.images, images)
    assert found.backwards == 60


@pytest.mark.parametrize("method", ["pgd", "mi", "ni,di"])
def test_robustness_is_at_least_as_strong_as_the_last_iterate(
    method: str, trained: Network, test_digits: tuple[Tensor, Tensor]
) -> None:
    images, labels = test_digits[0][:60], test_digits[1][:60]
    settings = {"method": method, "eps": 6 / 255, "steps": 5}
    last = trained(run(trained, images, labels, goal="transfer", **settings)).argmax(1) != labels
    best = trained(run(trained, images, labels, goal="robustness", **settings)).argmax(1) != labels
    assert bool((best | ~last).all())


def test_look_ahead_keeps_its_proportion_under_l2(trained: Network, test_digits: tuple[Tensor, Tensor]) -> None:
    """Nesterov's look-ahead is a step, not sqrt(C H W) of them: one that long is weaker than a single step."""
    images, labels = test_digits
    loss = {}
    for method in ("fgsm", "mi", "ni"):
        found = run(trained, images, labels, method=method, norm="l2", eps=1.0, steps=5)
        loss[method] = float(nn.functional.cross_entropy(trained(found), labels))
    assert loss["ni"] > loss["fgsm"]
    assert loss["ni"] > 0.95 * loss["mi"]


def test_targeted_reaches_its_target(trained: Network, test_digits: tuple[Tensor, Tensor]) -> None:
    images, labels = test_digits[0][:60], test_digits[1][:60]
    wanted = (labels + 1) % 10
    before = float((trained(images).argmax(1) == wanted).float().mean())
    for loss in ("ce", "margin", "logit"):
        found = run(trained, images, wanted, method="mi", eps=64 / 255, targeted=True, loss=loss)
        assert float((trained(found).argmax(1) == wanted).float().mean()) > max(0.7, before)


def test_bfloat16_attack_is_about_as_strong(trained: Network, test_digits: tuple[Tensor, Tensor]) -> None:
    images, labels = test_digits[0][:60], test_digits[1][:60]
    rates = []
    for precision in ("float32", "bfloat16"):
        found = run(trained, images, labels, eps=16 / 255, steps=5, precision=precision)
        assert found.dtype == torch.float32
        rates.append(float((trained(found).argmax(1) != labels).float().mean()))
    assert abs(rates[0] - rates[1]) <= 0.1
