"""What makes attacks quick changes nothing: parts of a batch, windows of images on their way, queries ahead."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from advkit.attacks import dataset, square
from advkit.attacks.admix import Partners
from advkit.attacks.dataset import AttackedBatch, attack_set
from advkit.attacks.hyperplane import to_hyperplane
from advkit.attacks.methods import parse_method
from advkit.attacks.objective import Batch, Objective
from advkit.attacks.params import AttackParams
from advkit.attacks.run import AttackBatch, attack
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


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_hyperplanes_are_reached_in_float32_too(norm: str) -> None:
    """3,072 pixels, many of them black or white, and slopes over many orders of magnitude."""
    generator = torch.Generator().manual_seed(0)
    x, w = torch.rand(64, 3072, generator=generator), torch.randn(64, 3072, generator=generator)
    x[:, ::7], x[:, ::11], w = 0.0, 1.0, w * torch.rand(64, 3072, generator=generator) ** 3
    c = torch.randn(64, generator=generator) * torch.tensor([0.01, 1.0, 30.0, 60.0]).repeat(16)
    found = to_hyperplane(x, w, c, norm)  # type: ignore[arg-type]
    assert bool(((w.double() * found.double()).sum(1) - c).abs().le(1e-5 * c.abs()).all())
    exact = to_hyperplane(x.double(), w.double(), c.double(), norm)  # type: ignore[arg-type]
    # In L1 one entry takes what the sums of all others were rounded by.
    assert torch.allclose(found.double(), exact, atol=1e-5 if norm == "l1" else 1e-6)


@pytest.mark.parametrize("goal", ["robustness", "transfer"])
@pytest.mark.parametrize("method", ["apgd-t:steps=4:targets=5", "fab-t:steps=4:targets=5"])
def test_targets_side_by_side_belong_to_their_image(
    method: str, goal: str, double: Network, test_digits: Digits
) -> None:
    """Each image alone, among others, and among them in another order in small blocks."""
    images, labels, indices = test_digits[0][:7].double(), test_digits[1][:7], torch.arange(7)
    params = AttackParams(parse_method(method), eps=0.06, goal=goal)  # type: ignore[arg-type]
    together = attack([double], images, labels, indices, params, at_once=64).images  # all copies in one block
    order = torch.tensor([4, 0, 6, 2, 5, 1, 3])
    shuffled = attack([double], images[order], labels[order], indices[order], params, at_once=3).images
    assert torch.allclose(shuffled, together[order], atol=1e-9)
    for k in range(7):
        part = slice(k, k + 1)
        alone = attack([double], images[part], labels[part], indices[part], params).images
        assert torch.allclose(alone, together[part], atol=1e-9), k


class FourthInReach(nn.Module):
    """Six classes by a mean; of those that are wrong, likelier ones lie far, and only the fourth within a short way."""

    def forward(self, images: Tensor) -> Tensor:
        brighter = images.mean((1, 2, 3)) - 0.5
        offsets = torch.tensor([1.0, 0.9, 0.8, 0.7, -3.0, -5.0])
        slopes = torch.tensor([0.0, -1e-3, -1e-3, -1e-3, 80.0, -1e-3])
        return offsets + slopes * brighter[:, None]


@pytest.mark.parametrize("method", ["apgd-t:steps=10", "fab-t:steps=10"])
def test_every_rank_is_aimed_at_and_who_fools_is_kept(method: str) -> None:
    images, labels, network = torch.full((5, 1, 4, 4), 0.5), torch.zeros(5).long(), FourthInReach()
    fooled = {}
    for targets in (3, 4, 5):
        params = AttackParams(parse_method(f"{method}:targets={targets}"), eps=0.1, goal="robustness")
        found = attack([network], images, labels, torch.arange(5), params)
        fooled[targets] = int((network(found.images).argmax(1) == 4).sum())
        # The likeliest class takes all its steps; then the copies leave together, as the fourth is reached at once.
        assert found.backwards <= 5 * (11 + 4 * targets) or targets == 3
    assert (fooled[4], fooled[5]) == (5, 5)
    assert fooled[3] == 0 or method.startswith("apgd"), "whose loss has a denominator that may lead there too"


def test_what_is_told_of_a_window_is_told_once_and_of_the_right_images() -> None:
    pixels, rows = torch.rand(7, 1, 2, 2), torch.arange(7)
    batch = AttackBatch(pixels, 70, 35, rows % 2 == 0, rows > 4, {"apgd-ce": 3})
    whole = AttackedBatch(pixels, pixels + 1, rows, rows + 10, rows + 20, batch, 1.5)
    parts = list(whole.split(3))
    assert [len(part.indices) for part in parts] == [3, 3, 1]
    for name in ("clean", "adversarial", "targets", "indices", "aims"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(whole, name)), name
    for name in ("images", "zero_gradients", "dead"):
        assert torch.equal(torch.cat([getattr(part.batch, name) for part in parts]), getattr(batch, name)), name
    told = [(one.batch.forwards, one.batch.backwards, one.seconds) for one in parts]
    assert told == [(70, 35, 1.5), (0, 0, 0), (0, 0, 0)]
    assert [one.batch.stages for one in parts] == [{"apgd-ce": 3}, {}, {}]


class Halves(nn.Module):
    """Ten classes; in bfloat16 the second wins by rounding, in float32 the first."""

    def forward(self, images: Tensor) -> Tensor:
        weight = torch.zeros(10, 16)
        weight[0], weight[1] = 1.0, 0.999
        return nn.functional.linear(images.flatten(1), weight, None) + torch.tensor([0.0, 1e-3] + [-50.0] * 8)


def test_verdicts_in_float32_bring_their_losses_and_leave_the_precision_as_it_was() -> None:
    params = AttackParams(parse_method("pgd"), goal="robustness", precision="bfloat16", loss="margin")
    network, images = Halves(), torch.full((3, 1, 4, 4), 0.1)
    objective = Objective([network], params, 3, images.device)
    batch = Batch(images, torch.zeros(3).long(), torch.arange(3), torch.arange(3))
    fooling = torch.zeros(3, 10)
    fooling[:, 1] = 5.0  # what passes in bfloat16 might have said
    hit, losses, _ = objective.verdict(fooling, images, batch)
    assert not bool(hit.any())
    assert torch.allclose(losses, objective.losses(network(images), batch.targets))
    assert objective.precision == "bfloat16"
    with pytest.raises(ValueError, match="within"), objective.in_float32():
        raise ValueError("within")
    assert objective.precision == "bfloat16"


def test_what_a_stage_of_autoattack_fooled_stays_fooled_in_bfloat16(trained: Network, test_digits: Digits) -> None:
    images, labels = test_digits[0][:80], test_digits[1][:80]
    found: dict[str, Tensor] = {}
    for method in ("autoattack:steps=6:targets=3:queries=5", "apgd-ce:steps=6", "fab-t:steps=6:targets=3"):
        params = AttackParams(parse_method(method), eps=0.05, goal="robustness", precision="bfloat16")
        done = attack([trained], images, labels, torch.arange(80), params)
        found[method.partition(":")[0]] = trained(done.images).argmax(1) != labels
        if done.stages:
            right = int((trained(images).argmax(1) == labels).sum())
            assert sum(done.stages.values()) == int(found["autoattack"].sum()) - (80 - right)
    assert bool((found["autoattack"] | ~found["apgd-ce"]).all())


class Nowhere(nn.Module):
    """No number beyond a mean of 0.6, and the wanted class below 0.45."""

    def forward(self, images: Tensor) -> Tensor:
        mean = images.mean((1, 2, 3))
        logits = torch.stack([0.0 * mean, 10 * (0.45 - mean), 5 * (mean - 0.9), -9 + 0 * mean], 1)
        return torch.where(mean[:, None] > 0.6, torch.nan, logits)


@pytest.mark.parametrize("method", ["pgd", "square:queries=60"])
def test_outputs_that_are_no_numbers_are_no_class_that_is_aimed_at(method: str) -> None:
    images, aims = torch.full((4, 1, 4, 4), 0.55), torch.ones(4).long()
    params = AttackParams(parse_method(method), eps=0.3, targeted=True, goal="robustness")
    found = attack([Nowhere()], images, aims, torch.arange(4), params).images
    assert bool((Nowhere()(found).argmax(1) == 1).all())
    assert bool((found.mean((1, 2, 3)) < 0.5).all())


def test_partners_go_with_their_images() -> None:
    allowed = torch.tensor([[True, False, True], [False, True, True], [True, True, False]])
    pool = Partners(torch.rand(3, 1, 2, 2), allowed)
    for which in (torch.tensor([2, 0]), torch.tensor([False, True, True]), slice(1, 3)):
        assert torch.equal(pool.take(which).allowed, allowed[which])
