"""Objectives of adversarial training: whom they attack, where they train, and what they minimise."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from adversarial import objective
from linear_net import a_batch, a_step, linear, network_of, settings, two_classes, with_batch_norm
from torch import Tensor, nn

from advkit.files.errors import InputError
from advkit.files.signals import Stop
from advkit.models.network import Network
from advkit.training import loop
from advkit.training.adversarial import as_attacked, ascend
from advkit.training.loop import train
from advkit.training.objective import TrainingStep, objective_of
from advkit.training.params import TrainParams
from advkit.training.plain import Plain
from advkit.training.robust_check import RobustCheck
from advkit.training.run import Run

pytestmark = pytest.mark.usefixtures("one_thread")
METHODS = ("pgd", "trades", "mart", "fast", "free")
EPS = 0.1


@pytest.mark.parametrize("method", [method for method in METHODS if method != "free"])
def test_an_attack_leaves_everything_as_it_was(method: str) -> None:
    """It sees evaluation mode: with dropout on, or a batch's statistics, two attacks would differ."""
    network, step = with_batch_norm(), a_batch()
    own = objective(network, settings(method, eps=EPS, step_size=EPS / 4, steps=3))
    before = {name: tensor.clone() for name, tensor in network.net.state_dict().items()}
    modes = [module.training for module in network.modules()]
    first = own.points(step)
    torch.manual_seed(1)
    second, part = own.points(step), own.points(step.take(torch.tensor([1, 4])))
    assert all(torch.equal(before[name], tensor) for name, tensor in network.net.state_dict().items())
    assert [module.training for module in network.modules()] == modes
    assert len(set(modes)) == 2, "the frozen layer is one of them"
    assert all(parameter.requires_grad and parameter.grad is None for parameter in network.parameters())
    assert torch.equal(first.images, second.images)
    torch.testing.assert_close(part.images, first.images[[1, 4]], rtol=0, atol=1e-6)
    moved = (first.images - step.images).abs()
    assert 0.0 < float(moved.max()) <= EPS + 1e-6
    assert float(first.images.min()) >= 0.0
    assert float(first.images.max()) <= 1.0


def test_after_an_error_the_network_is_as_it_was() -> None:
    network = with_batch_norm()
    modes = [module.training for module in network.modules()]
    with pytest.raises(ZeroDivisionError), as_attacked(network):
        raise ZeroDivisionError
    assert [module.training for module in network.modules()] == modes
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_a_linear_loss_is_climbed_to_the_corner_of_ball_and_box() -> None:
    weight = torch.tensor([1.0, -2.0, 0.0, 3.0]).view(1, 1, 2, 2)
    images = torch.tensor([0.5, 0.5, 0.5, 0.95]).view(1, 1, 2, 2)
    for steps, reach in ((1, 0.04), (2, 0.08), (3, EPS)):
        found = ascend(lambda x: (x * weight).flatten(1).sum(1), images, images, eps=EPS, step_size=0.04, steps=steps)
        expected = torch.tensor([0.5 + reach, 0.5 - reach, 0.5, min(1.0, 0.95 + reach)]).view(1, 1, 2, 2)
        torch.testing.assert_close(found, expected)


def test_a_step_goes_along_the_sign_of_the_finite_differences() -> None:
    """Of the cross-entropy of every image's own class; the step's length is known, so that its sign is."""
    network, step = with_batch_norm(3), a_batch(4, seed=2)
    inner = 0.3 + 0.4 * step.images  # far from the box
    step = replace(step, images=inner)
    own = objective(network, settings("pgd", eps=EPS, step_size=0.01, steps=1))
    start = own.random_start(step)
    with as_attacked(network):
        moved = own.attack(step) - start
        network.double()
        network.mean, network.std = network.mean.double(), network.std.double()
        for image in range(len(inner)):
            for pixel in range(0, 64, 7):
                shift = torch.zeros(64, dtype=torch.float64)
                shift[pixel] = 1e-5
                both = torch.stack([start[image].double() + sign * shift.view(1, 8, 8) for sign in (1, -1)])
                losses = nn.functional.cross_entropy(network(both), step.targets[[image, image]], reduction="none")
                if abs(float(losses[0] - losses[1])) > 1e-9:
                    at_edge = abs(float((start - inner)[image].flatten()[pixel])) > EPS - 0.01
                    found = float(moved[image].flatten()[pixel])
                    assert math.copysign(1.0, found) == math.copysign(1.0, float(losses[0] - losses[1])) or at_edge


