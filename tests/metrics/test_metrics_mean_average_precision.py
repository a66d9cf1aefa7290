"""The metric of detection against faster-coco-eval called directly, torchmetrics, a slow PASCAL VOC, and by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from faster_coco_eval import COCO, COCOeval_faster
from random_detections import random_detections
from torch import Tensor
from torchvision.ops import box_iou

from advkit.files.errors import InputError
from advkit.metrics import coco_eval, mean_average_precision
from advkit.metrics.detection import DetectionMetric
from advkit.metrics.mean_average_precision import MeanAveragePrecision

CASES = [
    # seed, images, classes, objects, predictions, share of difficult ones
    (0, 40, 3, 4, 20, 0.0),
    (1, 40, 3, 4, 20, 0.3),
    (2, 5, 20, 2, 8, 0.2),  # classes without an object
    (3, 60, 1, 5, 30, 0.2),
    (4, 6, 2, 3, 100, 0.2),
    (5, 30, 2, 1, 1, 0.1),
    (6, 200, 4, 8, 12, 0.1),
    (7, 12, 1, 12, 150, 0.1),  # more than the 100 that count
]


def computed(predictions: Tensor, targets: Tensor, num_classes: int, *, batch: int = 1000, **more: int) -> dict:
    metric = MeanAveragePrecision(num_classes, **more)
    for start in range(0, len(predictions), batch):
        metric.update(predictions[start : start + batch], targets[start : start + batch])
    return metric.compute()


def case(seed: int, images: int, num_classes: int, objects: int, predictions: int, difficult: float):
    return random_detections(
        seed, images=images, num_classes=num_classes, objects=objects, predictions=predictions, difficult=difficult
    )


def coco_directly(predictions: Tensor, targets: Tensor, num_classes: int) -> COCOeval_faster:
    """The ordinary way, with every default: areas, numbers of detections, results loaded as from a file."""
    truth = {
        "images": [{"id": number, "width": 200, "height": 200} for number in range(len(targets))],
        "categories": [{"id": number, "name": str(number)} for number in range(num_classes)],
        "annotations": [],
    }
    for number, rows in enumerate(targets.tolist()):
        for x0, y0, x1, y1, label, difficult in rows:
            if label >= 0:
                truth["annotations"].append(
                    {
                        "id": len(truth["annotations"]) + 1,
                        "image_id": number,
                        "category_id": int(label),
                        "bbox": [x0, y0, x1 - x0, y1 - y0],
                        "area": (x1 - x0) * (y1 - y0),
                        "iscrowd": int(difficult),
                    }
                )
    results = [
        {"image_id": number, "category_id": int(label), "bbox": [x0, y0, x1 - x0, y1 - y0], "score": score}
        for number, rows in enumerate(predictions.tolist())
        for x0, y0, x1, y1, score, label in rows
        if label >= 0
    ]
    loaded = COCO(truth)
    evaluation = COCOeval_faster(loaded, loaded.loadRes(results), iouType="bbox")
    evaluation.run()
    return evaluation


@pytest.mark.parametrize("numbers", CASES)
def test_equals_faster_coco_eval_called_directly(numbers: tuple) -> None:
    predictions, targets = case(*numbers)
    found = computed(predictions, targets, numbers[2], resamples=2)
    direct = coco_directly(predictions, targets, numbers[2])
    assert found["map50"] == pytest.approx(direct.stats[1], abs=1e-6)
    assert found["map50_95"] == pytest.approx(direct.stats[0], abs=1e-6)
    assert 0.02 < found["map50_95"] <= found["map50"] + 1e-9 < 0.98
    precision = np.asarray(direct.eval["precision"]).reshape(10, 101, numbers[2], 4, 3)[:, :, :, 0, 2].mean(1)
    recall = np.asarray(direct.eval["recall"]).reshape(10, numbers[2], 4, 3)[0, :, 0, 2]
    for label, row in enumerate(found["per_class"]):
        if row["objects"]:
            assert row["ap50"] == pytest.approx(precision[0, label], abs=1e-6)
            assert row["ap50_95"] == pytest.approx(precision[:, label].mean(), abs=1e-6)
            assert row["recall50"] == pytest.approx(recall[label], abs=1e-6)
        else:
            assert (row["ap50"], row["ap50_95"], row["recall50"], row["voc2007_ap50"]) == (None,) * 4
            assert recall[label] == -1
    assert found["recall50"] == pytest.approx(recall[recall >= 0].mean(), abs=1e-6)
    assert found["classes_without_objects"] == (recall < 0).sum()


def test_equals_faster_coco_eval_on_many_small_sets() -> None:
    for seed in range(100, 150):
        shape = torch.randint(1, 9, (4,), generator=torch.Generator().manual_seed(seed)).tolist()
        predictions, targets = case(seed, *shape, 0.25)
        found = computed(predictions, targets, shape[1], resamples=1)
        if found["objects"] and found["predictions"]:
            direct = coco_directly(predictions, targets, shape[1])
            assert found["map50_95"] == pytest.approx(direct.stats[0], abs=1e-6), seed


def test_equals_torchmetrics() -> None:
    from torchmetrics.detection import MeanAveragePrecision as Reference

    predictions, targets = case(*CASES[1])
    reference = Reference(backend="faster_coco_eval", class_metrics=True)
    kept = [rows[rows[:, 5] >= 0] for rows in predictions]
    asked = [rows[rows[:, 4] >= 0] for rows in targets]
    reference.update(
        [{"boxes": rows[:, :4], "scores": rows[:, 4], "labels": rows[:, 5].long()} for rows in kept],
        [{"boxes": rows[:, :4], "labels": rows[:, 4].long(), "iscrowd": rows[:, 5].long()} for rows in asked],
    )
    expected, found = reference.compute(), computed(predictions, targets, 3, resamples=2)
    assert found["map50"] == pytest.approx(float(expected["map_50"]), abs=1e-6)
    assert found["map50_95"] == pytest.approx(float(expected["map"]), abs=1e-6)
    assert [row["ap50_95"] for row in found["per_class"]] == pytest.approx(expected["map_per_class"].tolist(), abs=1e-6)


def slow_voc(predictions: Tensor, targets: Tensor, label: int) -> tuple[float, float]:
    """PASCAL VOC's evaluation of one class, as its development kit describes it: one prediction after the other."""
    rows = [
        (float(row[4]), image, row)
        for image in range(len(predictions))
        for row in predictions[image]
        if row[5] == label
    ]
    objects = [rows_of[rows_of[:, 4] == label] for rows_of in targets]
    asked = sum(int((found[:, 5] == 0).sum()) for found in objects)
    done: set[tuple[int, int]] = set()
    true = false = 0
    curve = []
    for _, image, row in sorted(rows, key=lambda entry: -entry[0]):
        best, which = -1.0, -1
        for place, target in enumerate(objects[image]):
            iou = float(box_iou(row[None, :4].double(), target[None, :4].double()))
            if iou > best:
                best, which = iou, place
        if best >= 0.5 and objects[image][which, 5]:
            continue
        if best >= 0.5 and (image, which) not in done:
            done.add((image, which))
            true += 1
        else:
            false += 1
        curve.append((true, true / (true + false)))
    eleven = sum(max((p for t, p in curve if 10 * t >= j * asked), default=0.0) for j in range(11)) / 11
    area = sum(max((p for t, p in curve if t >= number), default=0.0) for number in range(1, asked + 1)) / asked
    return eleven, area


