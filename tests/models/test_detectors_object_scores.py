"""How much speaks for an object where it is: against its boxes one by one, and not against those elsewhere."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_detectors import MAKERS, ONE_STAGE, detector
from torch import Tensor

from advkit.data.boxes import stacked
from advkit.models.build import create
from advkit.models.detectors.output import object_targets
from advkit.models.heads import select_classes

IMAGE = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(7))
LEFT, RIGHT = [4, 20, 44, 70, 1, 0.0], [54, 20, 94, 70, 2, 0.0]


def targets(*rows: list[float]) -> Tensor:
    return stacked([torch.tensor(rows)])


def probabilities(net: Any, heads: dict[str, Tensor]) -> Tensor:
    """(A, K) scores as the papers define them."""
    logits = heads["cls_logits"][0]
    if "bbox_ctrness" in heads:
        return (logits.sigmoid() * heads["bbox_ctrness"][0].sigmoid()).sqrt()
    return (logits.softmax(1) if net.proposal_matcher.low_threshold == 0.5 else logits.sigmoid())[:, 1:]


@pytest.mark.parametrize("name", ONE_STAGE)
def test_the_best_matched_box_of_each_object_counts(name: str) -> None:
    net = detector(name)
    output, rows = net(IMAGE), targets(LEFT, RIGHT)
    (part,) = output.parts
    match = net.match(part, object_targets(rows, part.group))[0]
    scores = probabilities(net, part.heads)
    best = [scores[match == k, label].max().log() for k, label in enumerate((1, 2))]
    assert all((match == k).any() for k in (0, 1))
    torch.testing.assert_close(output.object_scores(rows), torch.stack(best).mean()[None], rtol=1e-4, atol=1e-5)
    for k, row in enumerate((LEFT, RIGHT)):
        torch.testing.assert_close(output.object_scores(targets(row))[0], best[k], rtol=1e-4, atol=1e-5)


def test_a_two_stage_detector_is_asked_about_the_objects_own_boxes() -> None:
    net = detector("faster-rcnn")
    output = net(IMAGE)
    (part,) = output.parts
    images, features = part.of(0)
    scale = part.group.scale[0]
    for row in (LEFT, RIGHT):
        box = torch.tensor([row[:4]]) * scale
        heads = net.roi_heads
        logits, _ = heads.box_predictor(heads.box_head(heads.box_roi_pool(features, [box], images.image_sizes)))
        expected = logits.log_softmax(1)[0, int(row[4]) + 1]
        torch.testing.assert_close(output.object_scores(targets(row))[0], expected)


@pytest.mark.parametrize("name", MAKERS)
def test_difficult_objects_are_not_asked_for(name: str) -> None:
    output = detector(name)(IMAGE)
    alone = output.object_scores(targets(LEFT))
    torch.testing.assert_close(output.object_scores(targets(LEFT, [*RIGHT[:5], 1.0])), alone)
    none = output.object_scores(targets([*RIGHT[:5], 1.0]))
    assert none.tolist() == [0.0], "nothing is asked"
    assert not torch.equal(output.object_scores(targets(LEFT, RIGHT)), alone)


@pytest.mark.parametrize("name", MAKERS)
def test_a_step_along_the_gradient_raises_the_score_of_the_box(name: str) -> None:
    net, rows = detector(name), targets(LEFT)
    point = IMAGE.clone().requires_grad_()
    before = net(point).object_scores(rows)
    (gradient,) = torch.autograd.grad(before.sum(), point)
    assert torch.isfinite(gradient).all()
    after = net(IMAGE + 0.5 * gradient / gradient.norm()).object_scores(rows)
    assert float(after) > float(before.detach()) + 1e-4
    assert float(before.detach()) < 0


def test_some_classes_of_a_detector_keep_their_scores() -> None:
    names = ("cat", "dog", "eel", "fox")
    whole = create("advkit/tiny-ssd", num_classes=4, input_size=(3, 96, 96), labels=names, seed=2).eval()
    some = select_classes(whole, ("fox", "cat"))
    with torch.no_grad():
        full, part = whole(IMAGE), some(IMAGE)
    ours, theirs = targets([5, 5, 50, 50, 0, 0.0]), targets([5, 5, 50, 50, 3, 0.0])
    assert torch.equal(part.object_scores(ours), full.object_scores(theirs))
    assert not torch.equal(full.object_scores(ours), full.object_scores(theirs))
