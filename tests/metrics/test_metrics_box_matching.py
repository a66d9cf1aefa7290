"""Which prediction finds which object, by hand and against a slow reading of the rules."""

from __future__ import annotations

import pytest
import torch
from random_detections import random_detections
from torch import Tensor
from torchvision.ops import box_iou

from advkit.metrics.box_matching import coco_match, images_right, objects_found, overlap, ranked, voc_match

CAT, DOG = 0, 1


def box(x: float, score: float, label: int = CAT, width: float = 10) -> list[float]:
    return [x, 0, x + width, 10, score, label]


def thing(x: float, label: int = CAT, difficult: int = 0) -> list[float]:
    return [x, 0, x + 10, 10, label, difficult]


def one(*rows: list[float]) -> Tensor:
    return torch.tensor([rows], dtype=torch.float32).reshape(1, len(rows), 6)


NOTHING = [0.0, 0, 0, 0, -1, 0]
SILENCE = [0.0, 0, 0, 0, 0, -1]


def test_overlap_is_torchvisions_within_a_class() -> None:
    predictions, targets = random_detections(0, images=20, num_classes=3, objects=4, predictions=9)
    found = overlap(predictions, targets, crowds=False)
    for image in range(20):
        expected = box_iou(predictions[image, :, :4].double(), targets[image, :, :4].double())
        same = (predictions[image, :, None, 5] == targets[image, None, :, 4]) & (targets[image, :, 4] >= 0)
        assert torch.equal(found[image], torch.where(same, expected.nan_to_num(), -1.0))


def test_overlap_with_a_crowd_is_the_share_within_it() -> None:
    predictions, targets = one(box(2, 0.9, width=4), box(8, 0.8, width=4)), one(thing(0), thing(0, difficult=1))
    assert overlap(predictions, targets, crowds=True)[0].tolist() == [[0.4, 1.0], [20 / 120, 0.5]]
    assert overlap(predictions, targets, crowds=False)[0].tolist() == [[0.4, 0.4], [20 / 120, 20 / 120]]


def test_inverted_and_empty_boxes_meet_nothing() -> None:
    inverted, both = [10.0, 0, 0, 10, 0.9, CAT], [10.0, 10, 0, 0, 0.9, CAT]
    assert overlap(one(inverted, both, box(3, 0.5, width=0)), one(thing(0)), crowds=True).flatten().tolist() == [
        0,
        0,
        0,
    ]


def test_the_best_score_chooses_first_and_an_object_is_found_once() -> None:
    #   the first takes object 1, though the second lies better; the second is left with object 0, too far at 0.6
    predictions = one(box(11, 0.9), box(10, 0.8), box(2, 0.7), box(10, 0.6))
    targets = one(thing(7), thing(10))
    matched, neutral = coco_match(predictions, targets, [0.5, 0.6])
    assert matched[0, :, 0].tolist() == [1, 0, -1, -1]
    assert matched[0, :, 1].tolist() == [1, -1, -1, -1]
    assert not neutral.any()


def test_voc_gives_no_second_choice() -> None:
    predictions, targets = one(box(11, 0.9), box(10, 0.8)), one(thing(7), thing(10))
    assert coco_match(predictions, targets, [0.5])[0][0, :, 0].tolist() == [1, 0]
    assert voc_match(predictions, targets)[0].tolist() == [[True, False]]


def test_difficult_objects_make_any_number_neutral() -> None:
    predictions = one(box(0, 0.9), box(1, 0.8), box(1, 0.7, DOG), box(0, 0.6, width=4))
    targets = one(thing(0, difficult=1))
    matched, neutral = coco_match(predictions, targets, [0.5])
    assert (matched < 0).all()
    assert neutral.flatten().tolist() == [True, True, False, True]  # the last lies within, as in a crowd
    assert voc_match(predictions, targets)[1].tolist() == [[True, True, False, False]]


def test_an_asked_object_goes_before_a_difficult_one() -> None:
    predictions, targets = one(box(0, 0.9), box(0, 0.8)), one(thing(0, difficult=1), thing(2))
    matched, neutral = coco_match(predictions, targets, [0.5])
    assert matched.flatten().tolist() == [1, -1]
    assert neutral.flatten().tolist() == [False, True]
    hit, aside = voc_match(predictions, targets)  # each is for the one that it overlaps most
    assert not hit.any()
    assert aside.all()


