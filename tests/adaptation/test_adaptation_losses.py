"""Gradient reversal, losses of domain classifiers, CORAL, MCC, CDAN and pseudo-labels, against hand values."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advkit.adaptation.cdan import MAX_EXACT, MultilinearMap, outer_product
from advkit.adaptation.coral import coral_loss, covariance
from advkit.adaptation.domain_classifier import (
    cross_entropy_loss,
    domain_accuracy,
    domain_counts,
    focal_loss,
    least_squares_loss,
    reversal_factor,
    reversed_gradient,
)
from advkit.adaptation.mcc import confusion_loss
from advkit.adaptation.mean_teacher import pseudo_boxes
from advkit.adaptation.self_training import pseudo_label_losses
from advkit.adaptation.strong_views import NOISE, strong_view


def logit(p: float) -> float:
    return math.log(p / (1 - p))


@pytest.mark.parametrize("factor", [0.0, 0.3, 1.0, 2.5])
def test_reversal_passes_values_and_turns_gradients_by_its_factor(factor: float) -> None:
    x = torch.tensor([[1.0, -2.0], [0.5, 3.0]], requires_grad=True)
    weight = torch.tensor([[0.1, 0.2], [-0.3, 0.4]])
    passed = reversed_gradient(x, factor)
    assert torch.equal(passed, x)
    (passed * weight).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, -factor * weight, rtol=0, atol=0)


def test_behind_a_reversal_the_classifier_itself_learns_as_ever() -> None:
    torch.manual_seed(0)
    classifier, features = nn.Linear(3, 1), torch.randn(4, 3)
    gradients = []
    for factor in (None, 0.7):
        classifier.zero_grad()
        x = features.clone().requires_grad_()
        logits = classifier(x if factor is None else reversed_gradient(x, factor))
        cross_entropy_loss(logits[:2], logits[2:]).backward()
        assert x.grad is not None
        assert classifier.weight.grad is not None
        gradients.append((x.grad.clone(), classifier.weight.grad.clone()))
    torch.testing.assert_close(gradients[1][0], -0.7 * gradients[0][0])
    torch.testing.assert_close(gradients[1][1], gradients[0][1], rtol=0, atol=0)


def test_the_factor_of_a_reversal_rises_as_in_the_paper() -> None:
    assert reversal_factor(0.0) == 0.0
    for p in (0.1, 0.5, 1.0):
        assert reversal_factor(p) == pytest.approx(math.tanh(5 * p), rel=1e-12)  # the same function, written otherwise


def test_cross_entropy_of_domains_is_the_mean_of_both_means() -> None:
    source, target = torch.tensor([[logit(0.2)], [logit(0.4)]]), torch.tensor([[logit(0.7)]])
    expected = ((-math.log(0.8) - math.log(0.6)) / 2 - math.log(0.7)) / 2
    assert float(cross_entropy_loss(source, target)) == pytest.approx(expected, rel=1e-6)


def test_the_focal_loss_has_gamma_5() -> None:
    source, target = torch.tensor([[logit(0.2)], [logit(0.5)]]), torch.tensor([[logit(0.9)]])
    # probability of the right domain: 0.8, 0.5, 0.9
    expected = ((0.2**5 * -math.log(0.8) + 0.5**5 * -math.log(0.5)) / 2 + 0.1**5 * -math.log(0.9)) / 2
    assert float(focal_loss(source, target)) == pytest.approx(expected, rel=1e-5)
    assert float(focal_loss(source, target, gamma=0.0)) == pytest.approx(float(cross_entropy_loss(source, target)))


def test_least_squares_of_places_count_images_alike() -> None:
    source = [torch.full((1, 1, 2, 2), logit(0.1)), torch.full((1, 1, 1, 1), logit(0.5))]
    target = [torch.tensor([logit(0.6), logit(0.8)]).view(1, 1, 1, 2)]
    expected = ((0.1**2 + 0.5**2) / 2 + (0.4**2 + 0.2**2) / 2) / 2
    assert float(least_squares_loss(source, target)) == pytest.approx(expected, rel=1e-5)


def test_domain_accuracy_counts_places_and_images() -> None:
    source, target = torch.tensor([[[-1.0, 1.0]], [[-1.0, -1.0]]]), torch.tensor([[[2.0, 0.0]]])
    counts = domain_counts([source], [target], "local")
    assert counts["local_right"].tolist() == [0.5, 1.0, 0.5]
    sums = {name: float(value.sum()) for name, value in counts.items()}
    assert domain_accuracy(sums, "local") == {"local_accuracy": pytest.approx(2 / 3)}


def test_coral_is_the_squared_distance_of_covariances_over_4_d_squared() -> None:
    source, target = torch.tensor([[0.0, 0.0], [2.0, 0.0]]), torch.tensor([[1.0, 0.0], [1.0, 4.0]])
    # [[2, 0], [0, 0]] against [[0, 0], [0, 8]]
    assert float(coral_loss(source, target)) == pytest.approx((2**2 + 8**2) / (4 * 2**2))
    generator = torch.Generator().manual_seed(0)
    one, two = torch.randn(7, 3, generator=generator), torch.randn(9, 3, generator=generator) * 2 + 1
    np.testing.assert_allclose(covariance(one).numpy(), np.cov(one.numpy(), rowvar=False), rtol=1e-5, atol=1e-6)
    by_numpy = np.square(np.cov(one.numpy(), rowvar=False) - np.cov(two.numpy(), rowvar=False)).sum() / 36
    assert float(coral_loss(one, two)) == pytest.approx(by_numpy, rel=1e-5)
    assert float(coral_loss(one, one + 5)) == pytest.approx(0.0, abs=1e-9), "means are not aligned"


def by_hand(logits: Tensor, temperature: float) -> float:
    """Minimum class confusion, equation by equation (Jin et al. 2020, 1 to 5)."""
    rows = [[math.exp(v / temperature) for v in row] for row in logits.tolist()]
    p = [[v / sum(row) for v in row] for row in rows]
    entropy = [-sum(v * math.log(v) for v in row) for row in p]
    whole = sum(1 + math.exp(-h) for h in entropy)
    w = [len(p) * (1 + math.exp(-h)) / whole for h in entropy]
    classes = range(len(p[0]))
    c = [[sum(w[i] * p[i][j] * p[i][k] for i in range(len(p))) for k in classes] for j in classes]
    share = [[c[j][k] / sum(c[j]) for k in classes] for j in classes]
    return sum(share[j][k] for j in classes for k in classes if j != k) / len(classes)


def test_class_confusion_is_the_papers() -> None:
    logits = torch.tensor([[2.0, -1.0, 0.3], [0.1, 0.2, 4.0], [-3.0, 1.0, 1.5], [0.0, 0.0, 0.0]])
    for temperature in (1.0, 2.5):
        assert float(confusion_loss(logits, temperature)) == pytest.approx(by_hand(logits, temperature), rel=1e-5)
    assert float(confusion_loss(logits)) == pytest.approx(by_hand(logits, 2.5), rel=1e-5)
    assert float(confusion_loss(torch.eye(3) * 1000)) == pytest.approx(0.0, abs=1e-6)
    assert float(confusion_loss(torch.zeros(5, 4))) == pytest.approx(3 / 4)


def test_cdan_joins_every_feature_with_every_probability() -> None:
    features, probabilities = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[0.25, 0.75]])
    joined = outer_product(features, probabilities)
    assert joined.tolist() == [[0.25, 0.5, 0.75, 0.75, 1.5, 2.25]]
    exact = MultilinearMap(3, 2)
    assert (exact.exact, exact.width) == (True, 6)
    assert torch.equal(exact(features, probabilities), joined)


def test_large_outer_products_are_projected_with_their_inner_products_kept() -> None:
    torch.manual_seed(0)
    width = MAX_EXACT // 4 + 1
    projected = MultilinearMap(width, 4)
    assert (projected.exact, projected.width) == (False, 1024)
    features, probabilities = torch.randn(6, width), torch.randn(6, 4).softmax(1)
    found = projected(features, probabilities)
    wanted = outer_product(features, probabilities)
    norms = wanted.square().sum(1)
    torch.testing.assert_close(found.square().sum(1) / norms, torch.ones(6), rtol=0, atol=0.5)
    assert float((found[0] @ found[1]) / norms[0]) == pytest.approx(float((wanted[0] @ wanted[1]) / norms[0]), abs=0.3)


def test_pseudo_labels_are_taken_where_the_network_is_sure() -> None:
    guesses = torch.tensor([[logit(0.95), 0.0], [0.0, logit(0.85)], [0.0, logit(0.9001)]])
    logits = torch.tensor([[0.0, 1.0], [0.0, 1.0], [0.0, 1.0]], requires_grad=True)
    losses, kept = pseudo_label_losses(logits, guesses, 0.9)
    assert kept.tolist() == [True, False, True]
    expected = F.cross_entropy(logits.detach(), torch.tensor([0, 0, 1]), reduction="none")
    torch.testing.assert_close(losses.detach(), expected * torch.tensor([1.0, 0.0, 1.0]))
    losses.sum().backward()
    assert logits.grad is not None
    assert float(logits.grad[1].abs().sum()) == 0.0


def test_boxes_of_a_teacher_become_targets_from_the_threshold_on() -> None:
    predictions = torch.tensor([[[1.0, 2, 3, 4, 0.8, 1], [5, 6, 7, 8, 0.79, 0], [0, 0, 0, 0, 0, -1]]])
    found = pseudo_boxes(predictions, 0.8)
    assert found.tolist() == [[[1, 2, 3, 4, 1, 0], [0, 0, 0, 0, -1, 0], [0, 0, 0, 0, -1, 0]]]


def test_strong_views_belong_to_the_image_and_leave_its_edges() -> None:
    images = torch.rand(4, 3, 6, 8, generator=torch.Generator().manual_seed(0))
    images[1, :, :, 5:] = float("nan")
    keys = torch.tensor([7, 3, 9, 1])
    found = strong_view(images, keys, 0)
    assert torch.equal(found.isnan(), images.isnan())
    inside = found[~found.isnan()]
    assert 0.0 <= float(inside.min()) < float(inside.max()) <= 1.0
    assert torch.equal(strong_view(images[2:], keys[2:], 0), found[2:])
    assert not torch.allclose(strong_view(images[2:], keys[2:] + 1, 0), found[2:], atol=0.01)
    assert not torch.allclose(strong_view(images[2:], keys[2:], 1), found[2:], atol=0.01)
    assert float((found - images).nan_to_num().abs().mean()) > 0.05
    torch.testing.assert_close(strong_view(images[1:2, :, :, :5], keys[1:2], 0), found[1:2, :, :, :5])
    padded = torch.nn.functional.pad(images, (0, 3, 0, 2), value=float("nan"))
    torch.testing.assert_close(strong_view(padded, keys, 0)[:, :, :6, :8], found, equal_nan=True)


def test_the_noise_of_a_strong_view_is_normal_and_another_one_in_each_pixel() -> None:
    grey = torch.full((1, 3, 40, 40), 0.5)
    noise = strong_view(grey, torch.tensor([4]), 0)
    assert float(noise.std()) == pytest.approx(NOISE, rel=0.1)
    assert noise.unique().numel() > 4000
