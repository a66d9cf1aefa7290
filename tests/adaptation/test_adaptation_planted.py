"""Shifts planted by hand: what a method is for gets better by it, and its domain classifier worse."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from planted import (
    PARAMS,
    a_network,
    a_run,
    accuracy_on,
    contrast_shift,
    informative_feature_shift,
    mean_shift,
    nuisance_shift,
    trained,
)

from advkit.files.errors import InputError

LONG = replace(PARAMS, epochs=40)


@pytest.mark.parametrize("method", ["dann", "cdan", "coral"])
def test_alignment_stops_the_network_from_reading_what_differs(method: str) -> None:
    source, target = nuisance_shift()
    alone = trained(a_run(source, target, a_network(), LONG))
    aligned = trained(a_run(source, target, a_network(), LONG, method=method, weight=3.0))
    assert (accuracy_on(alone.network, source), accuracy_on(aligned.network, source)) == (1.0, 1.0)
    assert accuracy_on(alone.network, target) < 0.95
    assert accuracy_on(aligned.network, target) == 1.0


@pytest.mark.parametrize("method", ["dann", "cdan"])
def test_alignment_makes_the_domain_classifier_worse(method: str) -> None:
    source, target = nuisance_shift()
    runs = [trained(a_run(source, target, a_network(), LONG, method=method, weight=w)) for w in (0.0, 3.0)]
    found = [run.history[-1]["domain_accuracy"] for run in runs]
    assert found[0] > 0.95, "without reversal it tells the domains apart"
    assert found[1] < 0.75


def test_with_the_wrong_sign_of_the_reversal_nothing_gets_better(monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = nuisance_shift()
    monkeypatch.setattr("advkit.adaptation.dann.reversal_factor", lambda progress: -1.0)
    wrong = trained(a_run(source, target, a_network(), LONG, method="dann", weight=3.0))
    assert accuracy_on(wrong.network, target) < 0.95
    assert wrong.history[-1]["domain_accuracy"] > 0.95


def test_less_confusion_moves_the_boundary_between_the_classes_of_the_target() -> None:
    source, target = mean_shift()
    alone = trained(a_run(source, target, a_network(), LONG))
    found = trained(a_run(source, target, a_network(), LONG, method="mcc", weight=3.0))
    assert accuracy_on(alone.network, target) < 0.8
    assert accuracy_on(found.network, target) == 1.0
    assert accuracy_on(found.network, source) > 0.95


def test_sure_images_teach_what_tells_the_others_apart() -> None:
    source, target = informative_feature_shift()
    alone = trained(a_run(source, target, a_network(reads_second=False), LONG))
    settings = {"method": "self-training", "threshold": 0.7}
    taught = trained(a_run(source, target, a_network(reads_second=False), LONG, **settings))
    assert accuracy_on(alone.network, target) < 0.75
    assert accuracy_on(taught.network, target) == 1.0
    labels = [record["pseudo_labels"] for record in taught.history]
    assert labels[0] < labels[-1] <= taught.history[-1]["target_images"] == 80


def test_no_prediction_is_a_pseudo_label_at_a_threshold_of_1() -> None:
    source, target = informative_feature_shift()
    alone = trained(a_run(source, target, a_network()))
    same = trained(a_run(source, target, a_network(), method="self-training", threshold=1.0))
    assert [record["pseudo_labels"] for record in same.history] == [0] * PARAMS.epochs
    for name, tensor in alone.network.net.state_dict().items():
        assert (tensor - same.network.net.state_dict()[name]).abs().max() < 1e-5


def test_statistics_of_the_target_undo_another_contrast() -> None:
    source, target = contrast_shift()
    alone = trained(a_run(source, target, a_network(batch_norm=True), LONG))
    own = trained(a_run(source, target, a_network(batch_norm=True), LONG, method="adabn"))
    assert accuracy_on(alone.network, source) == 1.0
    assert accuracy_on(alone.network, target) == 0.5
    assert accuracy_on(own.network, target) == 1.0
    weights = [run.network.net[1].weight for run in (alone, own)]
    assert (weights[0] == weights[1]).all(), "training is the source's alone"
    pixels = target.batch(slice(None))[0].flatten(1)
    features = own.network.net[1](pixels).detach()
    assert (own.network.net[2].running_mean - features.mean(0)).abs().max() < 1e-5
    assert (own.network.net[2].running_var - features.var(0, unbiased=False)).abs().max() < 1e-5


def test_adabn_needs_batch_norm_and_takes_few_images_in_one_batch() -> None:
    source, target = contrast_shift()
    with pytest.raises(InputError, match="made has no batch-norm"):
        a_run(source, target, a_network(), method="adabn")
    few = target.subset(torch.arange(8, 20))
    run = trained(a_run(source, few, a_network(batch_norm=True), method="adabn"))
    features = run.network.net[1](few.batch(slice(None))[0].flatten(1)).detach()
    assert (run.network.net[2].running_mean - features.mean(0)).abs().max() < 1e-5


def test_adabn_takes_statistics_on_images_that_are_not_augmented() -> None:
    """A flip would swap the two pixels."""
    source, target = contrast_shift()
    params = replace(PARAMS, augment=frozenset({"flip"}))
    run = trained(a_run(source, target, a_network(batch_norm=True), params, method="adabn"))
    features = run.network.net[1](target.batch(slice(None))[0].flatten(1)).detach()
    assert (run.network.net[2].running_mean - features.mean(0)).abs().max() < 1e-5
    assert (run.network.net[2].running_var - features.var(0, unbiased=False)).abs().max() < 1e-5
