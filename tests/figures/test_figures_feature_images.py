"""Pictures that networks make, against closed forms: linear features, a linear logit, a ball."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from advkit.figures.feature_images import Made, climb, correlation, invert, maximise, noise
from advkit.files.errors import InputError
from advkit.models import build
from advkit.models.layer_outputs import LayerOutputs
from advkit.models.network import ModelSpec, Network

SIZE = (1, 6, 6)
IMAGE = torch.rand(1, *SIZE, generator=torch.Generator().manual_seed(4)) * 0.4 + 0.3  # no step meets the box


def network_of(net: nn.Module) -> Network:
    return Network(net, ModelSpec("mine", "", "mine", 3, SIZE, (0.0,), (1.0,))).eval().requires_grad_(False)


def linear(rows: Tensor) -> Network:
    """Features ``rows`` @ x, which are also the logits."""
    layer = nn.Linear(rows.shape[1], rows.shape[0], bias=False)
    layer.weight.data = rows
    return network_of(nn.Sequential(nn.Flatten(), layer))


def orthonormal(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    columns, _ = torch.linalg.qr(torch.randn(36, count, generator=generator))
    return columns.mT.contiguous()


def distance(features: Callable[[Tensor], Tensor], picture: Tensor) -> float:
    wanted = features(IMAGE)
    return float((features(picture) - wanted).norm() ** 2 / wanted.norm() ** 2)


def test_inversion_of_linear_features_is_the_nearest_image_that_has_them() -> None:
    """The start moved by the pseudo-inverse: what the features don't see stays as it was."""
    rows = orthonormal(12)
    start = noise(IMAGE, 3, 0)
    made = invert(LayerOutputs(linear(rows), "1"), IMAGE, start, steps=400)
    expected = start.flatten() + torch.linalg.pinv(rows) @ rows @ (IMAGE - start).flatten()
    torch.testing.assert_close(made.picture.flatten(), expected, rtol=0, atol=2e-3)
    assert made.values[-1] < 1e-4


def test_the_losses_are_those_of_a_recomputation_and_fall() -> None:
    network = build.create("advkit/cnn", num_classes=3, input_size=(1, 8, 8), seed=1).eval().requires_grad_(False)
    image = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    features, start = LayerOutputs(network, "features"), noise(image, 0, 0)
    made = invert(features, image, start, steps=60)
    wanted = network.net.features((image - network.mean) / network.std)
    for picture, value in ((start, made.values[0]), (made.picture, made.values[-1])):
        own = network.net.features((picture - network.mean) / network.std)
        assert value == pytest.approx(float(((own - wanted) ** 2).sum() / (wanted**2).sum()), rel=1e-4)
    assert len(made.values) == 61
    assert made.values[-1] < made.values[30] < made.values[0]
    rises = [after - before for before, after in zip(made.values, made.values[1:], strict=False) if after > before]
    assert sum(rises) < 0.1 * made.values[0]


