"""Alignment of detectors: which maps, reversed gradients, and a mean teacher that is the average it should be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from advkit.adaptation.detector_maps import MapTap, channels_of, early, last
from advkit.adaptation.domain_classifier import focal_loss, least_squares_loss, reversed_logits
from advkit.adaptation.global_alignment import GlobalAlignment
from advkit.adaptation.local_alignment import LocalAlignment
from advkit.adaptation.mean_teacher import MeanTeacher
from advkit.adaptation.method import MethodContext
from advkit.adaptation.objective import adaptation_of
from advkit.adaptation.params import AdaptationParams
from advkit.adaptation.strong_views import strong_view
from advkit.adaptation.target_stream import TargetBatch
from advkit.data import counter_rng
from advkit.data.augment_boxes import augmented
from advkit.data.images import ImageSet
from advkit.data.reference import load
from advkit.files.errors import InputError, Interrupted
from advkit.files.signals import Stop
from advkit.models.build import create
from advkit.models.network import Network
from advkit.training.loop import train
from advkit.training.objective import TrainingStep, objective_of
from advkit.training.params import AdversarialParams, TrainParams
from advkit.training.run import Run

PARAMS = TrainParams(epochs=1, batch_size=2, optimizer="adamw", lr=0.001, schedule="constant")


def detector(seed: int = 0, side: int = 96) -> Network:
    statistics = {"mean": (0.5,) * 3, "std": (0.25,) * 3}
    return create("advkit/tiny-ssd", num_classes=6, input_size=(3, side, side), seed=seed, **statistics)


@pytest.fixture(scope="module")
def photos() -> ImageSet:
    return load("scenes/photo", role="train").subset(torch.arange(4))


@pytest.fixture(scope="module")
def sketches() -> ImageSet:
    return load("scenes/sketch", role="train", labelled=False, whole=True).subset(torch.arange(4))


def context_of(network: Network, target: ImageSet, params: TrainParams = PARAMS, **settings: Any) -> MethodContext:
    return MethodContext(network, target, AdaptationParams(**settings), params)


def a_step(images: ImageSet) -> TrainingStep:
    pixels, targets = images.batch(slice(0, 2))
    return TrainingStep(pixels, targets, images.indices[:2], 0, 0, 2)


def test_the_maps_of_a_step_are_those_of_its_training_pass(photos: ImageSet) -> None:
    network = detector()
    tap = MapTap(network)
    assert channels_of(network) == (96, 128)
    pixels = photos.batch(slice(0, 2))[0].contiguous(memory_format=torch.channels_last)
    network.train()
    network(pixels)
    (maps,) = tap.taken()
    assert [tuple(level.shape[1:]) for level in maps] == [(96, 12, 12), (128, 6, 6), (128, 3, 3), (128, 2, 2)]
    assert early(maps) is maps[0]
    assert last(maps) is maps[2], "what comes after is hardly a pixel"
    assert tap.taken() == []
    network.eval()
    network(pixels)
    assert tap.taken() == [], "an attack's passes are none of it"
    network.train()
    (again,) = tap.of(pixels)
    assert all(torch.equal(one, other) for one, other in zip(maps, again, strict=True))


def planted_maps() -> tuple[list[list[Tensor]], list[list[Tensor]]]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((96, 8, 8), (128, 4, 4), (128, 2, 2))
    return tuple(  # type: ignore[return-value]
        [[torch.randn(2, *shape, generator=generator).requires_grad_() for shape in shapes]] for _ in range(2)
    )


def logits_of(method: GlobalAlignment | LocalAlignment, domains: tuple[Any, Any]) -> list[Tensor]:
    chosen = last if isinstance(method, GlobalAlignment) else early
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
            loss = method.addition(*domains).loss
        loss.backward()
        chosen = last if kind is GlobalAlignment else early
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
        added = method.addition(source, moved)
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


def test_the_domain_classifier_sees_the_source_as_it_is_attacked(photos: ImageSet, sketches: ImageSet) -> None:
    params = replace(PARAMS, adversarial=AdversarialParams("fast", eps=8 / 255, step_size=10 / 255, steps=1))
    network = detector()
    network.train()
    objective = adaptation_of(context_of(network, sketches, params, method="local"))
    seen: list[Any] = []
    addition = objective.method.addition  # type: ignore[attr-defined]
    objective.method.addition = lambda source, target: seen.append(source) or addition(source, target)  # type: ignore
    objective(a_step(photos))
    points = objective_of(network, [], params, None).points(a_step(photos))  # type: ignore[attr-defined]
    assert not torch.equal(points.images, a_step(photos).images)
    (expected,) = MapTap(network).of(points.images.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(early(seen[0][0]), early(expected), rtol=0, atol=1e-5)


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


def with_batch_norm(side: int = 64) -> Network:
    backbone = {"backbone": "timm/resnet10t"}
    return create(
        "advkit/ssd", num_classes=6, input_size=(3, side, side), model_args=backbone, mean=(0.5,) * 3, std=(0.5,) * 3
    )


@pytest.mark.parametrize("decay", [0.3, 0.9996])
def test_the_teacher_is_the_average_with_its_warm_up(decay: float, sketches: ImageSet) -> None:
    """Of weights and of batch-norm's statistics; decays are 0.1, 2/11, 3/12 ... until they reach the one asked for."""
    network, pixels = with_batch_norm(), torch.rand(2, 3, 64, 64)
    params = replace(PARAMS, freeze_bn=True)
    method = MeanTeacher(context_of(network, sketches, params, teacher_ema=decay, threshold=1.0))
    expected = {name: tensor.clone() for name, tensor in network.net.state_dict().items()}
    statistics = [name for name in expected if name.endswith(("running_mean", "running_var"))]
    assert statistics
    generator = torch.Generator().manual_seed(0)
    nothing, keys = torch.zeros(2, 1, 6), torch.arange(2)
    for step, warm in enumerate((1 / 10, 2 / 11, 3 / 12, 4 / 13)):
        with torch.no_grad():
            for name, tensor in network.net.state_dict().items():
                if tensor.is_floating_point():
                    tensor.add_(torch.rand(tensor.shape, generator=generator) * 0.1)
                elif name.endswith("num_batches_tracked"):
                    tensor.add_(1)
        method.addition(TargetBatch(pixels, pixels, nothing, keys, step))
        method.after_step()
        student, part = network.net.state_dict(), min(decay, warm)
        for name, tensor in expected.items():
            if tensor.is_floating_point():
                expected[name] = tensor * part + student[name] * (1.0 - part)
            else:
                expected[name] = student[name].clone()
    teacher = method.teacher.net.state_dict()
    for name, tensor in expected.items():
        torch.testing.assert_close(teacher[name], tensor, rtol=1e-5, atol=1e-6)
        if name in statistics:
            assert not torch.equal(tensor, student[name]), name
    method.settle()
    kept = network.net.state_dict()
    assert all(torch.equal(kept[name], tensor) for name, tensor in teacher.items())


