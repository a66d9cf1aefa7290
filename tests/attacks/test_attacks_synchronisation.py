"""On a GPU the host runs ahead of the device: what a step may not ask for, and that nothing else is found so."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, Literal

import pytest
import torch
from test_attacks_gradients import Poisoned, Scaled
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from advkit.attacks import objective
from advkit.attacks.iterative import keep_better
from advkit.attacks.methods import parse_method
from advkit.attacks.params import AttackParams
from advkit.attacks.run import AttackBatch, attack
from advkit.metrics.norms import Norm
from advkit.models.network import Network

READS = ("aten._local_scalar_dense", "aten.nonzero", "aten.masked_select", "aten.equal")
INDEXES = ("aten.index.", "aten.index_put")


class Reads(TorchDispatchMode):
    """Counts the operations for whose result the host would wait: numbers it reads, and masks whose length it asks."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func)
        masks = name.startswith(INDEXES) and any(one is not None and one.dtype == torch.bool for one in args[1])
        self.count += name.startswith(READS) or masks
        return func(*args, **(kwargs or {}))


def run_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objective, "may_synchronise", lambda device: False)


def found_by(
    network: nn.Module, data: tuple[Tensor, Tensor], method: str, goal: Literal["robustness", "transfer"], **more: Any
) -> AttackBatch:
    images, labels = data
    params = AttackParams(parse_method(method), eps=16 / 255, goal=goal, **more)
    return attack([network], images, labels, torch.arange(len(images)), params)


