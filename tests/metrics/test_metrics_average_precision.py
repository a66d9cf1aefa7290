"""Average precision by hand, and its bootstrap against resampled images that are evaluated one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from random_detections import random_detections

from advkit.metrics import image_bootstrap
from advkit.metrics.average_precision import IOU_THRESHOLDS, MatchedDetections, voc_ap, weighted_ap
from advkit.metrics.coco_eval import coco_ap
from advkit.metrics.mean_average_precision import MeanAveragePrecision


def ranking(outcomes: str, objects: int, images: list[int] | None = None, total: int = 1) -> MatchedDetections:
    """One class, one overlap; from the best score down T for true, F for false, N for neither."""
    hit = np.array([letter == "T" for letter in outcomes], dtype=bool)
    neutral = np.array([letter == "N" for letter in outcomes], dtype=bool)
    image = np.array(images or [0] * len(outcomes), dtype=np.int64)
    counts = np.zeros((total, 1), dtype=np.int64)
    np.add.at(counts[:, 0], image[hit], 1)
    counts[0] += objects - counts.sum()
    score = np.linspace(1, 0.5, len(outcomes), dtype=np.float32)
    return MatchedDetections(
        images=total,
        image=image,
        label=np.zeros(len(outcomes), dtype=np.int64),
        score=score,
        hit=hit[:, None],
        neutral=neutral[:, None],
        voc_hit=hit,
        voc_neutral=neutral,
        objects=counts,
    )


def plain_ap(outcomes: str, objects: int) -> float:
    found = ranking(outcomes, objects)
    return float(weighted_ap(found, np.ones((1, 1), dtype=np.int32))[0, 0, 0])


@pytest.mark.parametrize(
    ("outcomes", "objects", "coco", "eleven", "area"),
    [
        # recall 1: precision 1
        ("T", 1, 1.0, 1.0, 1.0),
        ("TF", 1, 1.0, 1.0, 1.0),
        # precision 1/2 at every recall
        ("FT", 1, 0.5, 0.5, 0.5),
        ("FNNT", 1, 0.5, 0.5, 0.5),
        # recall 1/2 with precision 1: 51 of 101 recalls, 6 of 11
        ("T", 2, 51 / 101, 6 / 11, 0.5),
        # rank      1    2    3         recalls up to 1/3: precision 1, 34 and 4 of them;
        # recall   1/3  1/3  2/3        up to 2/3: 2/3, 33 and 3; none beyond
        # precision 1   1/2  2/3
        ("TFT", 3, (34 + 33 * 2 / 3) / 101, (4 + 3 * 2 / 3) / 11, 1 / 3 + 2 / 9),
        # precision   0   1/2  2/3  1/2  3/5: what comes later and is higher counts
        ("FTTFT", 3, (67 * 2 / 3 + 34 * 3 / 5) / 101, (7 * 2 / 3 + 4 * 3 / 5) / 11, 2 / 3 * 2 / 3 + 1 / 3 * 3 / 5),
        # 3 of 10 reach the recall 0.3, whatever floats make of it
        ("TTT", 10, 31 / 101, 4 / 11, 0.3),
        ("FFF", 2, 0.0, 0.0, 0.0),
        ("NN", 2, 0.0, 0.0, 0.0),
        ("", 2, 0.0, 0.0, 0.0),
    ],
)
def test_tables_by_hand(outcomes: str, objects: int, coco: float, eleven: float, area: float) -> None:
    assert plain_ap(outcomes, objects) == pytest.approx(coco, abs=1e-12)
    found = ranking(outcomes, objects)
    assert voc_ap(found.voc_hit, found.voc_neutral, objects) == pytest.approx((eleven, area), abs=1e-12)


@pytest.mark.parametrize("objects", [1, 3, 7, 10, 20, 25, 50, 100, 128, 200, 300, 1000])
def test_recalls_that_floats_miss_are_missed_as_coco_misses_them(objects: int) -> None:
    """Recall 0.29 of 100 objects counts or not by the last bit: as np.linspace has it, COCO's own recalls."""
    for hits in range(0, objects + 1, max(1, objects // 100)):
        recalls = np.linspace(0.0, 1.0, 101)
        expected = (recalls <= hits / objects).sum() / 101 if hits else 0.0
        assert plain_ap("T" * hits, objects) == pytest.approx(expected, abs=1e-12)


def test_an_image_counted_twice_is_two_images() -> None:
    # images:   0  1  1  2  0
    found = ranking("TFTTF", 4, [0, 1, 1, 2, 0], total=3)
    weights = np.array([[1, 1, 1], [2, 0, 1], [0, 3, 0], [0, 0, 0], [0, 1, 0]], dtype=np.int32)
    ap = weighted_ap(found, weights)[:, 0, 0]
    # image 0 has 2 objects, one of them not found; 1 and 2 have one each
    assert ap[0] == pytest.approx(plain_ap("TFTTF", 4))
    assert ap[1] == pytest.approx(plain_ap("TTTFF", 5))
    assert ap[2] == pytest.approx(plain_ap("FFFTTT", 3))
    assert np.isnan(ap[3])
    assert ap[4] == pytest.approx(plain_ap("FT", 1))


def test_multiplicities_are_fair_and_the_seeds() -> None:
    counts = image_bootstrap.multiplicities(40, 2000, 3)
    assert (counts.sum(1) == 40).all()
    assert np.array_equal(counts[:10], image_bootstrap.multiplicities(40, 10, 3))
    assert not np.array_equal(counts, image_bootstrap.multiplicities(40, 2000, 4))
    assert counts.mean(0) == pytest.approx(np.ones(40), abs=0.12)  # 5 standard errors
    assert counts.var() == pytest.approx(1 - 1 / 40, abs=0.03)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_bootstrap_is_the_slow_one(seed: int) -> None:
    """Each resample as a data set of its own, some images in it several times, through the reference."""
    predictions, targets = random_detections(seed, images=15, num_classes=4, objects=3, predictions=12)
    metric = MeanAveragePrecision(4)
    metric.update(predictions, targets)
    fast = image_bootstrap.resampled(metric.matched, resamples=30, seed=seed)
    weights = image_bootstrap.multiplicities(15, 30, seed)
    for row, counts in zip(fast, weights, strict=True):
        drawn = np.repeat(np.arange(15), counts)
        ap, _ = coco_ap(list(predictions[drawn]), list(targets[drawn]), 4, IOU_THRESHOLDS)
        assert row == pytest.approx(np.nanmean(ap, 0), abs=1e-12)
    assert np.ptp(fast[:, 0]) > 0.05


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    predictions, targets = random_detections(5, images=12, num_classes=2, objects=3, predictions=12)
    metric = MeanAveragePrecision(2)
    metric.update(predictions, targets)
    whole = image_bootstrap.resampled(metric.matched, resamples=50)
    monkeypatch.setattr("advkit.metrics.average_precision._CHUNK", 700)
    monkeypatch.setattr(image_bootstrap, "_CHUNK", 100)
    assert np.array_equal(whole, image_bootstrap.resampled(metric.matched, resamples=50))


def test_a_class_absent_from_a_resample_is_left_out() -> None:
    ap = np.array([[[0.5], [np.nan]], [[0.5], [0.1]], [[np.nan], [np.nan]]])
    found = image_bootstrap.mean_over_classes(ap)
    assert found[:2, 0].tolist() == pytest.approx([0.5, 0.3])
    assert np.isnan(found[2, 0])


def test_interval_moves_down_by_twice_the_bias() -> None:
    values = np.append(np.linspace(0.5, 0.7, 1001), np.nan)  # mean 0.6: a bias of 0.02 with a point of 0.58
    assert image_bootstrap.interval(values, 0.58) == pytest.approx((0.505 - 0.04, 0.695 - 0.04))
    assert image_bootstrap.interval(values, 0.8) == pytest.approx((0.505 + 0.4, 1.0))
    assert image_bootstrap.interval(values, 0.0, -1.0) == pytest.approx((0.505 - 1.2, 0.695 - 1.2))
    assert image_bootstrap.interval(np.array([np.nan]), 0.5) is None


def simulated(chance: np.random.Generator, images: int) -> MatchedDetections:
    """Two classes; three in four objects are found, hard images have more false predictions."""
    hard = chance.normal(0, 0.5, images)
    objects = chance.poisson(2, (images, 2)) + 1
    parts = [np.zeros((0, 4))]
    for label in (0, 1):
        image = np.repeat(np.arange(images), objects[:, label])
        score = 1.5 - hard[image] + chance.normal(0, 1, len(image))
        score, image = score[score > 0.5], image[score > 0.5]
        false = np.repeat(np.arange(images), chance.poisson(3, images))
        for places, scores, hit in ((image, score, 1), (false, chance.normal(0, 1.2, len(false)), 0)):
            parts.append(np.stack([places, np.full(len(places), label), scores, np.full(len(places), hit)], 1))
    image, label, score, hit = np.concatenate(parts).T
    nothing = np.zeros(len(hit), dtype=bool)
    return MatchedDetections(
        images=images,
        image=image.astype(np.int64),
        label=label.astype(np.int64),
        score=score.astype(np.float32),
        hit=hit[:, None] > 0,
        neutral=nothing[:, None],
        voc_hit=hit > 0,
        voc_neutral=nothing,
        objects=objects,
    )


def point(found: MatchedDetections) -> float:
    ones = np.ones((1, found.images), dtype=np.int32)
    return float(image_bootstrap.mean_over_classes(weighted_ap(found, ones))[0, 0])


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    chance = np.random.default_rng(0)
    truth, held, widths = point(simulated(chance, 20_000)), 0, []
    for seed in range(150):
        found = simulated(chance, 60)
        ends = image_bootstrap.interval(image_bootstrap.resampled(found, resamples=200, seed=seed)[:, 0], point(found))
        assert ends is not None
        held += ends[0] <= truth <= ends[1]
        widths.append(ends[1] - ends[0])
    assert 0.88 <= held / 150 <= 0.99
    assert np.median(widths) < 0.25  # and not by saying nothing


def test_difference_of_two_detectors_on_the_same_images() -> None:
    predictions, targets = random_detections(7, images=60, num_classes=2, objects=3, predictions=15)
    worse = predictions.clone()
    worse[..., :4] += 3 * torch.randn(worse[..., :4].shape, generator=torch.Generator().manual_seed(0))
    one, other = MeanAveragePrecision(2), MeanAveragePrecision(2)
    one.update(predictions, targets)
    other.update(worse, targets)
    found = image_bootstrap.map_difference(one.matched, other.matched)
    a, b = one.compute(), other.compute()
    for name in ("map50", "map50_95"):
        difference, ends = getattr(found, name), getattr(found, f"{name}_interval")
        assert difference == pytest.approx(a[name] - b[name], abs=1e-9)
        assert 0 < ends[0] < difference < ends[1]
        low, high = (np.array(x[f"{name}_interval"]) for x in (a, b))
        assert ends[1] - ends[0] < np.ptp(low) + np.ptp(high)  # what the images share cancels
    same = image_bootstrap.map_difference(one.matched, one.matched)
    assert same == image_bootstrap.MapDifference(0.0, (0.0, 0.0), 0.0, (0.0, 0.0))
    back = image_bootstrap.map_difference(other.matched, one.matched)
    assert back.map50_interval == pytest.approx((-found.map50_interval[1], -found.map50_interval[0]))


def test_difference_needs_the_same_images() -> None:
    one, other = ranking("TF", 2), ranking("TF", 3)
    with pytest.raises(ValueError, match="same images"):
        image_bootstrap.map_difference(one, other)
    empty = MeanAveragePrecision(1).matched
    assert image_bootstrap.map_difference(empty, empty).map50 is None
