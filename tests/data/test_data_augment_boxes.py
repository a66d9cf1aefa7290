"""Boxes go where the pixels of their objects go."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from advkit.data import counter_rng
from advkit.data.augment_boxes import KINDS, augmented
from advkit.data.boxes import DIFFICULT, LABEL, stacked
from advkit.data.canvas import on_canvas, sizes
from advkit.data.photometric import photometric

SHAPES = [(64, 64), (48, 64), (64, 40)] * 8


def scene() -> tuple[Tensor, Tensor]:
    """Black images with one white rectangle each, and its box."""
    generator = torch.Generator().manual_seed(1)
    images, boxes = [], []
    for height, width in SHAPES:
        x, y = (int(torch.randint(4, side // 2, (1,), generator=generator)) for side in (width, height))
        right, below = x + width // 3, y + height // 3
        image = torch.zeros(3, height, width)
        image[:, y:below, x:right] = 1.0
        images.append(image)
        boxes.append(torch.tensor([[x, y, right, below, 2, 0.0]]))
    return on_canvas(images, (64, 64)), stacked(boxes)


def bounds(image: Tensor) -> list[float]:
    """Box of what is brighter than half."""
    bright = image[0].nan_to_num() > 0.5
    rows, columns = bright.any(1).nonzero().squeeze(1), bright.any(0).nonzero().squeeze(1)
    return [float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)]


def check(kinds: set[str], epoch: int = 0) -> tuple[int, Tensor]:
    images, targets = scene()
    moved, boxes = augmented(images, targets, torch.arange(len(images)), frozenset(kinds), 0, epoch)
    assert torch.equal(moved.isnan(), images.isnan())
    assert sizes(moved).tolist() == [list(shape) for shape in SHAPES]
    changed = 0
    for image, row, before, (height, width) in zip(moved, boxes[:, 0], targets[:, 0], SHAPES, strict=True):
        changed += not torch.equal(row, before)
        if row[LABEL] < 0 or row[DIFFICULT]:
            continue
        assert row[0] >= 0
        assert row[1] >= 0
        assert row[2] <= width
        assert row[3] <= height
        torch.testing.assert_close(torch.tensor(bounds(image)), row[:4], rtol=0.0, atol=1.01)
        assert row[LABEL] == 2
    return changed, boxes


def test_mirrored_boxes_are_those_of_mirrored_pixels() -> None:
    changed, boxes = check({"flip"})
    assert 6 <= changed <= 18  # half of 24
    assert (boxes[..., LABEL] == 2).all(), "all of each object is still there"
    assert (boxes[..., DIFFICULT] == 0).all()


def test_windows_lie_in_the_image_or_around_it() -> None:
    """Of an object as large as its image, a window shows nothing else, or all of it at the image's proportions."""
    images = on_canvas([torch.ones(3, *shape) for shape in SHAPES], (64, 64))
    rows = stacked([torch.tensor([[0, 0, width, height, 2, 0.0]]) for height, width in SHAPES])
    moved, boxes = augmented(images, rows, torch.arange(len(SHAPES)), frozenset({"crop"}), 0, 0)
    extent = rows[:, 0, 2:4]
    parts = (boxes[:, 0, 2:4] - boxes[:, 0, :2]) / extent
    torch.testing.assert_close(parts[:, 0], parts[:, 1])
    inside = (moved.nan_to_num(nan=1.0).flatten(1) > 0.99).all(1)
    assert 0 < int(inside.sum()) < len(SHAPES)
    assert torch.equal(parts[:, 0] > 0.999, inside)


def test_cut_boxes_are_those_of_cut_pixels_and_hardly_seen_ones_are_difficult() -> None:
    changed, boxes = check({"crop", "flip"})
    assert changed == len(SHAPES)
    several = torch.cat([check({"crop"}, epoch)[1] for epoch in range(6)])
    assert ((several[:, 0, DIFFICULT] == 1) | (several[:, 0, LABEL] < 0)).any()
    assert (several[:, 0, DIFFICULT] == 0).float().mean() > 0.5
    assert not torch.equal(boxes, several[: len(boxes)])


def test_scale_jitter_shows_wider_and_narrower_windows_than_crop() -> None:
    sizes = {}
    for kind in ("crop", "scale-jitter"):
        factors = []
        for epoch in range(8):
            check({kind}, epoch)
            images = on_canvas([torch.ones(3, *shape) for shape in SHAPES], (64, 64))
            rows = stacked([torch.tensor([[w * 0.45, h * 0.45, w * 0.55, h * 0.55, 2, 0.0]]) for h, w in SHAPES])
            _, boxes = augmented(images, rows, torch.arange(len(SHAPES)), frozenset({kind}), 0, epoch)
            whole = (boxes[:, 0, LABEL] == 2) & (boxes[:, 0, DIFFICULT] == 0)
            sides = (boxes[:, 0, 2:4] - boxes[:, 0, :2]) / (rows[:, 0, 2:4] - rows[:, 0, :2])
            factors.append(sides.amax(1)[whole])
        sizes[kind] = torch.cat(factors)
    low, high = (float(found(sizes["scale-jitter"])) for found in (torch.amin, torch.amax))
    assert 1 / 1.8 - 0.01 < low < 1 / 1.6
    assert 1 / 0.45 < high < 1 / 0.4 + 0.01
    assert float(sizes["crop"].amin()) > 1 / 1.25 - 0.01
    assert float(sizes["crop"].amax()) < 1 / 0.5 + 0.01