@pytest.mark.parametrize("numbers", [CASES[0], CASES[1], CASES[3], CASES[5]])
def test_equals_a_slow_pascal_voc(numbers: tuple) -> None:
    predictions, targets = case(*numbers)
    found = computed(predictions, targets, numbers[2], resamples=2)
    expected = [slow_voc(predictions, targets, label) for label in range(numbers[2])]
    for row, (eleven, area) in zip(found["per_class"], expected, strict=True):
        assert row["voc2007_ap50"] == pytest.approx(eleven, abs=1e-9)
        assert row["voc2010_ap50"] == pytest.approx(area, abs=1e-9)
    assert found["voc2007_map50"] == pytest.approx(np.mean([eleven for eleven, _ in expected]), abs=1e-9)
    assert found["voc2010_map50"] == pytest.approx(np.mean([area for _, area in expected]), abs=1e-9)
    assert found["voc2007_map50"] != pytest.approx(found["voc2010_map50"], abs=1e-4)


SQUARE = [0.0, 0, 10, 10]
NONE, EMPTY = [0.0, 0, 0, 0, 0, -1], [0.0, 0, 0, 0, -1, 0]


def tensor(*images: list[list[float]]) -> Tensor:
    return torch.tensor(images, dtype=torch.float32)


def test_counts_by_hand() -> None:
    predictions = tensor(
        [[*SQUARE, 0.9, 0], [*SQUARE, 0.8, 1]],  # right; no object of class 1 here
        [[50, 50, 60, 60, 0.7, 0], NONE],  # beside
        [[*SQUARE, 0.6, 2], NONE],  # difficult
    )
    targets = tensor([[*SQUARE, 0, 0], EMPTY], [[*SQUARE, 0, 0], [30, 30, 40, 40, 0, 0]], [[*SQUARE, 2, 1], EMPTY])
    found = computed(predictions, targets, 4)
    assert found["images"] == 3
    assert found["objects"] == 3
    assert found["difficult"] == 1
    assert found["predictions"] == 4
    assert found["classes_without_objects"] == 3
    # 3 objects: recall 1/3 at precision 1: 34 of 101 recalls, 4 of 11
    assert [found["map50"], found["map50_95"]] == pytest.approx([34 / 101] * 2)
    assert found["voc2007_map50"] == pytest.approx(4 / 11)
    assert found["voc2010_map50"] == found["recall50"] == pytest.approx(1 / 3)
    first, *others = found["per_class"]
    assert first["objects"] == 3
    assert first["images"] == 2
    assert first["predictions"] == 2
    assert [row["predictions"] for row in others] == [1, 1, 0]
    assert all(row["ap50"] is None and row["objects"] == row["images"] == 0 for row in others)


