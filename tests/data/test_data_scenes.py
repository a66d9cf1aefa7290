"""Built-in scenes: reproducible, the same in every domain but for their looks, with boxes that fit what is drawn."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.path import Path as Outline

from advkit.data import scenes
from advkit.data.boxes import DIFFICULT, LABEL, is_object
from advkit.data.builtin import BUILT_IN
from advkit.data.reference import load
from advkit.data.scenes_layout import CLASSES, SIDE, Object, Scene, _drawn
from advkit.data.scenes_parts import Material, Part, box

SOME = torch.arange(12)


@pytest.fixture(scope="module")
def drawn() -> list[Scene]:
    return list(scenes._scenes("test", SOME))


@pytest.fixture(scope="module")
def noise() -> list[np.ndarray]:
    return list(scenes._noise("any", "test", SOME))


@pytest.mark.parametrize("domain", scenes.DOMAINS)
def test_an_image_is_the_same_whatever_is_read_with_it(domain):
    together = scenes.pictures(domain, "train", torch.arange(20))
    assert together.dtype == torch.uint8
    order = torch.tensor([19, 3, 17, 3, 0])
    assert torch.equal(scenes.pictures(domain, "train", order), together[order])
    found = load(f"scenes/{domain}#train")
    for few in (torch.tensor([3]), order, torch.arange(20), order):
        images, targets = found.batch(few)
        assert torch.equal(images, together[few] / 255)
        assert torch.equal(targets, found.targets[few])
    assert torch.equal(load(f"scenes/{domain}#train").batch(order)[0], found.batch(order)[0])
    assert len({image.numpy().tobytes() for image in together}) == 20


def test_another_process_with_other_threads_draws_the_same():
    code = (
        "import hashlib, torch; torch.set_num_threads(2); from advkit.data.scenes import DOMAINS, pictures\n"
        "for d in DOMAINS: print(hashlib.sha256(pictures(d, 'test', torch.arange(3, 6)).numpy().tobytes()).hexdigest())"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    here = [scenes.pictures(domain, "test", torch.arange(8))[3:6] for domain in scenes.DOMAINS]
    assert found.stdout.split() == [hashlib.sha256(images.numpy().tobytes()).hexdigest() for images in here]


def test_domains_have_the_same_objects_in_pictures_of_their_own():
    found = {domain: load(f"scenes/{domain}") for domain in scenes.DOMAINS}
    first = found["photo"]
    assert (first.task, first.class_names, first.size, len(first)) == ("detection", CLASSES, (3, SIDE, SIDE), 500)
    assert len(load("scenes/photo", role="train")) == 1000
    for one in found.values():
        assert torch.equal(one.targets, first.targets)
        assert one.class_names == first.class_names
    assert len({one.batch(SOME)[0].numpy().tobytes() for one in found.values()}) == len(scenes.DOMAINS)
    assert not torch.equal(load("scenes/photo#train").targets[:500], first.targets)


@pytest.mark.parametrize("split", scenes.SIZES)
def test_the_boxes_in_the_file_are_those_of_the_scenes(split):
    rows = torch.arange(0, scenes.SIZES[split], 17)
    drawn = scenes.drawn_boxes(split, rows)
    assert torch.equal(load(f"scenes/photo#{split}").targets[rows][:, : drawn.shape[1]], drawn)


@pytest.mark.slow
def test_the_file_of_boxes_is_what_is_written(tmp_path):
    scenes.write_boxes(tmp_path / "boxes.npz")
    with np.load(tmp_path / "boxes.npz") as again, np.load(Path(scenes.__file__).parent / "scenes_boxes.npz") as kept:
        assert sorted(again) == sorted(kept) == sorted(scenes.SIZES)
        for split in kept:
            assert np.array_equal(again[split], kept[split])


def test_what_is_done_to_the_targets_of_one_set_stays_there():
    load("scenes/fog").targets.zero_()
    assert float(load("scenes/fog").targets.abs().sum()) > 0


@pytest.mark.parametrize("split", scenes.SIZES)
def test_every_class_is_there_in_proportion(split):
    targets = load(f"scenes/photo#{split}").targets
    there = is_object(targets)
    assert torch.equal(torch.bincount(there.sum(1)) > 0, torch.tensor([False] + [True] * 5))  # 1 to 5 in each
    shares = torch.bincount(targets[..., LABEL][there].long(), minlength=6) / there.sum()
    assert float(shares.min()) > 0.12
    assert float(shares.max()) < 0.22
    objects = targets[there]
    assert float(objects[:, :4].min()) >= 0
    assert float(objects[:, :4].max()) <= SIDE
    asked = objects[objects[:, DIFFICULT] == 0]
    assert float((asked[:, 2:4] - asked[:, :2]).min()) >= 10
    assert len(asked) > 0.95 * len(objects)


def _owners(one: Scene) -> np.ndarray:
    """Which object (from 0; -1: none) is seen at each of 4 x 4 points of a pixel, by point in polygon."""
    step = 1 / 4
    centres = (np.arange(SIDE / step) + 0.5) * step
    grid = np.stack(np.meshgrid(centres, centres), -1).reshape(-1, 2)
    seen = np.full(len(grid), -1)
    owner = {k: number for number, found in enumerate(one.objects) for k in range(found.parts.start, found.parts.stop)}
    for k, part in enumerate(one.parts):
        if k in owner:
            low, high = part.points.min(0), part.points.max(0)
            near = np.flatnonzero(((grid >= low) & (grid <= high)).all(1))
            seen[near[Outline(part.points).contains_points(grid[near])]] = owner[k]
    return seen.reshape(len(centres), -1)


def test_boxes_are_tight_about_what_is_seen(drawn):
    for one in drawn[:6]:
        seen = _owners(one)
        assert len(one.boxes) == len(one.objects)
        for number, (x0, y0, x1, y1, label, _) in enumerate(one.boxes):
            rows, columns = np.nonzero(seen == number)
            expected = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / 4
            assert np.abs(expected - (x0, y0, x1, y1)).max() < 0.6
            assert label == one.objects[number].label


# How far in pixels a hand strays from what it draws: outlines, wobble, washes that run.
@pytest.mark.parametrize(("domain", "stray"), [("clipart", 2.0), ("sketch", 3.0), ("watercolor", 5.5)])
def test_an_object_changes_the_picture_in_its_box_and_in_all_of_it(domain, stray, drawn, noise):
    draw = scenes.DOMAINS[domain]
    for one, numbers in zip(drawn, noise, strict=True):
        back, last = one.parts[: one.objects[0].parts.start], one.objects[-1]
        alone = Object(last.label, slice(len(back), len(back) + last.parts.stop - last.parts.start), last.foot)
        parts = (*back, *one.parts[last.parts])
        labels, boxes = _drawn(parts, [alone])
        shown = replace(one, parts=parts, objects=(alone,), labels=labels)
        without = replace(one, parts=back, objects=(), labels=_drawn(back, ())[0])
        rows, columns = np.nonzero((draw(shown, numbers) != draw(without, numbers)).any(0))
        found = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        assert np.abs(found - boxes[0][:4]).max() <= stray


def _scene_of(*squares: tuple[float, float, float, float]) -> list[list[float]]:
    """Boxes of a scene whose objects are rectangles, from back to front."""
    parts = [Part(box(*square), (0.5, 0.5, 0.5), Material.PAINT) for square in ((0, 0, SIDE, SIDE), *squares)]
    return _drawn(parts, [Object(k, slice(k + 1, k + 2), 100.0) for k in range(len(squares))])[1]


def test_hidden_objects_are_difficult_or_left_out():
    whole = (20.0, 20.0, 60.0, 60.0)
    assert [b[DIFFICULT] for b in _scene_of(whole, (20, 20, 60, 45))] == [0, 0]  # 62 % hidden
    hidden = _scene_of(whole, (20, 20, 60, 50))  # 75 %
    assert [b[DIFFICULT] for b in hidden] == [1, 0]
    assert hidden[0][:4] == pytest.approx([20, 50, 60, 60], abs=0.5)
    assert [b[LABEL] for b in _scene_of(whole, (10, 10, 70, 70))] == [1]
    assert [b[DIFFICULT] for b in _scene_of((20, 20, 28, 60))] == [1]  # too narrow


def test_fog_is_the_photograph_with_less_contrast_and_most_of_it_far_away():
    photo, fog = (load(f"scenes/{domain}").batch(slice(0, 40))[0] for domain in ("photo", "fog"))
    both = torch.stack([photo.flatten(), fog.flatten()])
    assert float(torch.corrcoef(both)[0, 1]) > 0.9
    change = (fog - photo).abs().mean((0, 1, 3))
    assert float(change[:40].mean()) > 1.5 * float(change[-20:].mean())
    assert float(fog.std((2, 3)).mean()) < 0.9 * float(photo.std((2, 3)).mean())


def test_sketches_are_grey_lines_on_white_and_clip_art_is_loud():
    sketch, clipart, photo = (
        load(f"scenes/{domain}").batch(slice(0, 40))[0] for domain in ("sketch", "clipart", "photo")
    )
    assert torch.equal(sketch[:, 0], sketch[:, 1])
    assert torch.equal(sketch[:, 0], sketch[:, 2])
    assert 0.7 < float((sketch > 0.9).float().mean()) < 0.97
    assert float(sketch.min()) < 0.4
    colours = [len(images.flatten(1).T.unique(dim=0)) for images in (clipart[0], photo[0])]
    assert colours[0] < 0.2 * colours[1]
    loud, pale = ((images.amax(1) - images.amin(1)).mean() for images in (clipart, photo))
    assert float(loud) > 1.3 * float(pale)


def _frechet(a: np.ndarray, b: np.ndarray) -> float:
    """Squared Fréchet distance of two Gaussians (Dowson and Landau 1982), by singular values."""
    means = ((a.mean(0) - b.mean(0)) ** 2).sum()
    a, b = ((x - x.mean(0)) / np.sqrt(len(x) - 1) for x in (a, b))
    return float(means + (a**2).sum() + (b**2).sum() - 2 * np.linalg.svd(a @ b.T, compute_uv=False).sum())


def _statistics(images: torch.Tensor) -> np.ndarray:
    """Means and deviations of colour, saturation and local contrast, for each image."""
    vivid, grey = images.amax(1) - images.amin(1), images.mean(1)
    edges = grey.diff(dim=2).abs()
    parts = [images.mean((2, 3)), images.std((2, 3)), *(x.mean((1, 2))[:, None] for x in (vivid, edges))]
    return torch.cat([*parts, vivid.std((1, 2))[:, None], edges.std((1, 2))[:, None]], 1).double().numpy()


def test_domains_lead_away_from_photographs_in_order():
    features = {domain: _statistics(load(f"scenes/{domain}").batch(slice(0, 64))[0]) for domain in scenes.DOMAINS}
    other = _statistics(load("scenes/photo").batch(slice(64, 128))[0])
    unit = features["photo"].std(0)
    distances = [_frechet(features["photo"] / unit, x / unit) for x in (other, *list(features.values())[1:])]
    assert distances == sorted(distances)
    assert distances[1] > 3 * distances[0]


def test_each_image_is_drawn_once(monkeypatch):
    asked = []
    draw = scenes.pictures

    def counted(domain, split, rows):
        asked.extend(rows.tolist())
        return draw(domain, split, rows)

    monkeypatch.setattr(scenes, "pictures", counted)
    found = load("scenes/sketch")
    for few in ([4, 5, 4], [5, 6], [4, 5, 6]):
        found.batch(torch.tensor(few))
    assert asked == [4, 5, 6]


@pytest.mark.parametrize("domain", scenes.DOMAINS)
def test_crops_hold_one_object_each(domain):
    whole, crops = load(f"scenes/{domain}"), load(f"scenes/{domain}/crops")
    owner, place = ((is_object(whole.targets)) & (whole.targets[..., DIFFICULT] == 0)).nonzero().T
    boxes = whole.targets[owner, place]
    assert (crops.task, crops.class_names, crops.size) == ("classification", CLASSES, (3, 32, 32))
    assert torch.equal(crops.targets, boxes[:, LABEL].long())
    rows = torch.tensor([7, 0, 30])
    images, labels = crops.batch(rows)
    assert torch.equal(labels, crops.targets[rows])
    for image, row in zip(images, rows, strict=True):
        x0, y0, x1, y1 = boxes[row, :4].tolist()
        side = 1.2 * max(x1 - x0, y1 - y0)
        left, top = (min(max(0.0, (a + b - side) / 2), SIDE - side) for a, b in ((x0, x1), (y0, y1)))
        cut = whole.batch(owner[row : row + 1])[0][
            0, :, round(top) : round(top + side), round(left) : round(left + side)
        ]
        assert (image.mean((1, 2)) - cut.mean((1, 2))).abs().max() < 0.03
    assert torch.equal(crops.batch(torch.tensor([30, 7]))[0], images[[2, 0]])


def test_crops_come_in_the_size_that_is_wanted_and_scenes_as_they_are(refused):
    assert load("scenes/clipart/crops", size=(40, 24)).batch(slice(0, 2))[0].shape == (2, 3, 40, 24)
    assert load("scenes/clipart", size=(40, 24)).batch(slice(0, 2))[0].shape == (2, 3, SIDE, SIDE)
    assert load("scenes/clipart/crops").batch(slice(0, 0))[0].shape == (0, 3, 32, 32)
    assert load("scenes/clipart").batch(slice(0, 0))[0].shape == (0, 3, SIDE, SIDE)
    refused("scenes/clipart", "3 channels", channels=1)
    refused("scenes/foto", "did you mean scenes/photo")
    refused("scenes/photo#val", "#train, #test")


def test_every_domain_is_built_in() -> None:
    assert {*scenes.SCENES, "digits"} == set(BUILT_IN)
