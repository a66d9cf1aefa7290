"""A mean teacher that is the average it should be, and what its student learns from it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from detectors import PARAMS, a_step, context_of, detector, with_batch_norm
from torch import Tensor

from advkit.adaptation.mean_teacher import MeanTeacher
from advkit.adaptation.objective import adaptation_of
from advkit.adaptation.strong_views import strong_view
from advkit.adaptation.target_stream import TargetBatch
from advkit.data import counter_rng
from advkit.data.augment_boxes import augmented
from advkit.data.images import ImageSet
from advkit.models.network import Network


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
    unlabelled, keys = torch.zeros(2, 1, 6), torch.arange(2)
    for step, warm in enumerate((1 / 10, 2 / 11, 3 / 12, 4 / 13)):
        with torch.no_grad():
            for name, tensor in network.net.state_dict().items():
                if tensor.is_floating_point():
                    tensor.add_(torch.rand(tensor.shape, generator=generator) * 0.1)
                elif name.endswith("num_batches_tracked"):
                    tensor.add_(1)
        method.adaptation_loss(TargetBatch(pixels, pixels, unlabelled, keys, step))
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
    method.prepare_inference()
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
    pixels, unlabelled = sketches.batch(slice(0, 2))
    predictions = torch.zeros(2, 3, 6)
    predictions[..., 5] = -1.0
    predictions[0, 0] = torch.tensor([20.0, 30, 60, 80, 0.85, 2])
    predictions[1, 0] = torch.tensor([20.0, 30, 60, 80, 0.75, 2])
    monkeypatch.setattr("advkit.adaptation.mean_teacher.predict", lambda networks, images: predictions)
    monkeypatch.setattr("advkit.adaptation.mean_teacher.strong_view", lambda images, *more: images)
    batch = TargetBatch(pixels, pixels, unlabelled, sketches.indices[:2], 0)
    method = MeanTeacher(context_of(network, sketches, threshold=0.8, weight=0.5))
    added = method.adaptation_loss(batch)
    target = torch.tensor([[[20.0, 30, 60, 80, 2, 0]]])
    wanted = network(pixels[:1]).losses(target)["cls"].sum()
    torch.testing.assert_close(added.loss, 0.5 * wanted / 2)
    assert {name: float(value.sum()) for name, value in added.counts.items()} == {
        "pseudo_boxes": 1,
        "pseudo_images": 1,
        "target_images": 2,
    }
    nobody = MeanTeacher(context_of(network, sketches, threshold=0.9)).adaptation_loss(batch)
    assert float(nobody.loss) == 0.0


def test_the_student_sees_another_view_with_the_boxes_where_their_objects_went(
    sketches: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The teacher, and not the student, looks at the images themselves; both images have a box, one is mirrored."""
    network = detector()
    network.train()
    seed = next(seed for seed in range(50) if len({_mirrored(sketches, seed, k) for k in (0, 1)}) == 2)
    params = replace(PARAMS, augment=frozenset({"flip"}), seed=seed)
    pixels, unlabelled = sketches.batch(slice(0, 2))
    predictions = torch.full((2, 1, 6), 0.9)
    predictions[..., :4], predictions[..., 5] = torch.tensor([20.0, 30, 60, 80]), 2
    asked: list[Any] = []

    def predict(networks: list[Network], images: Tensor) -> Tensor:
        asked.extend(networks)
        assert torch.equal(images, pixels)
        return predictions

    monkeypatch.setattr("advkit.adaptation.mean_teacher.predict", predict)
    method = MeanTeacher(context_of(network, sketches, params))
    added = method.adaptation_loss(TargetBatch(pixels, pixels, unlabelled, sketches.indices[:2], 0))
    assert asked == [method.teacher]
    assert method.teacher is not network
    stream = counter_rng.stream("target augmentation", seed)
    boxes = torch.tensor([[[20.0, 30, 60, 80, 2, 0]]]).expand(2, -1, -1)
    images, moved = augmented(pixels, boxes, sketches.indices[:2], frozenset({"flip"}), stream, 0)
    assert (moved != boxes).any((1, 2)).tolist().count(True) == 1
    images = strong_view(images, sketches.indices[:2], stream)
    torch.testing.assert_close(added.loss, network(images).losses(moved)["cls"].mean())


def test_strong_views_of_two_keys_differ_in_colours_and_in_noise() -> None:
    image = torch.tensor([0.3, 0.5, 0.6]).view(1, 3, 1, 1).expand(1, 3, 64, 64)
    views = torch.cat([strong_view(image, torch.tensor([key]), 0) for key in (1, 2, 1)])
    colours = views.mean((2, 3), keepdim=True)
    noise = views - colours
    assert torch.equal(views[0], views[2])
    assert float((colours[0] - colours[1]).abs().max()) > 0.01  # noise of 0.05 over 4,096 pixels: 0.0008
    assert noise[:2].std((1, 2, 3)).tolist() == pytest.approx([0.05, 0.05], rel=0.1)
    assert abs(float((noise[0] * noise[1]).mean())) < 0.1 * 0.05**2


def _mirrored(images: ImageSet, seed: int, position: int) -> bool:
    stream = counter_rng.stream("target augmentation", seed)
    drawn = counter_rng.uniform(stream, images.indices[:2], counter_rng.stream("augment", 0), 6)
    return bool(drawn[position, 0] < 0.5)
