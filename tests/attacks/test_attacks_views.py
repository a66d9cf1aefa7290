"""VMI, SSA and BSR: their views by hand, and what gradients are averaged over."""

from __future__ import annotations

import pytest
import torch
from scipy.fft import dctn
from torch import Tensor

from advkit.attacks.bsr import shuffled_blocks
from advkit.attacks.methods import parse_method
from advkit.attacks.params import AttackParams
from advkit.attacks.run import attack
from advkit.attacks.ssa import cosine_matrix, spectrum
from advkit.attacks.vmi import neighbours
from advkit.files.errors import InputError
from advkit.metrics.norms import Norm, flat_norm
from advkit.models.build import create
from advkit.models.network import Network

KEYS = torch.tensor([4, 4, 9])


def images(height: int = 11, width: int = 13) -> Tensor:
    one = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    return one.expand(3, -1, -1, -1).contiguous()


def test_the_cosine_transform_is_scipys_and_orthonormal() -> None:
    x = images()[0].double()
    down, across = cosine_matrix(11, x), cosine_matrix(13, x)
    expected = dctn(x.numpy(), axes=(1, 2), norm="ortho")
    assert torch.allclose(down @ x @ across.T, torch.from_numpy(expected), atol=1e-12)
    assert torch.allclose(down @ down.T, torch.eye(11, dtype=x.dtype), atol=1e-12)


def test_a_spectrum_is_scaled_frequency_by_frequency() -> None:
    x = images()
    assert torch.allclose(spectrum(x, KEYS, 0, 1, sigma=0.0, rho=0.0), x, atol=1e-5)
    found = spectrum(x, KEYS, 0, 1, sigma=0.0, rho=0.3)
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    assert not torch.equal(found, spectrum(x, KEYS, 0, 2, sigma=0.0, rho=0.3))
    before, after = (torch.from_numpy(dctn(one.numpy(), axes=(2, 3), norm="ortho")) for one in (x, found))
    ratio = (after / before)[before.abs() > 1e-2]
    assert 0.69 < float(ratio.min()) < 0.75
    assert 1.25 < float(ratio.max()) < 1.31
    assert abs(float(ratio.mean()) - 1.0) < 0.02
    noise = spectrum(x, KEYS, 0, 1, sigma=0.1, rho=0.0) - x
    assert float(noise.std()) == pytest.approx(0.1, rel=0.1)
    assert abs(float(noise.mean())) < 0.01


def test_blocks_are_shuffled_whole_and_turn_around_their_centres() -> None:
    x = images()
    assert torch.allclose(shuffled_blocks(x, KEYS, 0, 1, blocks=1, degrees=0.0), x, atol=1e-5)
    still = shuffled_blocks(x, KEYS, 0, 1, blocks=2, degrees=0.0)
    for before, after in zip(x, still, strict=True):
        assert torch.allclose(before.flatten(1).sort(1).values, after.flatten(1).sort(1).values, atol=1e-4)
    assert torch.equal(still[0], still[1])
    moved = [shuffled_blocks(x, KEYS, 0, k, blocks=2, degrees=0.0) for k in range(12)]
    assert sum(not torch.allclose(one, x, atol=1e-3) for one in moved) >= 8
    assert any(not torch.allclose(one[0], one[2], atol=1e-3) for one in moved)
    # A quarter turn of one square block, whose angle is drawn: somewhere between its ends.
    square = torch.zeros(1, 1, 21, 21)
    square[0, 0, 10, 10] = 1.0  # the centre stays
    square[0, 0, 10, 16] = 1.0  # six to its right goes along a circle
    turned = shuffled_blocks(square, KEYS[:1], 0, 5, blocks=1, degrees=180.0)[0, 0]
    assert float(turned[10, 10]) == pytest.approx(1.0, abs=1e-4)
    rest = turned.clone()
    rest[9:12, 9:12] = 0.0
    y, x_ = (int(v) for v in divmod(int(rest.argmax()), 21))
    assert ((y - 10) ** 2 + (x_ - 10) ** 2) ** 0.5 == pytest.approx(6.0, abs=1.0)
    assert float(rest.sum()) == pytest.approx(1.0, abs=0.15)


def test_blocks_turn_either_way() -> None:
    dot = torch.zeros(40, 1, 21, 21)
    dot[:, 0, 10, 16] = 1.0
    turned = shuffled_blocks(dot, torch.arange(40), 0, 5, blocks=1, degrees=60.0)
    rows = (turned[:, 0] * torch.arange(21.0)[:, None]).sum((1, 2)) / turned.sum((1, 2, 3))
    assert int((rows > 11).sum()) >= 8
    assert int((rows < 9).sum()) >= 8