def test_without_objects_predictions_or_images() -> None:
    silent, blank = tensor([NONE], [NONE]), tensor([EMPTY], [EMPTY])
    for predictions, targets in ((silent, blank), (tensor([[*SQUARE, 0.9, 0]], [NONE]), blank)):
        found = computed(predictions, targets, 2)
        assert found["map50"] is found["map50_interval"] is found["map50_95"] is found["voc2007_map50"] is None
        assert found["recall50"] is None
        assert found["classes_without_objects"] == 2
    objects = tensor([[*SQUARE, 0, 0]], [EMPTY])
    for nothing in (silent, torch.zeros(2, 0, 6)):
        found = computed(nothing, objects, 2)
        assert found["map50"] == found["recall50"] == found["voc2010_map50"] == 0.0
        assert found["map50_interval"] == (0.0, 0.0)
    none = MeanAveragePrecision(2).compute()
    assert none["images"] == none["objects"] == 0
    assert none["map50"] is none["map50_95_interval"] is None


def test_what_is_not_finite_predicts_nothing_and_is_counted() -> None:
    predictions, targets = case(*CASES[0])
    before = computed(predictions, targets, 3, resamples=20)
    nan, inf = float("nan"), float("inf")
    bad = tensor([[0, 0, 9, 9, nan, 0], [nan, 0, 9, 9, 1, 0], [0, 0, inf, 9, 1, 1], [0, 0, 9, 9, 1, nan]])
    more = torch.cat([bad.expand(len(predictions), -1, -1), predictions], 1)
    after = computed(more, targets, 3, resamples=20)
    assert after["not_finite"] == 4 * len(predictions)
    assert before["not_finite"] == 0
    assert after | {"not_finite": 0} == before


def test_classes_beyond_the_data() -> None:
    predictions, targets = case(*CASES[0])
    before = computed(predictions, targets, 3, resamples=20)
    more = torch.cat([predictions, tensor([[*SQUARE, 1, 3], [*SQUARE, 1, 90]]).expand(len(predictions), -1, -1)], 1)
    after = computed(more, targets, 3, resamples=20)
    assert after["unknown_class"] == 2 * len(predictions)
    assert after | {"unknown_class": 0} == before
    with pytest.raises(InputError, match="object of class 2, but the detector has classes 0 to 1"):
        computed(predictions, targets, 2)


def test_batches_and_order_change_nothing() -> None:
    predictions, targets = case(*CASES[1])
    whole = computed(predictions, targets, 3, resamples=50)
    for batch in (1, 7):
        assert computed(predictions, targets, 3, resamples=50, batch=batch) == whole
    chance = torch.Generator().manual_seed(0)
    images, rows = torch.randperm(len(targets), generator=chance), torch.randperm(20, generator=chance)
    shuffled = computed(predictions[images][:, rows], targets[images], 3, resamples=50)
    for name, value in whole.items():  # an interval's draws belong to places
        if not name.endswith("_interval"):
            assert shuffled[name] == (pytest.approx(value, abs=1e-12) if isinstance(value, float) else value), name


