"""A detector of many classes on data of some: the same boxes, losses and scores under the data's numbers."""

from __future__ import annotations

import torch

from advkit.data.boxes import stacked
from advkit.models.build import create
from advkit.models.heads import reset_head, select_classes
from advkit.models.one_logit import as_two_classes

NAMES = ("cat", "dog", "eel", "fox")


def test_some_classes_of_a_detector_in_another_order() -> None:
    whole = create("advkit/tiny-ssd", num_classes=4, input_size=(3, 96, 96), labels=NAMES, seed=2).eval()
    some = select_classes(whole, ("fox", "cat"))
    images = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        full, part = whole(images), some(images)
    assert torch.equal(part.scores(), full.scores()[:, [3, 0]])
    found, every = part.predictions(), full.predictions()
    assert found.shape == every.shape
    for k in range(2):
        expected = [(*row[:5], {3: 0, 0: 1}[int(row[5])]) for row in every[k].tolist() if row[5] in (3, 0)]
        assert expected
        assert [tuple(row) for row in found[k].tolist() if row[5] >= 0] == expected
        scores = found[k, :, 4]
        assert (scores[:-1] >= scores[1:]).all()
    ours = stacked([torch.tensor([[5, 5, 50, 50, 0, 0.0]]), torch.tensor([[5, 5, 50, 50, 1, 0.0]])])
    theirs = ours.clone()
    theirs[:, :, 4] = torch.tensor([[3.0], [0.0]])
    for name, losses in part.losses(ours).items():
        assert torch.equal(losses, full.losses(theirs)[name])


def test_a_head_made_anew_keeps_background_and_classes_of_the_same_name() -> None:
    network = create("advkit/tiny-ssd", num_classes=4, input_size=(3, 96, 96), labels=NAMES, seed=2).eval()
    other = reset_head(network, ("dog", "gnu"), 0).eval()
    images = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        (before,), (after,) = network(images).parts, other(images).parts
    torch.testing.assert_close(after.heads["cls_logits"][..., [0, 1]], before.heads["cls_logits"][..., [0, 2]])
    torch.testing.assert_close(after.heads["bbox_regression"], before.heads["bbox_regression"])
    assert after.heads["cls_logits"].shape[-1] == 3
    assert "1 kept by name" in other.spec.notes[-1]


def test_a_detector_of_one_class_is_no_classifier_of_one_logit() -> None:
    network = create("advkit/tiny-ssd", num_classes=1, input_size=(3, 96, 96), labels=("person",), seed=0).eval()
    assert as_two_classes(network) is network