def test_random_starts_belong_to_seed_epoch_and_image() -> None:
    network, step = with_batch_norm(), a_batch()
    starts = [
        objective(network, settings("pgd", TrainParams(seed=seed), eps=EPS)).random_start(replace(step, epoch=epoch))
        for seed, epoch in ((0, 0), (0, 0), (0, 1), (1, 0))
    ]
    assert torch.equal(starts[0], starts[1])
    assert not torch.equal(starts[0], starts[2])
    assert not torch.equal(starts[0], starts[3])


def test_fast_steps_from_its_start_and_cuts_back() -> None:
    weight = torch.ones(2, 64) * torch.tensor([[1.0], [-1.0]])  # class 1 gains as pixels fall
    images = torch.full((2, 1, 8, 8), 0.5)
    step = a_step(images, torch.tensor([0, 1]))
    own = objective(linear(weight), settings("fast", eps=EPS, step_size=1.25 * EPS))
    start = own.random_start(step) - images
    down_up = torch.tensor([-1.0, 1.0]).view(2, 1, 1, 1)
    found = own.points(step).images - images
    torch.testing.assert_close(found, (start + 1.25 * EPS * down_up).clamp(-EPS, EPS))
    assert 0.05 < float((found.abs() < EPS - 1e-6).float().mean()) < 0.5, "a whole step would put all at the edge"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("awp", [0.0, 0.1])
def test_at_eps_0_the_objective_is_the_plain_one(method: str, awp: float) -> None:
    found = objective_of(with_batch_norm(), [], settings(method, eps=0.0, awp=awp), None)
    assert type(found) is Plain


def test_the_ratio_is_drawn_by_image_and_epoch() -> None:
    network = with_batch_norm()
    step = a_batch(400)
    own = objective(network, settings("fast", eps=EPS, ratio=0.25))
    points = own.points(step)
    share = float(points.chosen.float().mean())
    assert 0.15 < share < 0.35
    assert torch.equal((points.images != step.images).flatten(1).any(1), points.chosen)
    assert torch.equal(own.chosen(step.take(torch.arange(50, 90))), points.chosen[50:90])
    assert not torch.equal(own.chosen(replace(step, epoch=1)), points.chosen)
    assert bool(objective(network, settings("fast", eps=EPS)).chosen(step).all())
    counts = own.terms(step, points).measures
    assert counts["forwards"].mean() == pytest.approx(1.0 + share)


PASSES = {"pgd": (6, 6), "trades": (8, 7), "mart": (7, 7), "fast": (2, 2), "free": (1, 1)}


class Counted(nn.Module):
    """Counts images that go through, and those whose gradient comes back."""

    def __init__(self) -> None:
        super().__init__()
        self.forwards = self.backwards = 0

    def forward(self, x: Tensor) -> Tensor:
        self.forwards += len(x)
        if x.requires_grad:
            x.register_hook(self._count)
        return x

    def _count(self, gradient: Tensor) -> None:
        self.backwards += len(gradient)


@pytest.mark.parametrize("method", METHODS)
def test_the_passes_that_are_told_are_those_that_were_taken(method: str) -> None:
    counted = Counted()
    network = network_of(nn.Sequential(nn.Flatten(), nn.Linear(64, 8), counted, nn.Linear(8, 2)))
    own = objective(network, settings(method, eps=EPS, step_size=EPS / 4, steps=5))
    terms = own(a_batch(6))
    torch.autograd.backward(torch.stack(list(terms.losses.values())).sum())
    assert (counted.forwards / 6, counted.backwards / 6) == PASSES[method]
    assert (terms.measures["forwards"].mean(), terms.measures["backwards"].mean()) == PASSES[method]


def test_free_moves_its_perturbation_by_the_pass_that_moves_the_weights() -> None:
    weight = torch.ones(2, 64) * torch.tensor([[1.0], [-1.0]])
    images, targets = torch.full((2, 1, 8, 8), 0.5), torch.tensor([0, 1])
    own = objective(linear(weight), settings("free", eps=EPS, step_size=0.07, replays=3))
    assert own.replays == 3
    reach = torch.tensor([-1.0, 1.0]).view(2, 1, 1, 1)
    for length in (0.0, 0.07, EPS, EPS):
        points = own.points(a_step(images, targets))
        torch.testing.assert_close(points.images, (images + length * reach).expand_as(images))
        torch.autograd.backward(own.terms(a_step(images, targets), points).losses["loss"].mean())
        own.after_backward()
    # The next images begin with the perturbations of their places, cut by the box.
    other = own.points(a_step(torch.full_like(images, 0.95), targets)).images
    torch.testing.assert_close(other, (0.95 + EPS * reach).clamp(0, 1).expand_as(images))
    again = objective(linear(weight), settings("free", TrainParams(batch_size=2), eps=EPS, step_size=0.07))
    again.load_state(own.state())
    assert torch.equal(again.points(a_step(images, targets)).images, own.points(a_step(images, targets)).images)
    for bad in ({}, {"perturbation": torch.zeros(3, 1, 8, 8)}):
        with pytest.raises(ValueError, match="perturbation"):
            again.load_state(bad)


