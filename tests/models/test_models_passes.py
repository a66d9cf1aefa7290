"""Passes where memory ends: the same images go on in halves, each once, in order."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from advkit.attacks.methods import parse_method
from advkit.attacks.params import AttackParams
from advkit.attacks.run import AttackBatch, attack
from advkit.data import canvas
from advkit.models import passes
from advkit.models.build import create
from advkit.models.network import Network
from advkit.tasks.detection import DETECTION


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "_room", [])


def narrow(most: int, error: Exception, seen: list[int], arch: str = "advkit/cnn") -> Network:
    """A network whose memory ends above ``most`` images, and that tells of every pass."""
    size = (1, 8, 8) if arch == "advkit/cnn" else (3, 96, 96)
    network = create(arch, num_classes=4, input_size=size, seed=0)
    network.eval().requires_grad_(False)

    def look(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.append(len(inputs[0]))
        if len(inputs[0]) > most:
            raise error

    network.register_forward_pre_hook(look)
    return network


def attacked(network: Network, method: str) -> AttackBatch:
    images = torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    targets = torch.arange(16) % 4
    return attack([network], images, targets, torch.arange(16), AttackParams(parse_method(method), eps=0.1, steps=3))


@pytest.mark.parametrize("method", ["pgd", "di", "fmn", "square:queries=20", "apgd-t:steps=5:targets=2"])
@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes."),
    ],
)
def test_an_attack_whose_memory_ends_finds_what_it_finds_with_room(method: str, error: Exception) -> None:
    seen: list[int] = []
    found, whole = attacked(narrow(3, error, seen), method), attacked(narrow(99, error, []), method)
    assert (found.images - whole.images).abs().max() < 1e-5
    assert (found.forwards, found.backwards) == (whole.forwards, whole.backwards)
    assert [size for size in seen if size > 3] == [16, 8, 4], "what failed once is not tried again"


def scenes() -> tuple[Tensor, Tensor]:
    """Five images of two sizes, on their canvas, with two objects each."""
    draw = torch.Generator().manual_seed(2)
    images = torch.rand(5, 3, 96, 96, generator=draw)
    images[3:, :, 80:] = canvas.NOWHERE
    corners = torch.rand(5, 2, 2, 2, generator=draw).sort(2).values * 70 + 1
    labels = torch.tensor([0.0, 3.0]).expand(5, 2)[..., None]
    return images, torch.cat([corners.flatten(2) + torch.tensor([0.0, 0.0, 5.0, 5.0]), labels, labels * 0], 2)


@pytest.mark.parametrize("loss", ["sum", "mtd", "vanishing", "fabrication"])
def test_a_detector_whose_memory_ends_is_attacked_all_the_same(loss: str) -> None:
    images, targets = scenes()
    params = AttackParams(parse_method("pgd"), eps=0.05, steps=2, loss=loss)
    found = {}
    for most in (2, 99):
        network = narrow(most, MemoryError(), [], "advkit/tiny-ssd")
        made = attack([network], images, targets, torch.arange(5), params).images
        found[most] = canvas.where_pixels(made - images, images)
    # A gradient that is nearly 0 may change its sign with the order of sums.
    assert ((found[2] - found[99]).abs() < 1e-5).float().mean() > 0.999
    assert found[99].abs().max() > 0.04


@pytest.mark.parametrize("arch", ["advkit/tiny-ssd", "torchvision/ssdlite320_mobilenet_v3_large"])
def test_parts_of_a_batch_of_a_detector_are_joined_in_order(arch: str) -> None:
    images, targets = scenes()
    network = narrow(99, MemoryError(), [], arch)
    whole = network(images)
    joined = DETECTION.joined(*passes.in_parts(lambda part: network(images[part]), 5, 2))
    assert joined.sizes == [2, 2, 1]
    for one in (joined, joined.detach()):
        torch.testing.assert_close(one.predictions(), whole.predictions(), rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(one.scores(), whole.scores(), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(one.object_scores(targets), whole.object_scores(targets), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(one.losses(targets), whole.losses(targets), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(one.background_losses(), whole.background_losses(), rtol=1e-4, atol=1e-4)


def test_a_part_that_fits_no_longer_goes_on_where_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    taken: list[int] = []

    def run(part: slice) -> list[int]:
        if part.start >= 4 and part.stop - part.start > 1:
            raise MemoryError
        rows = list(range(10))[part]
        taken.extend(rows)
        return rows

    assert [row for part in passes.in_parts(run, 10, 4)[0] for row in part] == taken == list(range(10))
    assert capsys.readouterr().err.splitlines() == [
        "advkit: memory ends at 4 images in a pass; going on with 2",
        "advkit: memory ends at 2 images in a pass; going on with 1",
    ]
    assert passes.in_parts(lambda part: (part.start, part.stop), 3, 100) == ([(0, 1), (1, 2), (2, 3)], [1, 1, 1])


def test_memory_that_ends_at_one_image_ends_the_run() -> None:
    with pytest.raises(MemoryError, match="single image"):
        attacked(narrow(0, MemoryError(), []), "pgd")


def test_other_errors_are_not_tried_again() -> None:
    seen: list[int] = []
    with pytest.raises(ValueError, match="broken"):
        attacked(narrow(3, ValueError("broken"), seen), "pgd")
    assert seen == [16]


def test_no_image_is_one_part() -> None:
    assert passes.in_parts(lambda part: part, 0) == ([slice(0, 0)], [0])