@pytest.mark.parametrize("method", ["di", "bsr", "ssa", "admix"])
def test_views_that_boxes_would_not_follow_are_refused(method: str) -> None:
    network = create("advkit/tiny-ssd", num_classes=2, input_size=(3, 96, 96), mean=(0.5,) * 3, std=(0.5,) * 3)
    params = AttackParams(parse_method(method))
    with pytest.raises(InputError, match=f"^{method}: .*; leave it out$"):
        attack([network.eval()], torch.rand(1, 3, 96, 96), torch.zeros(1, 1, 6), KEYS[:1], params)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_neighbours_fill_the_ball(norm: Norm) -> None:
    x, eps = images(), 0.1
    found = torch.stack(neighbours(x, KEYS, 0, (0, 3), eps, norm, samples=40, beta=1.5)) - x
    size = torch.stack([flat_norm(one, norm) for one in found])
    assert float(size.max()) <= 0.15 * (1 + 1e-5)
    assert float(size.max()) > 0.149
    assert abs(float(found.mean())) < 0.01
    if norm == "l1":
        parts = found.flatten(2).abs() / size[..., None]
        assert float(parts.square().sum(2).mean()) == pytest.approx(2 / (parts.shape[2] + 1), rel=0.06)
    assert torch.equal(found[:, 0], found[:, 1])
    assert not torch.equal(found[:, 0], found[:, 2])
    assert not torch.equal(found[0], found[1])


def test_vmi_follows_gradients_corrected_by_their_variance(
    trained: Network, test_digits: tuple[Tensor, Tensor]
) -> None:
    """Three steps by hand."""
    clean, labels = test_digits[0][:6], test_digits[1][:6]
    keys = torch.arange(6)
    eps, steps = 0.06, 3

    def gradient(x: Tensor) -> Tensor:
        x = x.clone().requires_grad_()
        loss = torch.nn.functional.cross_entropy(trained(x), labels, reduction="sum")
        return torch.autograd.grad(loss, x)[0]

    x, momentum, variance = clean, torch.zeros_like(clean), torch.zeros_like(clean)
    for step in range(steps):
        here = gradient(x)
        found = here + variance
        around = neighbours(x, keys, 0, (0, step), eps, "linf", samples=4, beta=1.5)
        variance = torch.stack([gradient(one) for one in around]).mean(0) - here
        momentum = momentum + found / found.abs().mean((1, 2, 3), keepdim=True)
        x = (clean + (x + eps / steps * momentum.sign() - clean).clamp(-eps, eps)).clamp(0, 1)
    params = AttackParams(parse_method("vmi:samples=4"), eps=eps, steps=steps)
    mine = attack([trained], clean, labels, keys, params)
    assert mine.backwards == 6 * (steps + (steps - 1) * 4), "around the last point nothing is asked"
    assert float(((mine.images - x).abs() < 1e-5).double().mean()) > 0.98
    plain = attack([trained], clean, labels, keys, AttackParams(parse_method("mi"), eps=eps, steps=steps)).images
    assert float(((plain - x).abs() < 1e-5).double().mean()) < 0.98


def test_views_multiply(trained: Network, test_digits: tuple[Tensor, Tensor]) -> None:
    clean, labels = test_digits[0][:2], test_digits[1][:2]
    for method, views in (
        ("ssa:views=3", 3),
        ("bsr:views=2,si:scales=2", 4),
        ("ssa:views=2,bsr:views=3,si:scales=2", 12),
    ):
        parsed = parse_method(method)
        assert parsed.copies == views
        assert len({tuple(sorted(parsed.numbered(k).items())) for k in range(views)}) == views
        found = attack([trained], clean, labels, torch.arange(2), AttackParams(parsed, eps=0.1, steps=2))
        assert found.backwards == 2 * 2 * views


def test_spelling_of_what_brings_momentum() -> None:
    assert parse_method("vmi").name == "mi,vmi"
    assert parse_method("vmi:beta=2,mi:decay=0.5").name == "mi:decay=0.5,vmi:beta=2"
    both = parse_method("ni:decay=0.5,vmi:samples=3")
    assert both.parameters["mi"] == both.parameters["ni"] == {"decay": 0.5}
    assert parse_method(both.name).parameters == both.parameters