def a_run(network: Network, params: TrainParams, **more: Any) -> Run:
    return Run(network, two_classes(), torch.arange(32), torch.arange(32, 40), [], params, None, {}, **more)


def test_free_takes_each_batch_several_times_and_misses_none(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, ...]] = []
    epochs: list[int] = []
    original = loop._step

    def watched(run: Run, optimizer: Any, own: Any, positions: Tensor, epoch: int, *more: Any) -> None:
        seen.append(tuple(positions.tolist()))
        epochs.append(epoch)
        original(run, optimizer, own, positions, epoch, *more)

    monkeypatch.setattr(loop, "_step", watched)
    params = settings("free", TrainParams(epochs=3, batch_size=8, lr=0.01), eps=EPS, replays=3)
    run = a_run(with_batch_norm(), params)
    train(run, resume=False, stop=Stop(), show=lambda progress: None)
    assert len(seen) == 3 * 4, "as many steps as any method takes in 3 epochs of 4"
    assert seen == [batch for batch in seen[::3] for _ in range(3)]
    assert sorted(sum(seen[::3], ())) == list(range(32))
    assert set(epochs) == {0}, "all replays see the images of one pass over the data"
    assert [record["forwards_per_image"] for record in run.history] == [1.0, 1.0, 1.0]


def test_the_check_counts_what_pgd_leaves() -> None:
    """Class 1 begins where the mean is 0.5; the images' means are about 0.3 and 0.7."""
    network = linear(torch.stack([torch.zeros(64), torch.full((64,), 1 / 64)]))
    network.net[1].bias = nn.Parameter(torch.tensor([0.5, 0.0]))
    network.train()
    data, held = two_classes(), torch.arange(10)
    for eps, robust in ((0.0, 10), (0.1, 10), (0.3, 0)):
        found = RobustCheck(held, eps, 5, 0).measure(network, data)
        assert found == {"check_images": 10, "check_right": 10, "robust_right": robust}
    network.net[1].bias = nn.Parameter(torch.tensor([0.72, 0.0]))  # bright images are wrong, whatever is done to them
    assert RobustCheck(held, 0.1, 5, 0).measure(network, data)["robust_right"] == 5
    assert network.training


def test_steps_of_a_mask_keep_their_identities() -> None:
    step: TrainingStep = a_batch(6)
    part = step.take(torch.tensor([False, True, False, False, True, False]))
    assert part.indices.tolist() == [1, 4]
    assert part.targets.tolist() == [1, 0]
    assert torch.equal(part.images, step.images[[1, 4]])


def test_of_several_objectives_the_strongest_point_is_chosen_image_by_image() -> None:
    """Left halves up, or right halves up; the whole loss weighs the two by the image's own brightness."""

    def half(columns: slice) -> Any:
        return lambda outputs, targets, targeted: outputs.view(-1, 8, 8)[:, :, columns].flatten(1).sum(1)

    class TwoParts:
        name = "two parts"
        attack_losses = {  # noqa: RUF012
            "whole": lambda outputs, targets, targeted: (
                outputs.view(-1, 8, 8)[:, :, :4].flatten(1).sum(1) * targets
                + outputs.view(-1, 8, 8)[:, :, 4:].flatten(1).sum(1) * (1 - targets)
            ),
            "left": half(slice(0, 4)),
            "right": half(slice(4, 8)),
        }
        strongest_of = {"either": ("left", "right")}  # noqa: RUF012
        fallback = "whole"

        def outputs(self, networks: list[nn.Module], images: Tensor) -> Tensor:
            return networks[0](images)

    network = network_of(nn.Flatten())
    step = replace(a_batch(6), targets=torch.tensor([0.9, 0.1, 0.8, 0.2, 0.7, 0.3]))
    params = settings("pgd", eps=EPS, step_size=EPS, steps=3)
    found = {}
    for name in ("left", "right", "either"):
        own = objective(network, params)
        own.task, own.objective = TwoParts(), name  # type: ignore[assignment]
        found[name] = own.points(step).images
        assert own.passes(3) == ((8, 6) if name == "either" else (3, 3))
    best = torch.where((step.targets > 0.5).view(-1, 1, 1, 1), found["left"], found["right"])
    assert torch.equal(found["either"], best)
    assert not torch.equal(found["left"], found["right"])
    asked = replace(params, adversarial=replace(params.adversarial, objective="loc"))  # type: ignore[type-var]
    with pytest.raises(InputError, match="--objective loc: classification has ce, margin, logit"):
        objective(network, asked)