def test_photometric_changes_colours_and_moves_nothing() -> None:
    images, targets = scene()
    grey = torch.where(images.isnan(), images, torch.full_like(images, 0.45))
    moved, boxes = augmented(grey, targets, torch.arange(len(images)), frozenset({"photometric"}), 0, 0)
    assert torch.equal(boxes, targets)
    assert torch.equal(moved.isnan(), images.isnan())
    one = moved.flatten(1).nan_to_num(nan=-1.0).amax(1)
    assert torch.equal(moved.isnan() | (moved == one.view(-1, 1, 1, 1)), torch.ones_like(moved, dtype=torch.bool))
    assert len(set(one.tolist())) > len(images) // 2
    assert 0.45 * 0.7 * 0.5 < float(one.amin()) < 0.4 < 0.5 < float(one.amax()) < 0.45 * 1.3 * 1.4


@pytest.mark.parametrize("other", ["crop", "scale-jitter", "cutout"])
def test_black_that_is_added_stays_black(other: str) -> None:
    images, targets = scene()
    every = torch.arange(len(images))
    grey = torch.where(images.isnan(), images, torch.full_like(images, 0.5))
    found, _ = augmented(grey, targets, every, frozenset({"photometric", other}), 0, 0)
    black = augmented(grey, targets, every, frozenset({other}), 0, 0)[0] == 0
    assert black.any()
    assert torch.equal(found == 0, black)
    drawn = counter_rng.uniform(0, every, counter_rng.stream("augment", 0), 9)
    wanted = photometric(torch.full_like(grey, 0.5), drawn[:, 6:]).amax((2, 3))  # numbers that no other has
    torch.testing.assert_close(found.nan_to_num().amax((2, 3)), wanted)


@pytest.mark.parametrize(
    ("drawn", "wanted"),
    [
        ((0.5, 0.5, 0.5), (0.2, 0.4, 0.6)),  # all factors 1
        ((1.0, 0.5, 0.5), (0.26, 0.52, 0.78)),  # 1.3 times as bright
        ((0.5, 0.0, 0.5), (0.3, 0.42, 0.54)),  # 0.6 of the contrast around 0.45
        ((0.5, 0.5, 1.0), (0.08, 0.4, 0.72)),  # 1.6 times as far from the mean of the channels
        ((1.0, 1.0, 1.0), (0.0, 0.548, 1.0)),
    ],
)
def test_photometric_by_hand(drawn: tuple[float, ...], wanted: tuple[float, ...]) -> None:
    image = torch.tensor([0.2, 0.4, 0.6]).view(1, 3, 1, 1).expand(1, 3, 2, 2)
    found = photometric(image, torch.tensor([drawn]))
    torch.testing.assert_close(found, torch.tensor(wanted).view(1, 3, 1, 1).expand(1, 3, 2, 2))


def test_cutout_blackens_a_square_and_moves_nothing() -> None:
    images, targets = scene()
    bright = torch.where(images.isnan(), images, torch.ones_like(images))
    moved, boxes = augmented(bright, targets, torch.arange(len(images)), frozenset({"cutout"}), 0, 0)
    assert torch.equal(boxes, targets)
    dark = (moved == 0).any(1).flatten(1).sum(1)
    assert (dark > 0).all()
    assert (dark <= 17 * 17).all()


def test_what_is_drawn_belongs_to_seed_epoch_and_image() -> None:
    images, targets = scene()
    kinds, every = frozenset(KINDS), torch.arange(len(images))
    moved, boxes = augmented(images, targets, every, kinds, 0, 3)
    some = torch.tensor([5, 2])
    part, rows = augmented(images[some], targets[some], some, kinds, 0, 3)
    assert torch.equal(part.nan_to_num(), moved[some].nan_to_num())
    assert torch.equal(rows, boxes[some])
    for seed, epoch in ((1, 3), (0, 4)):
        assert not torch.equal(augmented(images, targets, every, kinds, seed, epoch)[1], boxes)
    assert augmented(images, targets, every, frozenset(), 0, 3)[0] is images


def test_of_a_sliver_nothing_is_asked() -> None:
    """A side of less than a pixel, seen whole: nothing that a detector could be asked for, whatever the other side."""
    rows = torch.tensor([[[10, 10, 10.9, 60, 0, 0], [10, 10, 60, 10.9, 0, 0], [10, 10, 12, 60, 0, 0.0]]])
    _, moved = augmented(torch.rand(1, 3, 64, 64), rows, torch.arange(1), frozenset({"flip"}), 0, 0)
    assert moved[0, :, LABEL].tolist() == [-1, -1, 0]
