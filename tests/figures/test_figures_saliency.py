"""Maps of attention against closed forms, a calculation by hand, and SciPy."""

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor, nn

from advkit.figures.saliency import agreement, grad_cam, ranks, smoothgrad

torch.set_num_threads(1)


class Linear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(4, 3, 5, 6, generator=generator))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.einsum("nchw,kchw->nk", x, self.weight)


def curved() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.Tanh(), nn.Conv2d(6, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(180, 4)
    ).requires_grad_(False)


def batch(count: int = 7) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(count, 3, 8, 8, generator=generator)
    return images, torch.arange(count) % 4, torch.arange(count) * 11 + 5


@pytest.mark.parametrize("sigma", [0.0, 0.1, 3.0])
def test_saliency_of_a_linear_model_is_its_absolute_weights(sigma: float) -> None:
    network = Linear()
    labels = torch.tensor([2, 0, 3])
    maps = smoothgrad(network, torch.rand(3, 3, 5, 6), labels, indices=torch.arange(3), samples=4, sigma=sigma, seed=9)
    torch.testing.assert_close(maps, network.weight[labels].abs().sum(1).detach())
    assert network.weight.grad is None


def test_signed_gradients_are_averaged_before_their_absolute_value() -> None:
    class Square(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x**2).sum(dim=(1, 2, 3))[:, None]

    zero = torch.zeros(2, 1, 16, 16)
    maps = smoothgrad(Square(), zero, torch.zeros(2).long(), indices=torch.arange(2), samples=64, sigma=0.5)
    # The gradient is 2 noise; the mean of 64 has standard deviation 2 * 0.5 / 8, so E|.| = sqrt(2 / pi) / 8.
    assert maps.mean().item() == pytest.approx((2 / np.pi) ** 0.5 / 8, rel=0.1)


