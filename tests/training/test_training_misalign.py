"""The penalty: its value, its gradient, and what it is blind to."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from advkit.attacks.gradient_similarity import input_gradients
from advkit.metrics.gradient_similarity import cosines, expected_abs_cosine
from advkit.models.build import create
from advkit.models.network import Network
from advkit.training.fused_view import FusedView
from advkit.training.misalign import Misalignment, MisalignParams, penalty_of

SIZE = (1, 8, 8)


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


@pytest.mark.parametrize("penalty", ["abs", "square", "signed"])
@pytest.mark.parametrize("at", [("clean",), ("noise",), ("clean", "noise")])
def test_gradient_equals_float64_differences(penalty: str, at: tuple[str, ...]) -> None:
    network, reference = smooth_network(1), smooth_network(2).requires_grad_(False)
    params = MisalignParams(weight=1.5, penalty=penalty, at=at, smoothness=0.3)  # type: ignore[arg-type]
    misalignment = Misalignment(network, [reference], params, seed=3)
    loss = misalignment(*batch(), epoch=0).loss
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
            values.append(float(misalignment(*batch(), epoch=0).loss.detach()))
            with torch.no_grad():
                parameter -= sign * step * direction
        expected = (values[0] - values[1]) / (2 * step)
        found = 0.0 if gradient is None else float((gradient * direction).sum())
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-7)


def test_folding_gives_the_gradient_of_the_unfolded_evaluation_mode_network() -> None:
    network, reference = smooth_network(1), smooth_network(2).requires_grad_(False)
    images, labels, indices = batch()
    parameters = list(network.net.parameters())
    folded_loss = Misalignment(network, [reference], MisalignParams(), seed=0)(images, labels, indices, 0).loss
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
    assert float(together.absolute) == pytest.approx(sum(float(one.absolute) for one in alone), rel=1e-10)


def test_the_penalty_leaves_buffers_and_reference_alone() -> None:
    network, reference = smooth_network(1), smooth_network(2).requires_grad_(False)
    before = {name: t.clone() for name, t in network.net.state_dict().items()}
    loss = Misalignment(network.train(), [reference], MisalignParams(at=("adversarial",)), seed=0)(*batch(), 0).loss
    torch.autograd.backward(loss)
    for name, tensor in network.net.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert all(p.grad is None for p in reference.parameters())


def test_identical_networks_have_cosine_one_and_negated_logits_minus_one() -> None:
    network = smooth_network(1).requires_grad_(False)
    images, labels, indices = batch()
    terms = Misalignment(smooth_network(1), [network], MisalignParams(), seed=0)(images, labels, indices, 0)
    assert float(terms.cosine) == pytest.approx(5.0, rel=1e-9)
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
    assert float(terms.absolute) > 0
    for gradient in torch.autograd.grad(terms.loss, list(network.net.parameters()), allow_unused=True):
        assert gradient is None or gradient.isfinite().all()


def test_input_gradients_are_those_of_cross_entropy() -> None:
    network, (images, labels, _) = smooth_network(1), batch()
    x = images.clone().requires_grad_()
    loss = torch.nn.functional.cross_entropy(network(x), labels, reduction="sum")
    torch.testing.assert_close(input_gradients(network, images, labels), torch.autograd.grad(loss, x)[0])


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


def test_the_penalty_sees_the_network_of_the_training_step() -> None:
    """Batch statistics of the step, held constant: the same logits as training mode, whatever the running ones say."""
    network = smooth_network(1)
    images = torch.rand(200, *SIZE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    live = FusedView(network)
    network.train()
    live.snapshot_bn()
    expected = network(images)
    stale = FusedView(network).refuse()(images)
    torch.testing.assert_close(live.refuse()(images), expected, rtol=0.02, atol=0.02)  # unbiased variance
    assert (stale - expected).abs().max() > 0.2
    images_alone = torch.cat([live(images[k : k + 1]) for k in range(5)])
    torch.testing.assert_close(images_alone, live(images)[:5], rtol=1e-9, atol=1e-9)


def test_batch_statistics_are_exact() -> None:
    network, images = smooth_network(1), batch()[0]
    live, seen = FusedView(network), []
    first = network.net.features[1]  # type: ignore[union-attr, index]
    hook = first.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach()))  # type: ignore[union-attr, operator]
    network.train()
    live.snapshot_bn()
    network(images)
    hook.remove()  # type: ignore[union-attr]
    mean, variance = live._batch_statistics("features.1")
    torch.testing.assert_close(mean, seen[0].mean((0, 2, 3)))
    torch.testing.assert_close(variance, seen[0].transpose(0, 1).flatten(1).var(1))