class LeftHalf(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[..., :3]


class WithHead(nn.Module):
    """Some features, and logits that are made of them."""

    def __init__(self, features: nn.Module) -> None:
        super().__init__()
        self.features, self.head = features, nn.LazyLinear(3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(x).flatten(1))
        return logits


def test_of_two_networks_each_gives_back_what_it_looks_at() -> None:
    """One sees all pixels, the other the left half: there the pictures are the image, elsewhere the start."""
    start = noise(IMAGE, 0, 0)
    made = {}
    for name, part in (("all", nn.Identity()), ("left", LeftHalf())):
        net = WithHead(part)
        net(IMAGE)
        made[name] = invert(LayerOutputs(network_of(net), "features"), IMAGE, start, steps=300).picture
    torch.testing.assert_close(made["all"], IMAGE, rtol=0, atol=3e-3)
    torch.testing.assert_close(made["left"][..., :3], IMAGE[..., :3], rtol=0, atol=3e-3)
    torch.testing.assert_close(made["left"][..., 3:], start[..., 3:], rtol=0, atol=1e-6)
    assert correlation(made["all"], IMAGE) > 0.99 > 0.9 > correlation(made["left"], IMAGE)


def test_a_linear_logit_is_highest_at_the_edge_of_the_ball() -> None:
    """The start moved by eps along the class's own weights."""
    rows = orthonormal(3)
    start = torch.full((1, *SIZE), 0.5)
    for label in range(3):
        made = maximise(linear(rows), torch.tensor([label]), start, steps=30, step_size=0.2, eps=0.25)
        expected = start.flatten() + 0.25 * rows[label]
        torch.testing.assert_close(made.picture.flatten(), expected, rtol=0, atol=1e-5)
        assert made.values[-1] == pytest.approx(made.values[0] + 0.25, abs=1e-5)


def test_in_a_ball_as_wide_as_all_images_a_linear_logit_drives_every_pixel_to_an_end() -> None:
    rows = orthonormal(3)
    made = maximise(linear(rows), torch.tensor([1]), torch.full((1, *SIZE), 0.5), steps=200, step_size=5.0, eps=6.0)
    torch.testing.assert_close(made.picture.flatten(), (rows[1] > 0).float())


def test_the_default_ball_goes_by_the_number_of_values() -> None:
    start = torch.full((1, *SIZE), 0.5)
    made = maximise(linear(orthonormal(3)), torch.tensor([1]), start, steps=200)
    assert float((made.picture - start).norm()) == pytest.approx(0.1 * 6, rel=1e-4)


def test_the_steps_fall_evenly_to_nothing() -> None:
    """On a slope that never turns they add up: 1 + 3/4 + 1/2 + 1/4 of the first."""
    rows = orthonormal(3)
    made = maximise(linear(rows), torch.tensor([0]), torch.full((1, *SIZE), 0.5), steps=4, step_size=0.04)
    rises = [after - before for before, after in zip(made.values, made.values[1:], strict=False)]
    assert rises == pytest.approx([0.04, 0.03, 0.02, 0.01], abs=1e-6)


def test_the_default_step_goes_by_the_number_of_values() -> None:
    rows = orthonormal(3)
    start = torch.full((1, *SIZE), 0.5)
    made = maximise(linear(rows), torch.tensor([0]), start, steps=1)
    assert float((made.picture - start).norm()) == pytest.approx(0.01 * 6, rel=1e-4)


def test_pictures_stay_images() -> None:
    made = climb(
        lambda x: 3 * x.square().sum((1, 2, 3)) - x.sum((1, 2, 3)), noise(IMAGE, 0, 0), "x", steps=50, step_size=2
    )
    assert float(made.picture.min()) >= 0.0
    assert float(made.picture.max()) <= 1.0


def test_a_slope_of_nothing_moves_nothing() -> None:
    start = noise(IMAGE, 0, 0)
    made = climb(lambda x: (x * 0).sum((1, 2, 3)), start, "x", steps=5)
    torch.testing.assert_close(made.picture, start, rtol=0, atol=1e-6)


def test_the_noise_is_the_images_and_the_seeds() -> None:
    wide = torch.zeros(1, 3, 40, 40)
    first = noise(wide, 5, 0)
    assert torch.equal(first, noise(wide, 5, 0))
    assert not torch.equal(first, noise(wide, 6, 0))
    assert not torch.equal(first, noise(wide, 5, 1))
    assert float(first.mean()) == pytest.approx(0.5, abs=0.005)
    assert float(first.std()) == pytest.approx(0.05, abs=0.003)


@pytest.mark.parametrize("bias", [-9.0, math.inf])
def test_features_without_a_scale_are_refused(bias: float) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, 3), nn.ReLU())
    net[1].bias.data.fill_(bias)
    with pytest.raises(
        InputError, match=r"mine: layer 2 puts out nothing but 0 for an image, or no finite numbers; name another"
    ):
        invert(LayerOutputs(network_of(net), "2"), IMAGE, noise(IMAGE, 0, 0), steps=2)


def test_correlation_at_its_ends() -> None:
    assert correlation(IMAGE, 0.5 * IMAGE + 0.1) == pytest.approx(1.0)
    assert correlation(IMAGE, 1 - IMAGE) == pytest.approx(-1.0)
    assert math.isnan(correlation(IMAGE, torch.full_like(IMAGE, 0.2)))
    assert abs(correlation(torch.rand(1, 3, 64, 64), torch.rand(1, 3, 64, 64))) < 0.05


def test_a_picture_is_a_function_of_its_own_image_and_start() -> None:
    network = build.create("advkit/cnn", num_classes=3, input_size=(1, 8, 8), seed=1).eval().requires_grad_(False)
    image = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    made: list[Made] = [invert(LayerOutputs(network), image, noise(image, 0, 0), steps=5) for _ in range(2)]
    assert torch.equal(made[0].picture, made[1].picture)
    assert made[0].values == made[1].values
    other = invert(LayerOutputs(network), image, noise(image, 1, 0), steps=5)
    assert not torch.equal(made[0].picture, other.picture)


def test_a_score_that_is_not_finite_is_an_error_and_no_picture() -> None:
    rows = orthonormal(3)
    rows[1] = float("inf")
    with pytest.raises(InputError, match=r"^mine: score is not finite"):
        maximise(linear(rows), torch.tensor([1]), torch.full((1, *SIZE), 0.5), steps=2)