def test_parts_that_are_merged_in_the_order_of_their_images_count_as_one() -> None:
    predictions, targets = case(*CASES[1])
    predictions[4, 0, 0], predictions[30, 0, 5] = torch.nan, 3.0
    whole, merged = DetectionMetric(3), DetectionMetric(3)
    whole.update(predictions, targets)
    merged.precision.matched  # noqa: B018  is not to stay what it was
    for rows in torch.arange(len(targets)).split(13):
        part = DetectionMetric(3)
        part.update(predictions[rows], targets[rows])
        merged.merge(part)
    found = merged.compute()
    assert found == whole.compute()
    assert merged.total == whole.total == 40
    assert found["images_right"] == whole.correct
    assert (found["not_finite"], found["unknown_class"]) == (1, 1)
    assert found["difficult"] > 0


def test_batches_of_unlike_shape() -> None:
    predictions, targets = case(*CASES[1])
    whole = computed(predictions, targets, 3, resamples=50)
    metric = MeanAveragePrecision(3, resamples=50)
    metric.update(predictions[:9], targets[:9])
    assert metric.compute()["images"] == 9
    wide = torch.cat([predictions[9:], torch.tensor(NONE).expand(31, 5, 6)], 1)
    metric.update(wide.double(), torch.cat([targets[9:], torch.tensor(EMPTY).expand(31, 2, 6)], 1))
    assert metric.compute() == whole


def test_equal_scores_are_taken_in_the_order_of_images_as_coco_takes_them() -> None:
    predictions, targets = case(*CASES[6])
    predictions[..., 4] = (4 * predictions[..., 4]).ceil() / 4
    found = computed(predictions, targets, 4, resamples=20)
    direct = coco_directly(predictions, targets, 4)
    assert found["map50"] == pytest.approx(direct.stats[1], abs=1e-6)
    assert found["map50_95"] == pytest.approx(direct.stats[0], abs=1e-6)


def test_the_seed_and_the_number_of_resamples_move_the_interval_alone() -> None:
    predictions, targets = case(*CASES[1])
    one = computed(predictions, targets, 3, resamples=200)
    assert one == computed(predictions, targets, 3, resamples=200)
    for other in (
        computed(predictions, targets, 3, resamples=200, seed=1),
        computed(predictions, targets, 3, resamples=100),
    ):
        changed = {name for name in one if one[name] != other[name]}
        assert changed == {"map50_interval", "map50_95_interval"}
    low, high = one["map50_interval"]
    assert 0.02 < high - low < 0.5
    assert computed(predictions[:1], targets[:1], 3)["map50_interval"] is None


def test_predictions_for_other_images_are_refused() -> None:
    predictions, targets = case(*CASES[0])
    with pytest.raises(ValueError, match="predictions for 1 images, but targets of 40"):
        MeanAveragePrecision(3).update(predictions[:1], targets)


def test_report_is_plain_json() -> None:
    found = computed(*case(*CASES[2]), 20, resamples=20)
    assert json.loads(json.dumps(found, allow_nan=False))["map50"] == found["map50"]


def test_a_reference_that_differs_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = mean_average_precision.coco_ap
    monkeypatch.setattr(mean_average_precision, "coco_ap", lambda *given: (right(*given)[0] + 2e-6, right(*given)[1]))
    with pytest.raises(RuntimeError, match="differs from that of faster-coco-eval 1"):
        computed(*case(*CASES[0]), 3)


def test_the_reference_is_imported_when_it_is_used() -> None:
    """Commands that measure no average precision must not wait for it."""
    for module in (mean_average_precision, coco_eval):
        for name, value in vars(module).items():
            assert not str(getattr(value, "__module__", value)).startswith("faster_coco_eval"), name
            assert "faster_coco_eval" not in name


def test_an_inverted_box_is_false_and_not_passed_over() -> None:
    """COCO's own area range would take its negative area for none of the sizes asked for."""
    predictions = tensor([[30, 0, 20, 10, 0.9, 0], [*SQUARE, 0.8, 0]])
    assert computed(predictions, tensor([[*SQUARE, 0, 0], EMPTY]), 1)["map50"] == pytest.approx(0.5)
