"""Alignment of detectors: which maps, reversed gradients, and resumed trainings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from detectors import PARAMS, a_step, context_of, detector, with_batch_norm
from torch import Tensor, nn

from advkit.adaptation.detector_maps import MapRecorder, high_level_map, low_level_map, map_channels
from advkit.adaptation.domain_classifier import focal_loss, least_squares_loss, reversed_logits
from advkit.adaptation.global_alignment import GlobalAlignment
from advkit.adaptation.local_alignment import LocalAlignment
from advkit.adaptation.local_global import LocalGlobal
from advkit.adaptation.objective import adaptation_of
from advkit.adaptation.selection import probabilities
from advkit.adaptation.target_stream import TargetStream
from advkit.data.images import ImageSet
from advkit.files.errors import InputError, Interrupted
from advkit.files.signals import Stop
from advkit.models.build import create
from advkit.tasks.task import task_of
from advkit.training.loop import train
from advkit.training.objective import objective_of
from advkit.training.params import AdversarialParams
from advkit.training.run import Run


def test_the_maps_of_a_step_are_those_of_its_training_pass(photos: ImageSet) -> None:
    network = detector()
    recorder = MapRecorder(network)
    assert map_channels(network) == (96, 128)
    pixels = photos.batch(slice(0, 2))[0].contiguous(memory_format=torch.channels_last)
    network.train()
    network(pixels)
    (maps,) = recorder.pop()
    assert [tuple(level.shape[1:]) for level in maps] == [(96, 12, 12), (128, 6, 6), (128, 3, 3), (128, 2, 2)]
    assert low_level_map(maps) is maps[0]
    assert high_level_map(maps) is maps[2], "what comes after is hardly a pixel"
    assert recorder.pop() == []
    network.eval()
    network(pixels)
    assert recorder.pop() == [], "an attack's passes are none of it"
    network.train()
    (again,) = recorder.extract(pixels)
    assert all(torch.equal(one, other) for one, other in zip(maps, again, strict=True))


def planted_maps() -> tuple[list[list[Tensor]], list[list[Tensor]]]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((96, 8, 8), (128, 4, 4), (128, 2, 2))
    return tuple(  # type: ignore[return-value]
        [[torch.randn(2, *shape, generator=generator).requires_grad_() for shape in shapes]] for _ in range(2)
    )


def logits_of(method: GlobalAlignment | LocalAlignment, domains: tuple[Any, Any]) -> list[Tensor]:
    chosen = high_level_map if isinstance(method, GlobalAlignment) else low_level_map
    return [method.classifier(chosen(groups[0])) for groups in domains]


@pytest.mark.parametrize("kind", [GlobalAlignment, LocalAlignment])
def test_gradients_of_both_domains_are_reversed_and_weighted(
    kind: type[GlobalAlignment | LocalAlignment], sketches: ImageSet
) -> None:
    found = []
    for weight in (None, 0.5):
        method, domains = kind(context_of(detector(), sketches, weight=weight or 1.0)), planted_maps()
        if weight is None:
            one, two = logits_of(method, domains)
            loss = focal_loss(one, two) if kind is GlobalAlignment else least_squares_loss([one], [two])
        else:
            loss = method.adaptation_loss(*domains).loss
        loss.backward()
        chosen = high_level_map if kind is GlobalAlignment else low_level_map
        maps = [chosen(groups[0]) for groups in domains]
        assert all(one.grad is None for groups in domains for one in groups[0] if one is not chosen(groups[0]))
        parameters = [parameter.grad for parameter in method.classifier.parameters()]
        found.append((float(loss.detach()), [one.grad for one in maps], parameters))
    assert found[0][0] == found[1][0]
    for plain, turned in zip(found[0][1], found[1][1], strict=True):
        assert plain is not None
        assert turned is not None
        assert float(plain.abs().sum()) > 0
        torch.testing.assert_close(turned, -0.5 * plain)
    for plain, own in zip(found[0][2], found[1][2], strict=True):
        torch.testing.assert_close(own, plain)


def test_maps_of_several_sizes_give_the_logits_that_each_would() -> None:
    torch.manual_seed(0)
    classifier = nn.Conv2d(3, 1, 1)
    maps = [torch.randn(2, 3, 4, 4), torch.randn(1, 3, 4, 6), torch.randn(3, 3, 4, 4)]
    for chosen in (maps, [maps[0], maps[2]]):
        found = reversed_logits(classifier, chosen, 1.0)
        for one, logits in zip(chosen, found, strict=True):
            torch.testing.assert_close(logits, classifier(one))


@pytest.mark.parametrize("kind", [GlobalAlignment, LocalAlignment])
def test_its_classifier_learns_to_tell_maps_apart_that_differ(
    kind: type[GlobalAlignment | LocalAlignment], sketches: ImageSet
) -> None:
    method = kind(context_of(detector(), sketches))
    source, target = planted_maps()
    moved = [[level.detach() + 0.5 for level in target[0]]]
    optimizer = torch.optim.SGD(method.classifier.parameters(), lr=0.5)
    losses = []
    for _ in range(40):
        added = method.adaptation_loss(source, moved)
        optimizer.zero_grad()
        added.loss.backward()
        optimizer.step()
        losses.append(float(added.loss.detach()))
    assert losses[-1] < 0.6 * losses[0]
    sums = {name: float(value.sum()) for name, value in added.counts.items()}
    (accuracy,) = method.record(sums).values()
    assert accuracy > 0.9


def test_local_and_global_together_are_the_sum(photos: ImageSet, sketches: ImageSet) -> None:
    found = {}
    for method in ("local", "global", "local-global"):
        network = detector()
        network.train()
        objective = adaptation_of(context_of(network, sketches, method=method))
        terms = objective(a_step(photos))
        found[method] = terms.losses["alignment"].mean()
        plain = objective_of(network, [], PARAMS, None)(a_step(photos))
        assert torch.equal(terms.losses["loss"], plain.losses["loss"]), "detection losses see the source alone"
    torch.testing.assert_close(found["local-global"], found["local"] + found["global"])


def test_each_of_two_domain_classifiers_has_its_own_accuracy(sketches: ImageSet) -> None:
    method = LocalGlobal(context_of(detector(), sketches))
    sums = {"local_domain_right": 3.0, "local_domain_images": 4.0, "global_domain_right": 1.0}
    found = method.record(sums | {"global_domain_images": 2.0})
    assert found == {"local_domain_accuracy": 0.75, "global_domain_accuracy": 0.5}
    source, target = planted_maps()
    counts = method.adaptation_loss(source, target).counts
    for name, part in (("local", method._local), ("global", method._global)):
        own = part.adaptation_loss(source, target).counts
        assert all(torch.equal(counts[key], own[key]) and key.startswith(name) for key in own)


def test_the_domain_classifier_sees_the_source_as_it_is_attacked(photos: ImageSet, sketches: ImageSet) -> None:
    params = replace(PARAMS, adversarial=AdversarialParams("fast", eps=8 / 255, step_size=10 / 255, steps=1))
    network = detector()
    network.train()
    objective = adaptation_of(context_of(network, sketches, params, method="local"))
    seen: list[Any] = []
    adaptation_loss = objective.method.adaptation_loss  # type: ignore[attr-defined]
    objective.method.adaptation_loss = lambda source, target: seen.append(source) or adaptation_loss(source, target)  # type: ignore
    objective(a_step(photos))
    points = objective_of(network, [], params, None).points(a_step(photos))  # type: ignore[attr-defined]
    assert not torch.equal(points.images, a_step(photos).images)
    (expected,) = MapRecorder(network).extract(points.images.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(low_level_map(seen[0][0]), low_level_map(expected), rtol=0, atol=1e-5)


def test_the_maps_of_the_target_are_of_augmented_images(photos: ImageSet, sketches: ImageSet) -> None:
    params = replace(PARAMS, augment=frozenset({"crop", "flip"}))
    network = detector()
    network.train()
    objective = adaptation_of(context_of(network, sketches, params, method="local"))
    seen: list[Any] = []
    adaptation_loss = objective.method.adaptation_loss  # type: ignore[attr-defined]
    objective.method.adaptation_loss = lambda source, target: seen.append(target) or adaptation_loss(source, target)  # type: ignore
    objective(a_step(photos))
    batch = TargetStream(sketches, task_of([network]), params).batch(a_step(photos))
    assert not torch.allclose(batch.images, batch.augmented, equal_nan=True)
    (expected,) = MapRecorder(network).extract(batch.augmented)
    torch.testing.assert_close(low_level_map(seen[0][0]), low_level_map(expected), rtol=0, atol=1e-5)


def test_domain_classifiers_of_maps_compute_in_float32(photos: ImageSet, sketches: ImageSet) -> None:
    """In bfloat16 some gradients of theirs come from memory that nobody wrote."""
    network = detector()
    network.train()
    objective = adaptation_of(context_of(network, sketches, replace(PARAMS, precision="bfloat16"), method="global"))
    assert objective.trained is not None
    seen = []
    objective.trained.register_forward_hook(
        lambda module, inputs, output: seen.append((torch.is_autocast_enabled("cpu"), inputs[0].dtype, output.dtype))
    )
    objective(a_step(photos))
    assert seen == [(False, torch.float32, torch.float32)]


def test_batch_norm_of_a_detector_must_be_frozen(sketches: ImageSet) -> None:
    made = with_batch_norm()
    with pytest.raises(InputError, match="give --freeze-bn"):
        adaptation_of(context_of(made, sketches, method="local"))
    adaptation_of(context_of(made, sketches, replace(PARAMS, freeze_bn=True), method="local"))
    adaptation_of(context_of(made, sketches, method="none"))


@pytest.mark.parametrize("method", ["none", "global", "local", "local-global", "mean-teacher"])
def test_a_detectors_training_is_resumed_to_the_same_bits(
    method: str, photos: ImageSet, sketches: ImageSet, tmp_path: Path
) -> None:
    def make(path: Path | None = None) -> Run:
        network = detector()
        context = context_of(network, sketches, method=method, threshold=0.01, teacher_ema=0.5)
        part, no_positions = torch.arange(4), torch.empty(0, dtype=torch.int64)
        return Run(network, photos, part, no_positions, [], PARAMS, path, {}, objective=adaptation_of(context))

    whole = make()
    train(whole, resume=False, stop=Stop(), show=lambda progress: None)
    stop = Stop()
    stop.signum = 15
    with pytest.raises(Interrupted):
        train(make(tmp_path / "x"), resume=False, stop=stop, show=lambda progress: None)
    again = make(tmp_path / "x")
    train(again, resume=True, stop=Stop(), show=lambda progress: None)
    assert whole.history == again.history
    own, other = (run.network.net.state_dict() for run in (whole, again))
    assert all(torch.equal(own[name], other[name]) for name in own)


def test_a_detector_of_two_stages_is_scored_between_trainings(sketches: ImageSet) -> None:
    statistics = {"mean": (0.5,) * 3, "std": (0.25,) * 3}
    name = "torchvision/fasterrcnn_mobilenet_v3_large_320_fpn"
    network = create(name, num_classes=6, input_size=(3, 96, 96), **statistics)
    network.requires_grad_(True)
    found = probabilities(network, sketches, torch.arange(3))
    assert found.shape == (3, 6)
    assert 0 < float(found.min()) <= float(found.max()) < 1
    assert not found.is_inference()