@pytest.mark.parametrize("restarts", [1, 2])
@pytest.mark.parametrize("method", ["pgd", "mi,di,ti,si", "ni", "vmi:samples=2", "ssa:views=2", "bsr:views=2"])
def test_no_step_towards_transfer_asks_the_device(
    method: str, restarts: int, trained: Network, test_digits: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    few = test_digits[0][:4], test_digits[1][:4]

    def reads(steps: int) -> int:
        with Reads() as seen:
            found_by(trained, few, method, "transfer", steps=steps, restarts=restarts)
        return seen.count

    assert reads(5) > reads(2)  # a processor looks at every gradient
    run_ahead(monkeypatch)
    assert reads(5) == reads(2)


def test_a_step_towards_robustness_asks_once_who_may_leave(
    trained: Network, test_digits: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    few = test_digits[0][:4], test_digits[1][:4]
    run_ahead(monkeypatch)
    counts = []
    for steps in (2, 5):
        params = AttackParams(parse_method("pgd"), eps=1e-4, steps=steps, goal="robustness")  # so that none leaves
        with Reads() as seen:
            attack([trained], *few, torch.arange(4), params)
        counts.append(seen.count)
    assert counts[1] - counts[0] == 3


@pytest.mark.parametrize("goal", ["robustness", "transfer"])
@pytest.mark.parametrize("method", ["pgd", "mi,si", "vmi:samples=4"])
def test_images_without_gradients_are_attacked_as_where_each_is_looked_at(
    method: str,
    goal: Literal["robustness", "transfer"],
    trained: Network,
    test_digits: tuple[Tensor, Tensor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = test_digits[0][:40], test_digits[1][:40]
    network = Scaled(trained, 15.0)  # some of the images have no gradient of the cross-entropy, some do
    more: dict[str, Any] = {"steps": 4, "restarts": 2}
    looked = found_by(network, data, method, goal, **more)
    assert 0 < int(looked.zero_gradients.sum()) < 40
    run_ahead(monkeypatch)
    ahead = found_by(network, data, method, goal, **more)
    assert torch.equal(ahead.zero_gradients, looked.zero_gradients)
    assert torch.equal(ahead.dead, looked.dead)
    far = (ahead.images - looked.images).flatten(1).abs().mean(1)
    assert float(far.max()) < 1e-3  # a pixel whose gradient is about 0 may go the other way in a smaller batch
    right = (network(one.images).argmax(1) == data[1] for one in (looked, ahead))
    assert torch.equal(*right)


class Wary(Poisoned):
    """Takes nothing but numbers, whatever it gives."""

    def forward(self, images: Tensor) -> Tensor:
        assert bool(images.isfinite().all())
        return super().forward(images)


def test_outputs_that_are_no_numbers_are_none_of_the_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.rand(4, 3, 9, 9, generator=torch.Generator().manual_seed(0)) * 0.5
    images[2] = 1.0
    data = images, torch.zeros(4, dtype=torch.int64)
    looked = found_by(Wary(), data, "mi", "transfer", steps=3, norm="l2")
    run_ahead(monkeypatch)
    ahead = found_by(Wary(), data, "mi", "transfer", steps=3, norm="l2")
    assert torch.equal(ahead.images, looked.images)
    assert ahead.dead.tolist() == looked.dead.tolist() == [False, False, True, False]


class Steep(nn.Module):
    """Infinitely steep where the first pixel is black; NaN for all-bright images."""

    def forward(self, images: Tensor) -> Tensor:
        score = images.flatten(1).mean(1) + images[:, 0, 0, 0].sqrt()
        return torch.stack([-score, score], 1).where(score[:, None] < 1.9, torch.nan)


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize(("method", "norm"), [("fgsm", "linf"), ("fgsm", "l2"), ("mi", "linf"), ("mi", "l2")])
def test_an_infinite_gradient_is_one_whoever_is_beside_it(
    method: str, norm: Norm, ahead: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = torch.rand(2, 3, 9, 9, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.2
    images[0, 0, 0, 0], images[1] = 0.0, 1.0
    labels = torch.zeros(2, dtype=torch.int64)
    if ahead:
        run_ahead(monkeypatch)
    more: dict[str, Any] = {"loss": "margin", "norm": norm, "steps": 1}
    alone = found_by(Steep(), (images[:1], labels[:1]), method, "transfer", **more)
    beside = found_by(Steep(), (images, labels), method, "transfer", **more)
    assert beside.dead.tolist() == [False, True]
    assert torch.equal(beside.images[0], alone.images[0])
    assert float(alone.images[0, 0, 0, 0]) == pytest.approx(16 / 255, rel=1e-3)  # all of an L2 budget


@pytest.mark.parametrize("goal", ["robustness", "transfer"])
def test_the_better_point_is_kept_as_it_will_be_written(goal: Literal["robustness", "transfer"]) -> None:
    """Of five images three are on their way; of equal losses the earlier stays."""
    losses = torch.tensor([2.0, 1.0, 3.0])
    hit = torch.tensor([False, False, True])
    result, result_loss = torch.zeros(5, 1, 1, 1), torch.tensor([9.0, 1.0, 9.0, 1.0, 4.0])
    x, written = torch.full((3, 1, 1, 1), 0.5), torch.full((3, 1, 1, 1), 0.6)
    made: Any = SimpleNamespace(
        verdict=lambda outputs, x, batch: (hit, losses, written),
        comparable=lambda loss: loss,
        params=AttackParams(parse_method("pgd"), goal=goal),
    )
    anything: Any = None
    assert keep_better(result, result_loss, torch.tensor([1, 3, 4]), x, anything, made, anything) is hit
    fooled = goal == "robustness"
    assert result.flatten().tolist() == pytest.approx([0.0, 0.6, 0.0, 0.0, 0.6 if fooled else 0.0])
    assert result_loss.tolist() == [9.0, 2.0, 9.0, 1.0, torch.inf if fooled else 4.0]


def test_a_host_waits_for_no_gpu() -> None:
    assert objective.may_synchronise(torch.device("cpu"))
    assert not objective.may_synchronise(torch.device("cuda"))


def test_passes_of_images_that_are_run_again_count_twice(
    trained: Network, test_digits: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    images, steps = test_digits[0][:40], 4
    data = images, test_digits[1][:40]
    run_ahead(monkeypatch)
    plain = found_by(trained, data, "pgd", "transfer", steps=steps, loss="margin")
    assert (plain.forwards, plain.backwards) == (40 * steps, 40 * steps)
    assert not plain.zero_gradients.any()
    found = found_by(Scaled(trained, 15.0), data, "pgd", "transfer", steps=steps)
    again = int(found.zero_gradients.sum())
    assert again > 0
    assert found.backwards > 40 * steps + again * steps  # and those of the fallback
