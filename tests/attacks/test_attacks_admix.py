"""Admix: the pool that partners come from, the partners, and the mean of gradients by hand."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from test_attacks_loop import Tiny
from torch import Tensor

from advkit.attacks import dataset
from advkit.attacks.admix import POOL_SIZE, Partners, mixed, partner_pool
from advkit.attacks.dataset import attack_images, attack_set, clean_batch, pool_for
from advkit.attacks.methods import parse_method
from advkit.attacks.params import AttackParams
from advkit.attacks.run import attack
from advkit.data import counter_rng
from advkit.data.images import ImageSet
from advkit.files.errors import InputError
from advkit.tasks.classification import CLASSIFICATION

CLASSES = ("a", "b", "c", "d")


def image_set(labels: Tensor, indices: Tensor | None = None) -> ImageSet:
    """Images of noise in (0.3, 0.7), far from black and white."""
    count = len(labels)
    images = 0.3 + 0.4 * torch.rand(count, 3, 7, 7, generator=torch.Generator().manual_seed(2))
    rows = torch.arange(count)
    keys = rows * 3 + 1 if indices is None else indices
    return ImageSet("made", "", CLASSES, (3, 7, 7), labels, keys, rows, lambda part: images[part])


class Doubled(Tiny):
    """In float64, where no last bit decides the sign of a gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = self.first.double(), self.last.double()

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images.double())


def test_the_pool_holds_as_many_of_each_class_as_there_are() -> None:
    labels = torch.tensor([0] * 300 + [1] * 40 + [2] * 5)
    data = image_set(labels[torch.randperm(345, generator=torch.Generator().manual_seed(0))])
    pool = partner_pool(data, CLASSIFICATION, 0)
    assert pool.images.shape == (POOL_SIZE, 3, 7, 7)
    assert torch.bincount(pool.strata).tolist() == [30, 29, 5] or torch.bincount(pool.strata).tolist() == [29, 30, 5]
    everything = data.batch(slice(None))[0]
    place = (pool.images[:, None] == everything[None]).flatten(2).all(2).int().argmax(1)
    assert torch.equal(everything[place], pool.images)
    assert torch.equal(data.targets[place], pool.strata)
    assert len(set(place.tolist())) == POOL_SIZE
    assert torch.equal(partner_pool(data, CLASSIFICATION, 0).images, pool.images)
    assert not torch.equal(partner_pool(data, CLASSIFICATION, 1).images, pool.images)
    order = torch.randperm(345, generator=torch.Generator().manual_seed(1))
    other = partner_pool(data.subset(order), CLASSIFICATION, 0)
    assert {tuple(one.flatten().tolist()) for one in other.images} == {
        tuple(one.flatten().tolist()) for one in pool.images
    }


def test_a_small_set_is_its_own_pool() -> None:
    data = image_set(torch.tensor([3, 3, 1]))
    pool = partner_pool(data, CLASSIFICATION, 5)
    assert torch.equal(pool.images, data.batch(slice(None))[0])
    assert pool.partners(torch.tensor([1, 3])).allowed.tolist() == [[True, True, False], [False, False, True]]


def test_images_of_one_class_are_refused() -> None:
    with pytest.raises(
        InputError, match=r"^admix: the 6 images of made are of one class, .*; take more, or leave it out$"
    ):
        list(attack_set([Tiny()], [Tiny()], image_set(torch.full((6,), 2)), params("admix"), None, **ONCE))


ONCE = {"batch_size": 4, "device": "cpu"}


def params(method: str, **settings: object) -> AttackParams:
    return AttackParams(parse_method(method), **settings)  # type: ignore[arg-type]


def drawn(indices: Tensor, allowed: Tensor, seed: int = 0, stream: int = 1) -> Tensor:
    """Which of the pool's images is mixed into each: their pixels tell."""
    pool = torch.arange(allowed.shape[1], dtype=torch.float32).view(-1, 1, 1, 1)
    zeros = torch.zeros(len(indices), 1, 1, 1)
    found = mixed(zeros, indices, seed, stream, Partners(pool, allowed), eta=1.0)
    return found.flatten().long()


def test_partners_are_drawn_evenly_from_other_classes() -> None:
    classes = torch.arange(8) % 4
    allowed = (torch.arange(6000) % 4)[:, None] != classes
    found = drawn(torch.arange(6000), allowed)
    assert bool(allowed[torch.arange(6000), found].all())
    counts = Counter(found[::4].tolist())  # of images of class 0
    assert sorted(counts) == [1, 2, 3, 5, 6, 7]
    assert all(210 < count < 290 for count in counts.values())


def test_a_partner_is_drawn_for_the_image_alone() -> None:
    allowed = torch.ones(50, 64, dtype=torch.bool)
    keys = torch.arange(50) * 11
    whole = drawn(keys, allowed)
    rows = torch.tensor([41, 3, 7])
    assert torch.equal(drawn(keys[rows], allowed[rows]), whole[rows])
    assert int((drawn(keys, allowed, seed=1) == whole).sum()) < 10
    assert int((drawn(keys, allowed, stream=2) == whole).sum()) < 10
    assert int((drawn(keys + 1, allowed) == whole).sum()) < 10


def test_no_draw_leaves_the_allowed_ones() -> None:
    """The largest numbers that are drawn, and pools with one allowed image only."""
    allowed = torch.eye(3, dtype=torch.bool)[torch.arange(900) % 3]
    assert torch.equal(drawn(torch.arange(900), allowed), torch.arange(900) % 3)


