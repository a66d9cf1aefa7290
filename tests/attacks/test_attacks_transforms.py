"""Transforms against PyTorch and scipy, randomness against its distribution, targets against their rules."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage, signal, stats
from torch import Tensor

from advkit.attacks.di import input_diversity
from advkit.attacks.methods import parse_method
from advkit.attacks.ti import default_kernel, smoothed
from advkit.data import counter_rng
from advkit.files.errors import InputError
from advkit.tasks.class_targets import parse_target, targets


def resized(image: Tensor, index: int, shrink: float, seed: int, stream: int) -> Tensor:
    """The reference: interpolate and pad one image, by the numbers that belong to it."""
    height, width = image.shape[-2:]
    _, size, top, left = counter_rng.uniform(seed, torch.tensor([index]), stream, 4)[0].tolist()
    side = min(height, width)
    smallest = math.ceil(shrink * side)
    short = smallest + int(size * (side - smallest + 1))
    rows, columns = round(short * height / side), round(short * width / side)
    y, x = int(top * (height - rows + 1)), int(left * (width - columns + 1))
    small = F.interpolate(image[None], size=(rows, columns), mode="bilinear", align_corners=False)
    return F.pad(small, (x, width - columns - x, y, height - rows - y))[0]


@pytest.mark.parametrize(("height", "width"), [(16, 16), (32, 32), (20, 30), (31, 17)])
@pytest.mark.parametrize("shrink", [0.5, 0.9, 1.0])
def test_diverse_equals_interpolate_and_pad(height: int, width: int, shrink: float) -> None:
    images = torch.rand(12, 3, height, width, generator=torch.Generator().manual_seed(0))
    indices = torch.arange(12) * 5
    found = input_diversity(images, indices, probability=1.0, shrink=shrink, seed=3, stream=7)
    expected = torch.stack([resized(x, int(i), shrink, 3, 7) for x, i in zip(images, indices, strict=True)])
    assert float((found - expected).abs().max()) < 2e-5
    if shrink < 1:
        assert float((found - images).abs().amax((1, 2, 3)).gt(0.01).float().mean()) > 0.5


def test_diverse_probability() -> None:
    images = torch.rand(2000, 1, 10, 10, generator=torch.Generator().manual_seed(1))
    indices = torch.arange(2000)
    for probability in (0.0, 0.3, 1.0):
        found = input_diversity(images, indices, probability=probability, shrink=0.4, seed=0, stream=0)
        changed = ((found - images).abs().amax((1, 2, 3)) > 1e-3).float().mean()
        # One in seven sizes is the full one, which changes nothing.
        assert abs(float(changed) - probability * 6 / 7) < 0.04
        assert probability or torch.equal(found, images)


@pytest.mark.parametrize("kernel", [3, 5, 7, 15])
def test_smoothed_equals_scipys_convolution(kernel: int) -> None:
    gradient = torch.randn(2, 3, 16, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    line = stats.norm.pdf([-3 + 6 * i / (kernel - 1) for i in range(kernel)])
    window = line[:, None] * line[None, :]
    window /= window.sum()
    found = smoothed(gradient, kernel=kernel)
    for image, result in zip(gradient, found, strict=True):
        for channel, plane in zip(image.numpy(), result.numpy(), strict=True):
            assert abs(signal.convolve2d(channel, window, mode="same") - plane).max() < 1e-12
    sigma = (kernel - 1) / 6  # which is scipy's Gaussian filter cut at three standard deviations
    expected = ndimage.gaussian_filter(gradient[0, 0].numpy(), sigma, mode="constant", radius=kernel // 2)
    assert abs(expected - found[0, 0].numpy()).max() < 1e-12


def test_default_kernel() -> None:
    assert [default_kernel(side) for side in (8, 32, 224, 299)] == [5, 5, 13, 15]


def test_uniform_is_uniform_and_keyed_to_the_image() -> None:
    indices = torch.arange(200)
    numbers = counter_rng.uniform(5, indices, 3, 500)
    assert numbers.dtype == torch.float32
    assert float(numbers.min()) >= 0
    assert float(numbers.max()) < 1
    assert abs(float(numbers.mean()) - 0.5) < 4 / math.sqrt(12 * numbers.numel())
    for values in (numbers.flatten(), numbers[7], numbers[:, 0], counter_rng.uniform(5, torch.tensor([0]), 0, 2000)[0]):
        assert stats.kstest(values.numpy(), "uniform").pvalue > 1e-3
    subset = torch.tensor([150, 3, 77])
    assert torch.equal(counter_rng.uniform(5, subset, 3, 500), numbers[subset])
    assert torch.equal(counter_rng.uniform(5, subset, 3, 20), numbers[subset, :20])


@pytest.mark.parametrize("other", [{"seed": 6}, {"stream": 4}, {"indices": torch.arange(1, 101)}, {"seed": -5}])
def test_seeds_streams_and_images_are_unrelated(other: dict[str, object]) -> None:
    settings = {"seed": 5, "indices": torch.arange(100), "stream": 3, "count": 300}
    a = counter_rng.uniform(**settings)  # type: ignore[arg-type]
    b = counter_rng.uniform(**{**settings, **other})  # type: ignore[arg-type]
    assert float((a == b).float().mean()) < 1e-3
    assert abs(float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])) < 4 / math.sqrt(a.numel())


def test_normal_and_signs() -> None:
    normal = counter_rng.normal(1, torch.arange(40), 2, 500).flatten()
    assert stats.kstest(normal.numpy(), "norm").pvalue > 1e-3
    signs = counter_rng.signs(1, torch.arange(40), 2, 500)
    assert set(signs.unique().tolist()) == {-1.0, 1.0}
    assert abs(float(signs.mean())) < 4 / math.sqrt(signs.numel())


def test_large_seeds_and_streams_wrap() -> None:
    values = [counter_rng.uniform(seed, torch.tensor([2**40]), 2**62, 3) for seed in (2**63, -(2**63), 2**64 + 1, 1)]
    assert all(bool(torch.isfinite(v).all()) for v in values)


def test_targets() -> None:
    labels = torch.arange(3000) % 10
    logits = torch.randn(3000, 10, generator=torch.Generator().manual_seed(0))
    indices = torch.arange(3000)
    assert torch.equal(targets("next", labels, indices, lambda: logits, 10, 0), (labels + 1) % 10)
    assert torch.equal(targets(4, labels, indices, lambda: logits, 10, 0), torch.full_like(labels, 4))
    least = targets("least-likely", labels, indices, lambda: logits, 10, 0)
    for row in range(100):
        allowed = [k for k in range(10) if k != labels[row]]
        assert int(least[row]) == min(allowed, key=lambda k, row=row: float(logits[row, k]))  # type: ignore[misc]
    random = targets("random", labels, indices, lambda: logits, 10, 0)
    assert not (random == labels).any()
    counts = torch.bincount((random - labels) % 10, minlength=10)
    assert stats.chisquare(counts[1:].numpy()).pvalue > 1e-3
    part = indices[100:110]
    assert torch.equal(targets("random", labels[part], part, lambda: logits[part], 10, 0), random[part])
    assert not torch.equal(targets("random", labels, indices, lambda: logits, 10, 1), random)


def test_parse_target() -> None:
    names = ("cat", "dog", "2")
    assert [parse_target(t, names) for t in ("dog", "1", "2", "next")] == [1, 1, 2, "next"]
    with pytest.raises(InputError, match="no such class"):
        parse_target("3", names)


@pytest.mark.parametrize("text", ["", "fgm", "fgsm,pgd", "fgsm,mi", "noise,mi", "mi,identity"])
def test_methods_without_meaning_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="--method"):
        parse_method(text)


def test_methods_have_one_spelling() -> None:
    assert parse_method(" TI, di,mi").name == parse_method("mi,di,ti").name == "mi,di,ti"
    assert parse_method("ni").name == "mi,ni"