def test_noise_belongs_to_the_image_whatever_the_batch() -> None:
    network, (images, labels, indices) = curved(), batch()
    whole = smoothgrad(network, images, labels, indices=indices, samples=3)
    order = torch.tensor([6, 2, 0])
    part = smoothgrad(network, images[order], labels[order], indices=indices[order], samples=3)
    torch.testing.assert_close(part, whole[order], rtol=1e-5, atol=1e-7)
    single = torch.cat(
        [smoothgrad(network, images[i : i + 1], labels[i : i + 1], indices=indices[i : i + 1], samples=3)
         for i in range(7)]
    )  # fmt: skip
    torch.testing.assert_close(single, whole, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("change", [{"seed": 1}, {"sigma": 0.2}, {"samples": 4}, {"indices": torch.arange(7)}])
def test_every_setting_counts(change: dict[str, object]) -> None:
    network, (images, labels, indices) = curved(), batch()
    usual = {"indices": indices, "samples": 3, "sigma": 0.1, "seed": 0}
    a = smoothgrad(network, images, labels, **usual)  # type: ignore[arg-type]
    b = smoothgrad(network, images, labels, **{**usual, **change})  # type: ignore[arg-type]
    assert not torch.allclose(a, b, rtol=1e-3)
    assert not torch.allclose(a, smoothgrad(network, images, (labels + 1) % 4, **usual), rtol=1e-3)  # type: ignore[arg-type]


def test_no_samples_is_an_error() -> None:
    images, labels, indices = batch()
    with pytest.raises(ValueError, match="at least 1"):
        smoothgrad(curved(), images, labels, indices=indices, samples=0)


def by_hand(inplace: bool = False) -> nn.Sequential:
    """Two 1x1 channels, +x and -2x; mean pooling; class 0 = 3 a - b, class 1 = -a."""
    network = nn.Sequential(
        nn.Conv2d(1, 2, 1, bias=False),
        nn.ReLU(inplace) if inplace else nn.Identity(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(2, 2, bias=False),
    )
    network[0].weight.data = torch.tensor([1.0, -2.0]).view(2, 1, 1, 1)
    network[4].weight.data = torch.tensor([[3.0, -1.0], [-1.0, 0.0]])
    return network.requires_grad_(False)


def test_grad_cam_by_hand() -> None:
    network = by_hand()
    image = torch.tensor([[[[0.0, 1.0], [0.5, 0.25]]]])
    # Each of 4 pixels has d class 0 / d a = 3/4 and d class 0 / d b = -1/4: 3/4 x + 2/4 x = 5/4 x.
    both = grad_cam(network, image.repeat(2, 1, 1, 1), torch.tensor([0, 1]), layer=network[0])
    torch.testing.assert_close(both[0], 1.25 * image[0, 0])
    assert not both[1].any()  # class 1: -x / 4, negative everywhere


def test_grad_cam_keeps_the_map_from_an_activation_in_place() -> None:
    network = by_hand(inplace=True)
    image = torch.tensor([[[[0.0, 1.0], [0.5, 0.25]]]])
    # b = -2x is cut by the ReLU: its gradient is 0 wherever x > 0, and at x = 0 both are 0. a's weight is 3/4 * 3/4.
    cam = grad_cam(network, image, torch.tensor([0]), layer=network[0])
    torch.testing.assert_close(cam[0], 0.5625 * image[0, 0])


def test_grad_cam_enlarges_bilinearly_and_leaves_no_hook() -> None:
    network, (images, labels, _) = curved(), batch()
    whole = grad_cam(network, images, labels, layer=network[2])
    assert whole.shape == (7, 8, 8)
    assert (whole >= 0).all()
    assert whole.any()
    alone = torch.cat([grad_cam(network, images[i : i + 1], labels[i : i + 1], layer=network[2]) for i in range(7)])
    torch.testing.assert_close(alone, whole, rtol=1e-5, atol=1e-7)
    assert not network[2]._forward_hooks


def test_grad_cam_says_when_the_layer_does_not_fit() -> None:
    network, (images, labels, _) = curved(), batch()
    for layer in (network[5], nn.Conv2d(3, 3, 1)):
        with pytest.raises(ValueError, match="Grad-CAM needs a layer"):
            grad_cam(network, images, labels, layer=layer)


@pytest.mark.parametrize("levels", [2, 5, 1000])
def test_rank_correlation_is_scipys_also_with_ties(levels: int) -> None:
    generator = torch.Generator().manual_seed(levels)
    a = torch.randint(levels, (6, 9, 11), generator=generator).float()
    b = a * 0.5 + torch.randint(levels, (6, 9, 11), generator=generator)
    ours = agreement(a, b)
    for i in range(6):
        x, y = a[i].flatten().numpy(), b[i].flatten().numpy()
        np.testing.assert_array_equal(ranks(a[i].view(1, -1))[0], scipy.stats.rankdata(x))
        assert ours["rank_correlation"][i].item() == pytest.approx(scipy.stats.spearmanr(x, y).statistic, abs=1e-12)
        assert ours["cosine"][i].item() == pytest.approx(x @ y / (x @ x * (y @ y)) ** 0.5, abs=1e-6)


def test_agreement_at_its_ends() -> None:
    a = torch.rand(1, 4, 4) + 0.1
    assert agreement(a, 7 * a)["cosine"].item() == pytest.approx(1)
    assert agreement(a, a**3)["rank_correlation"].item() == pytest.approx(1)
    assert agreement(a, 1 / a)["rank_correlation"].item() == pytest.approx(-1)
    assert agreement(a, a * 1e-30)["cosine"].item() == pytest.approx(1)
    flat = agreement(a, torch.ones(1, 4, 4))
    assert flat["rank_correlation"].isnan().all()
    assert not flat["cosine"].isnan().any()
    assert agreement(a, torch.zeros(1, 4, 4))["cosine"].isnan().all()
    with pytest.raises(ValueError, match="compared"):
        agreement(a, torch.rand(1, 4, 5))


def test_unrelated_maps_have_the_documented_chance_levels() -> None:
    a, b = torch.randn(2, 4, 64, 64, generator=torch.Generator().manual_seed(0)).abs()
    chance = agreement(a, b)
    assert chance["cosine"].mean().item() == pytest.approx(2 / np.pi, abs=0.01)
    assert chance["rank_correlation"].mean().item() == pytest.approx(0, abs=0.02)


class TwoLevels(nn.Module):
    """Gives the image and its mean over squares of 2 by 2, by name."""

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"fine": images, "coarse": nn.functional.avg_pool2d(images, 2)}


class TwoPlaces(nn.Module):
    """The only class's score: one place of each level."""

    def __init__(self) -> None:
        super().__init__()
        self.levels = TwoLevels()

    def forward(self, images: Tensor) -> Tensor:
        levels = self.levels(images)
        return (3 * levels["fine"][:, :, 1, 2] - 5 * levels["coarse"][:, :, 0, 0]).sum(1, keepdim=True)


def test_levels_give_heat_place_by_place() -> None:
    """Gradient times map (HiResCAM): heat at the place that speaks for the class, none where it speaks against it."""
    images = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)) + 0.1
    network = TwoPlaces()
    heat = grad_cam(network, images, torch.zeros(2, dtype=torch.int64), layer=network.levels)
    expected = torch.zeros(2, 8, 8)
    expected[:, 1, 2] = 3 * images[:, 0, 1, 2]
    torch.testing.assert_close(heat, expected)
