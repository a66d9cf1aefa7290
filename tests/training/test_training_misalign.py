"""The penalty: its value, its gradient, and what it is blind to."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from advkit.data import counter_rng
from advkit.data.augment import augmented
from advkit.metrics.gradient_similarity import cosines, expected_abs_cosine
from advkit.models.build import create
from advkit.models.network import Network
from advkit.training import misalign
from advkit.training.fused_view import FusedView
from advkit.training.misalign import Misalignment, penalty_of
from advkit.training.params import MisalignParams

SIZE = (1, 8, 8)


def input_gradients(network: torch.nn.Module, images: Tensor, labels: Tensor, *, create_graph: bool = False) -> Tensor:
    """Gradient (N, C, H, W) of each image's own cross-entropy."""
    x = images.detach().requires_grad_()
    loss = torch.nn.functional.cross_entropy(network(x), labels, reduction="sum")
    return torch.autograd.grad(loss, x, create_graph=create_graph)[0]


def smooth_network(seed: int, dtype: torch.dtype = torch.float64) -> Network:
    """A CNN with lived-in batch statistics, without kinks: differences of its gradients have a limit everywhere."""
    network = create("advkit/cnn", num_classes=4, input_size=SIZE, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    for name, module in list(network.named_modules()):
        parent, _, child = name.rpartition(".")
        if isinstance(module, torch.nn.ReLU):
            setattr(network.get_submodule(parent), child, torch.nn.SiLU())
        if isinstance(module, torch.nn.MaxPool2d):
            setattr(network.get_submodule(parent), child, torch.nn.AvgPool2d(2))
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean = torch.randn(module.num_features, generator=generator) * 0.1
            module.running_var = torch.rand(module.num_features, generator=generator) + 0.5
            torch.nn.init.uniform_(module.weight, 0.5, 1.5, generator=generator)
    return network.to(dtype).eval()


def batch(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(7)
    images = torch.rand(5, *SIZE, generator=generator, dtype=torch.float64).to(dtype)
    return images, torch.tensor([0, 1, 2, 3, 0]), torch.arange(5)


@pytest.mark.parametrize(
    ("penalty", "at"),
    [
        *(("abs", ("clean",)), ("square", ("clean",)), ("signed", ("noise",)), ("abs", ("clean", "noise"))),
        pytest.param("abs", ("noise",), marks=pytest.mark.slow),
        pytest.param("square", ("noise",), marks=pytest.mark.slow),
        pytest.param("signed", ("clean",), marks=pytest.mark.slow),
        pytest.param("square", ("clean", "noise"), marks=pytest.mark.slow),
        pytest.param("signed", ("clean", "noise"), marks=pytest.mark.slow),
    ],
)
def test_gradient_equals_float64_differences(penalty: str, at: tuple[str, ...]) -> None:
    network, reference = smooth_network(1), smooth_network(2).requires_grad_(False)
    params = MisalignParams(weight=1.5, penalty=penalty, at=at, smoothness=0.3)  # type: ignore[arg-type]
    misalignment = Misalignment(network, [reference], params, seed=3)
    loss = misalignment(*batch(), epoch=0).penalty.mean()
    parameters = [p for p in network.net.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    generator = torch.Generator().manual_seed(5)
    step = 1e-6
    for parameter, gradient in zip(parameters, gradients, strict=True):
        direction = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                parameter += sign * step * direction
            values.append(float(misalignment(*batch(), epoch=0).penalty.mean().detach()))
            with torch.no_grad():
                parameter -= sign * step * direction
        expected = (values[0] - values[1]) / (2 * step)
        found = 0.0 if gradient is None else float((gradient * direction).sum())
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-7)


def test_folding_gives_the_gradient_of_the_unfolded_evaluation_mode_network() -> None:
    network, reference = smooth_network(1), smooth_network(2).requires_grad_(False)
    images, labels, indices = batch()
    parameters = list(network.net.parameters())
    folded_loss = Misalignment(network, [reference], MisalignParams(), seed=0)(
        images, labels, indices, 0
    ).penalty.mean()
    own = input_gradients(network, images, labels, create_graph=True)
    plain_loss = cosines(own, input_gradients(reference, images, labels)).abs().mean()
    assert folded_loss.item() == pytest.approx(plain_loss.item(), rel=1e-9)
    for a, b in zip(
        torch.autograd.grad(folded_loss, parameters, allow_unused=True),
        torch.autograd.grad(plain_loss, parameters, allow_unused=True),
        strict=True,
    ):
        if a is None or b is None:
            assert not (a is None and b is not None and b.abs().max() > 1e-12)
            continue
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-10)


def test_an_image_never_influences_the_penalty_of_another() -> None:
    network, reference = smooth_network(1), smooth_network(2).requires_grad_(False)
    images, labels, indices = batch()
    misalignment = Misalignment(network.train(), [reference], MisalignParams(at=("clean", "noise")), seed=0)
    together = misalignment(images, labels, indices, 0)
    alone = [misalignment(images[k : k + 1], labels[k : k + 1], indices[k : k + 1], 0) for k in range(5)]
    assert float(together.absolute.sum()) == pytest.approx(sum(float(one.absolute.sum()) for one in alone), rel=1e-10)


def test_the_penalty_leaves_buffers_and_reference_alone() -> None:
    network, reference = smooth_network(1), smooth_network(2).requires_grad_(False)
    before = {name: t.clone() for name, t in network.net.state_dict().items()}
    loss = Misalignment(network.train(), [reference], MisalignParams(at=("adversarial",)), seed=0)(
        *batch(), 0
    ).penalty.mean()
    torch.autograd.backward(loss)
    for name, tensor in network.net.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert all(p.grad is None for p in reference.parameters())


def test_identical_networks_have_cosine_one_and_negated_logits_minus_one() -> None:
    network = smooth_network(1).requires_grad_(False)
    images, labels, indices = batch()
    terms = Misalignment(smooth_network(1), [network], MisalignParams(), seed=0)(images, labels, indices, 0)
    assert float(terms.cosine.sum()) == pytest.approx(5.0, rel=1e-9)
    gradient = input_gradients(network, images, labels)
    assert cosines(gradient, -gradient).tolist() == pytest.approx([-1.0] * 5)


def test_cosines_of_vanishing_gradients_do_not_underflow() -> None:
    gradient = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert cosines(gradient * 1e-30, gradient * 1e-35).tolist() == pytest.approx([1.0] * 3, abs=1e-5)
    assert cosines(torch.zeros_like(gradient), gradient).tolist() == [0.0] * 3


def test_a_saturated_network_gives_a_finite_penalty_with_a_finite_gradient() -> None:
    network, reference = smooth_network(1, torch.float32), smooth_network(2, torch.float32).requires_grad_(False)
    with torch.no_grad():
        network.net.classifier.weight *= 1e4  # type: ignore[union-attr, operator]
    images, _, indices = batch(torch.float32)
    labels = network(images).argmax(1)
    naive = input_gradients(network, images, labels)
    assert (naive == 0).all(), "cross-entropy has no gradient here, or this test shows nothing"
    terms = Misalignment(network, [reference], MisalignParams(), seed=0)(images, labels, indices, 0)
    assert float(terms.absolute.sum()) > 0
    for gradient in torch.autograd.grad(terms.penalty.mean(), list(network.net.parameters()), allow_unused=True):
        assert gradient is None or gradient.isfinite().all()


def test_shapes_of_the_penalty() -> None:
    c = torch.tensor([-0.5, 0.2])
    assert penalty_of(c, "abs").tolist() == pytest.approx([0.5, 0.2])
    assert penalty_of(c, "square").tolist() == pytest.approx([0.25, 0.04])
    assert penalty_of(c, "signed").tolist() == pytest.approx([-0.5, 0.2])


def test_chance_level_is_the_mean_absolute_cosine_of_random_directions() -> None:
    generator = torch.Generator().manual_seed(0)
    for dimensions in (2, 64):
        a, b = torch.randn(2, 20_000, dimensions, generator=generator)
        found = torch.nn.functional.cosine_similarity(a, b).abs().mean()
        assert expected_abs_cosine(dimensions) == pytest.approx(float(found), rel=0.02)
    assert expected_abs_cosine(3072) == pytest.approx(math.sqrt(2 / (math.pi * 3072)), rel=1e-3)


@pytest.mark.parametrize("momentum", [0.1, 0.01, 0.001, 0.0, None])
def test_the_penalty_sees_the_network_of_the_training_step(momentum: float | None) -> None:
    """Batch statistics of the step, held constant: the same logits as training mode, whatever the running ones say."""
    network, alone = smooth_network(1), smooth_network(1)
    norms = [m for net in (network, alone) for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = momentum
    images = torch.rand(6, *SIZE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    live = FusedView(network)
    network.train()
    for _ in range(2):  # the second time, momentum None averages over two
        live.observe_batch_norm()
        expected = network(images)
        alone.train()(images)
        torch.testing.assert_close(live.refuse()(images), expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(network.state_dict(), alone.state_dict(), rtol=1e-12, atol=1e-12)
    assert all(norm.momentum == momentum and not norm._forward_hooks for norm in norms)
    stale = FusedView(network.eval()).refuse()(images)
    assert momentum is None or (stale - expected).abs().max() > 0.05
    images_alone = torch.cat([live(images[k : k + 1]) for k in range(5)])
    torch.testing.assert_close(images_alone, live(images)[:5], rtol=1e-9, atol=1e-9)


def test_a_frozen_batch_norm_is_seen_as_it_is() -> None:
    network, images = smooth_network(1), batch()[0]
    live = FusedView(network)
    for module in network.train().modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    live.observe_batch_norm()
    expected = network(images)
    torch.testing.assert_close(live.refuse()(images), expected, rtol=1e-9, atol=1e-9)


def test_a_failed_forward_pass_leaves_batch_norm_as_it_was() -> None:
    network = smooth_network(1)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    live = FusedView(network)
    network.train()
    live.observe_batch_norm()
    with pytest.raises(RuntimeError):
        network.get_submodule("net.features.1")(torch.zeros(2, 3, 4, 4, dtype=torch.float64))
    live.refuse()
    after = network.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before if not name.endswith("num_batches_tracked"))
    assert all(m.momentum == 0.1 for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d))


class Bilinear(torch.nn.Module):
    """Two classes whose margin is x A x / 2 + b x: its gradient A x + b is known at every point."""

    def __init__(self, a: list[list[float]], b: list[float]) -> None:
        super().__init__()
        self.a, self.b = (torch.nn.Parameter(torch.tensor(value, dtype=torch.float64)) for value in (a, b))

    def forward(self, images: Tensor) -> Tensor:
        x = images.flatten(1)
        margin = 0.5 * ((x @ self.a) * x).sum(1) + x @ self.b
        return torch.stack([torch.zeros_like(margin), margin], 1)


def test_noise_points_are_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of black and white pixels, noise in [-eps, eps] keeps what stays in [0, 1]: half of it is cut to nothing."""
    points: list[Tensor] = []
    gradients = misalign.margin_gradients

    def watched(model: torch.nn.Module, images: Tensor, *more: Any, **options: Any) -> Any:
        points.append(images)
        return gradients(model, images, *more, **options)

    monkeypatch.setattr(misalign, "margin_gradients", watched)
    network, reference = smooth_network(1), smooth_network(2).requires_grad_(False)
    _, labels, indices = batch()
    images = torch.ones(5, *SIZE, dtype=torch.float64)
    images[:, :, :4] = 0.0
    params = MisalignParams(at=("noise",), eps=0.25)
    Misalignment(network, [reference], params, seed=0)(images, labels, indices, 0)
    assert len(points) == 2
    assert torch.equal(*points)
    noisy, moved = points[0], (points[0] - images).abs()
    assert 0.0 <= float(noisy.min()) <= float(noisy.max()) <= 1.0
    assert 0.2 < float(moved.max()) <= 0.25
    assert 0.4 < float((moved == 0).double().mean()) < 0.6


def test_every_place_and_every_reference_weighs_the_same() -> None:
    """Clean point (0.5, 0.5), gradient (0.5, 0.5); references' gradients (1, 0) and (3, -4), PGD at their corners.

    Corner of the first: (0.7, 0.5) up to where the zero second entry started at random, which is why the network's
    gradient is (x_1, 0.5): it does not see it. Corner of the second: (0.7, 0.3).
    """
    zero = [[0.0, 0.0], [0.0, 0.0]]
    network = Bilinear([[1.0, 0.0], [0.0, 0.0]], [0.0, 0.5])
    references = [Bilinear(zero, [1.0, 0.0]), Bilinear(zero, [3.0, -4.0])]
    spec = smooth_network(1).spec
    wrapped = Network(network, replace(spec, input_size=(1, 1, 2), num_classes=2, mean=(0.0,), std=(1.0,))).double()
    images, labels = torch.full((1, 1, 1, 2), 0.5, dtype=torch.float64), torch.tensor([0])
    params = MisalignParams(penalty="signed", at=("clean", "adversarial"), eps=0.2, steps=20, smoothness=0.5)
    terms = Misalignment(wrapped, references, params, seed=0)(images, labels, torch.tensor([0]), 0)

    def cosine(x: float, a: float, b: float) -> float:
        return (a * x + b * 0.5) / math.hypot(x, 0.5) / math.hypot(a, b)

    clean = (cosine(0.5, 1, 0) + cosine(0.5, 3, -4)) / 2
    adversarial = (cosine(0.7, 1, 0) + cosine(0.7, 3, -4)) / 2
    assert float(terms.cosine.sum()) == pytest.approx((clean + adversarial) / 2, rel=1e-6)
    assert adversarial - clean > 0.05, "the places differ, or this test shows nothing"
    points = [images, *(attack_points(reference, images) for reference in references)]
    norms = [float(input_gradients(wrapped, point, labels).norm()) for point in points]
    weights = (0.5, 0.25, 0.25)
    assert float(terms.norm.sum()) == pytest.approx(sum(w * n for w, n in zip(weights, norms, strict=True)), rel=0.05)
    smooth = 0.5 * 2 * sum(w * n**2 for w, n in zip(weights, norms, strict=True))
    assert float(terms.penalty.mean().detach()) == pytest.approx(float(terms.cosine.sum()) + smooth, rel=0.05)


def attack_points(reference: Bilinear, images: Tensor) -> Tensor:
    return images + 0.2 * reference.b.detach().sign().view_as(images)


def test_no_two_uses_of_randomness_share_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Augmentation of epoch 0 was the start of the misaligned PGD, and that of epoch 257 the noise of epoch 1."""
    drawn: list[Tensor] = []
    uniform = counter_rng.uniform

    def watched(seed: int, indices: Tensor, stream: int, count: int) -> Tensor:
        found = uniform(seed, indices, stream, count)
        drawn.append(uniform(seed, indices, stream, 5))
        return found

    monkeypatch.setattr(counter_rng, "uniform", watched)
    network, reference = smooth_network(1), smooth_network(2).requires_grad_(False)
    images, labels, indices = batch()
    misalignment = Misalignment(network, [reference], MisalignParams(at=("noise", "adversarial"), steps=1), seed=0)
    for epoch in (0, 1, 256, 257, 512, 513):
        augmented(images, indices, frozenset({"flip"}), 0, epoch)
        misalignment(images, labels, indices, epoch)
    assert len(drawn) == 18
    assert len({tuple(numbers.flatten().tolist()) for numbers in drawn}) == len(drawn)