def slow_match(predictions: Tensor, targets: Tensor, threshold: float) -> list[int]:
    """COCO's rule in words, for one image."""
    free, found = set(range(len(targets))), []
    for row in predictions:
        if row[5] < 0:
            found.append(-1)
            continue
        iou = box_iou(row[None, :4].double(), targets[:, :4].double())[0].tolist()
        fit = [
            (iou[place], place)
            for place in free
            if iou[place] >= threshold and targets[place, 4] == row[5] and targets[place, 5] == 0
        ]
        found.append(max(fit)[1] if fit else -1)
        free -= {found[-1]}
    return found


def test_matching_equals_the_slow_one() -> None:
    predictions, targets = random_detections(1, images=30, num_classes=2, objects=6, predictions=25)
    matched, _ = coco_match(ranked(predictions), targets, [0.5, 0.75])
    assert (matched >= 0).sum() > 50
    for number, threshold in enumerate((0.5, 0.75)):
        for image in range(30):
            assert matched[image, :, number].tolist() == slow_match(predictions[image], targets[image], threshold)


def test_ranked_sorts_and_drops_what_is_not_finite() -> None:
    nan, inf = float("nan"), float("inf")
    rows = one(box(0, 0.2), box(0, nan), [nan, 0, 1, 1, 0.9, CAT], SILENCE, [0, 0, inf, 1, 0.9, CAT], box(1, 0.7))
    assert ranked(rows)[0].tolist() == [box(1, pytest.approx(0.7)), box(0, pytest.approx(0.2)), *[SILENCE] * 4]


@pytest.mark.parametrize(
    ("predictions", "targets", "right"),
    [
        ([box(0, 0.9)], [thing(0)], True),
        ([box(0, 0.9), box(50, 0.9)], [thing(0)], True),  # false ones elsewhere don't matter
        ([box(0, 0.4)], [thing(0)], False),
        ([box(0, 0.5)], [thing(0)], True),
        ([box(0, 0.9, DOG)], [thing(0)], False),
        ([box(4, 0.9)], [thing(0)], False),
        ([box(0, 0.9)], [thing(0), thing(1)], False),  # one prediction for one object
        ([box(0, 0.4), box(1, 0.8)], [thing(0), NOTHING], True),
        ([SILENCE], [NOTHING], True),
        ([box(0, 0.4)], [NOTHING], True),
        ([box(0, 0.6)], [NOTHING], False),
        ([SILENCE], [thing(0, difficult=1)], True),
        ([box(0, 0.9)], [thing(0, difficult=1)], True),
        ([box(50, 0.9)], [thing(0, difficult=1)], False),
        ([SILENCE], [thing(0), thing(50, difficult=1)], False),
        ([box(0, 0.9)], [thing(0), thing(50, difficult=1)], True),
        ([box(0, float("nan"))], [thing(0)], False),
        ([box(0, float("nan"))], [NOTHING], True),
        ([], [thing(0)], False),
        ([], [NOTHING], True),
    ],
)
def test_images_right(predictions: list[list[float]], targets: list[list[float]], right: bool) -> None:
    assert images_right(one(*predictions), one(*targets)).tolist() == [right]


def test_objects_found_by_score_and_overlap() -> None:
    predictions = one(box(50, 0.45), box(1, 0.9), box(101, 0.8, DOG), box(30, 0.9))
    targets = one(thing(0), thing(50), thing(100), thing(30, difficult=1), NOTHING)
    assert objects_found(predictions, targets).tolist() == [[True, False, False, False, False]]
    assert objects_found(predictions, targets, score=0.4).tolist() == [[True, True, False, False, False]]
    assert objects_found(predictions, targets, iou=0.9).tolist() == [[False] * 5]


def test_images_do_not_influence_each_other() -> None:
    predictions, targets = random_detections(2, images=16, num_classes=2, objects=2, predictions=12)
    together = images_right(predictions, targets)
    assert 0 < together.sum() < 16
    alone = [images_right(predictions[i : i + 1], targets[i : i + 1]) for i in range(16)]
    assert torch.equal(together, torch.cat(alone))
    shuffled = predictions[:, torch.randperm(12, generator=torch.Generator().manual_seed(0))]
    assert torch.equal(objects_found(shuffled, targets), objects_found(predictions, targets))
    assert images_right(predictions[:0], targets[:0]).shape == (0,)