def test_a_teacher_predicts_in_float32_and_its_student_learns_in_the_precision_asked_for(
    photos: ImageSet, sketches: ImageSet
) -> None:
    network = detector()
    network.train()
    params = replace(PARAMS, precision="bfloat16")
    objective = adaptation_of(context_of(network, sketches, params, method="mean-teacher", threshold=0.0))
    seen: list[tuple[str, bool]] = []
    for name, module in (("teacher", objective.method.teacher), ("student", network)):  # type: ignore[attr-defined]
        module.register_forward_hook(lambda *_, name=name: seen.append((name, torch.is_autocast_enabled("cpu"))))
    objective(a_step(photos))
    assert set(seen) == {("teacher", False), ("student", True)}


def test_a_teacher_teaches_by_what_it_is_sure_of(
    photos: ImageSet, sketches: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its boxes are planted: the first image has one, the second none."""
    network = detector()
    network.train()
    pixels, nothing = sketches.batch(slice(0, 2))
    predictions = torch.zeros(2, 3, 6)
    predictions[..., 5] = -1.0
    predictions[0, 0] = torch.tensor([20.0, 30, 60, 80, 0.85, 2])
    predictions[1, 0] = torch.tensor([20.0, 30, 60, 80, 0.75, 2])
    monkeypatch.setattr("advkit.adaptation.mean_teacher.predict", lambda networks, images: predictions)
    monkeypatch.setattr("advkit.adaptation.mean_teacher.strong_view", lambda images, *more: images)
    batch = TargetBatch(pixels, pixels, nothing, sketches.indices[:2], 0)
    method = MeanTeacher(context_of(network, sketches, threshold=0.8, weight=0.5))
    added = method.addition(batch)
    target = torch.tensor([[[20.0, 30, 60, 80, 2, 0]]])
    wanted = network(pixels[:1]).losses(target)["cls"].sum()
    torch.testing.assert_close(added.loss, 0.5 * wanted / 2)
    assert {name: float(value.sum()) for name, value in added.counts.items()} == {
        "pseudo_boxes": 1,
        "pseudo_images": 1,
        "target_images": 2,
    }
    nobody = MeanTeacher(context_of(network, sketches, threshold=0.9)).addition(batch)
    assert float(nobody.loss) == 0.0


def test_the_student_sees_another_view_with_the_boxes_where_their_objects_went(
    sketches: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The teacher, and not the student, looks at the images themselves; both images have a box, one is mirrored."""
    network = detector()
    network.train()
    seed = next(seed for seed in range(50) if len({_mirrored(sketches, seed, k) for k in (0, 1)}) == 2)
    params = replace(PARAMS, augment=frozenset({"flip"}), seed=seed)
    pixels, nothing = sketches.batch(slice(0, 2))
    predictions = torch.full((2, 1, 6), 0.9)
    predictions[..., :4], predictions[..., 5] = torch.tensor([20.0, 30, 60, 80]), 2
    asked: list[Any] = []

    def predict(networks: list[Network], images: Tensor) -> Tensor:
        asked.extend(networks)
        assert torch.equal(images, pixels)
        return predictions

    monkeypatch.setattr("advkit.adaptation.mean_teacher.predict", predict)
    method = MeanTeacher(context_of(network, sketches, params))
    added = method.addition(TargetBatch(pixels, pixels, nothing, sketches.indices[:2], 0))
    assert asked == [method.teacher]
    assert method.teacher is not network
    stream = counter_rng.stream("target augmentation", seed)
    boxes = torch.tensor([[[20.0, 30, 60, 80, 2, 0]]]).expand(2, -1, -1)
    images, moved = augmented(pixels, boxes, sketches.indices[:2], frozenset({"flip"}), stream, 0)
    assert (moved != boxes).any((1, 2)).tolist().count(True) == 1
    images = strong_view(images, sketches.indices[:2], stream)
    torch.testing.assert_close(added.loss, network(images).losses(moved)["cls"].mean())


def _mirrored(images: ImageSet, seed: int, position: int) -> bool:
    stream = counter_rng.stream("target augmentation", seed)
    drawn = counter_rng.uniform(stream, images.indices[:2], counter_rng.stream("augment", 0), 6)
    return bool(drawn[position, 0] < 0.5)


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
        part, nothing = torch.arange(4), torch.empty(0, dtype=torch.int64)
        return Run(network, photos, part, nothing, [], PARAMS, path, {}, objective=adaptation_of(context))

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