@pytest.mark.parametrize("start", [0, 1])
def test_the_direction_is_the_mean_of_gradients_by_hand(start: int) -> None:
    """Two partners, three scales, in L2, where a step shows all of the direction; the second step has new partners."""
    data, eps, network = image_set(torch.arange(12) % 4), 1e-3, Doubled()
    images, labels = data.batch(slice(5))
    keys, pool = data.indices[:5], partner_pool(data, CLASSIFICATION, 0)
    allowed = labels[:, None] != pool.strata
    x = images.clone()
    method = "admix:partners=2:eta=0.3,si:scales=3"
    settings = {"norm": "l2", "eps": eps, "step_size": eps / 2, "loss": "logit"}
    if start:  # where the first step left it
        x = attack([network], images, labels, keys, params(method, steps=1, **settings), partners=pool.partners(labels))
        x = x.images
    point = x.double().requires_grad_()
    losses = torch.zeros((), dtype=torch.float64)
    for number in range(2):
        ranks = counter_rng.uniform(0, keys, counter_rng.stream("admix", 0, start, number), 1)[:, 0]
        for row in range(5):
            others = allowed[row].nonzero().flatten()
            partner = pool.images[others[int(ranks[row] * len(others))]]
            assert pool.strata[others].ne(labels[row]).all()
            for scale in range(3):
                seen = (point[row] + 0.3 * partner) / 2**scale
                losses = losses - network(seen[None])[0, labels[row]]
    gradient = torch.autograd.grad(losses, point)[0] / 6
    expected = eps / 2 * gradient / gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    many = params(method, steps=1 + start, **settings)
    found = attack([network], images, labels, keys, many, partners=pool.partners(labels))
    assert found.backwards == 5 * 6 * (1 + start)
    difference = (found.images - x) - expected
    assert float(difference.abs().max()) < 1e-3 * float(expected.abs().max())


@pytest.mark.parametrize("method", ["admix:partners=2,si:scales=2", "mi,di,ti,admix:partners=2,si:scales=1"])
def test_batches_make_no_difference(method: str) -> None:
    data, network = image_set(torch.arange(30) % 4), [Doubled()]
    settings = params(method, eps=0.05, steps=3, restarts=2, seed=4)

    def by(size: int, part: ImageSet) -> Tensor:
        made = attack_set(network, network, part, settings, None, batch_size=size, device="cpu")
        return torch.cat([one.adversarial for one in made])

    whole = by(30, data)
    for size in (1, 7):
        assert float((by(size, data) - whole).abs().max()) < 1e-6
    # The same images among other mates, in another order.
    rows = torch.tensor([20, 3, 11])
    clean = clean_batch(data, slice(None))
    mates = dataset.CleanBatch(clean.images[rows], clean.targets[rows], clean.indices[rows], 4)
    few = attack_images(network, network, mates, settings, None, "cpu", pool=pool_for(network, data, [settings]))
    assert float((few.adversarial - whole[rows]).abs().max()) < 1e-6
    plain = torch.cat(
        [one.adversarial for one in attack_set(network, network, data, params("mi", eps=0.05, steps=3), None, **ONCE)]
    )
    assert float((plain - whole).abs().max()) > 0.01


def test_partners_are_of_another_class_than_the_true_one_whatever_is_aimed_at(monkeypatch: pytest.MonkeyPatch) -> None:
    data, seen = image_set(torch.arange(8) % 4), []

    def watched(*arguments: object, partners: Partners, **more: object) -> object:
        seen.append(partners.allowed)
        return attack(*arguments, partners=partners, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(dataset, "attack", watched)
    aimed = params("admix:partners=1,si:scales=1", targeted=True, steps=1)
    list(attack_set([Tiny()], [Tiny()], data, aimed, "next", **{**ONCE, "batch_size": 8}))
    assert torch.equal(seen[0], data.targets[:, None] != partner_pool(data, CLASSIFICATION, 0).strata)


def test_it_brings_the_scaled_copies_of_si() -> None:
    assert parse_method("admix").name == "si,admix"
    assert parse_method("admix").copies == 15
    assert parse_method("admix:partners=2,si:scales=1").name == "si:scales=1,admix:partners=2"
    assert parse_method("mi,admix,si:scales=1").copies == 3
    views = parse_method("admix:partners=2,si:scales=2,bsr:views=3")
    assert len({tuple(views.numbered(number).values()) for number in range(views.copies)}) == 12


def test_each_part_of_a_composition_has_its_effect() -> None:
    data, parts = image_set(torch.arange(8) % 4), ["mi", "di:probability=1:shrink=0.5", "ti", "admix:partners=2"]
    images, labels = data.batch(slice(None))
    mates = partner_pool(data, CLASSIFICATION, 0).partners(labels)

    def made(method: str) -> Tensor:
        found = attack([Doubled()], images, labels, data.indices, params(method, steps=4), partners=mates)
        return found.images

    whole = made(",".join(parts))
    for left in parts:
        assert not torch.equal(made(",".join(part for part in parts if part != left)), whole), left
    for eta in ("0", "0.1"):
        assert not torch.equal(made(",".join([*parts[:3], f"admix:partners=2:eta={eta}"])), whole)
    without = made("si")
    assert torch.allclose(made("admix:eta=0"), without, atol=1e-6), "nothing mixed in leaves si"


def test_partners_are_asked_for() -> None:
    with pytest.raises(ValueError, match="nothing to mix in"):
        attack([Tiny()], torch.rand(1, 3, 7, 7), torch.tensor([0]), torch.arange(1), params("admix"))
