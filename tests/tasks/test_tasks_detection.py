"""Boxes as a task: losses that attackers raise, verdicts, aims, and what a set of adversarial images says of them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from advkit.attacks.methods import parse_method
from advkit.attacks.params import AttackParams
from advkit.attacks.run import attack
from advkit.data.boxes import DIFFICULT, LABEL, is_object, stacked
from advkit.data.canvas import on_canvas, sizes
from advkit.files.errors import InputError
from advkit.metrics.detection import DetectionMetric
from advkit.metrics.norms import Norm, flat_norm
from advkit.models.build import create
from advkit.models.network import Network
from advkit.tasks.detection import DETECTION
from advkit.tasks.task import task_named, task_of

LOSSES = DETECTION.attack_losses


@pytest.fixture(scope="module")
def network() -> Network:
    made = create("advkit/tiny-ssd", num_classes=3, input_size=(3, 96, 96), seed=1)
    return made.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def images() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return on_canvas([torch.rand(3, *size, generator=generator) for size in ((96, 80), (64, 96))], (96, 96))


def targets() -> Tensor:
    return stacked(
        [
            torch.tensor([[10, 10, 60, 70, 1, 0], [50, 60, 79, 90, 0, 0.0]]),
            torch.tensor([[5, 5, 40, 60, 2, 0.0]]),
        ]
    )


def found(*rows: list[float]) -> Tensor:
    predictions = torch.zeros(1, 4, 6)
    predictions[..., 5] = -1
    for place, row in zip(predictions[0], rows, strict=False):
        place.copy_(torch.tensor(row))
    return predictions


def test_it_is_the_task_of_detectors(network: Network) -> None:
    assert task_of([network]) is task_named("detection") is DETECTION
    with pytest.raises(InputError, match="no ensemble"):
        DETECTION.outputs([network, network], torch.rand(1, 3, 96, 96))


def test_losses_are_parts_of_the_whole(network: Network, images: Tensor) -> None:
    output = network(images)
    parts = output.losses(targets())
    losses = {name: loss(output, targets(), False) for name, loss in LOSSES.items()}
    torch.testing.assert_close(losses["sum"], parts["cls"] + parts["loc"])
    torch.testing.assert_close(losses["cls"], parts["cls"])
    torch.testing.assert_close(losses["loc"], parts["loc"])
    torch.testing.assert_close(losses["fabrication"], output.background_losses())
    torch.testing.assert_close(losses["vanishing"], -losses["fabrication"])
    for name in ("sum", "cls", "loc"):
        torch.testing.assert_close(LOSSES[name](output, targets(), True), -losses[name])
    trained, correct = DETECTION.losses(network, images, targets())
    torch.testing.assert_close(trained, losses["sum"])
    assert correct.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("loss", [*LOSSES, "mtd"])
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_an_attack_raises_what_it_should_inside_its_budget(
    loss: str, norm: Norm, network: Network, images: Tensor
) -> None:
    eps = {"linf": 4 / 255, "l2": 1.0, "l1": 20.0}[norm]
    params = AttackParams(parse_method("pgd"), eps=eps, norm=norm, steps=4, loss=loss, goal="robustness")
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    made = attack([network], images, targets(), torch.arange(2), params).images
    assert torch.equal(made.isnan(), images.isnan())
    assert sizes(made).tolist() == [[96, 80], [64, 96]]
    moved = (made - images).nan_to_num()
    lengths = flat_norm(moved, norm)
    assert (lengths <= eps * (1 + 1e-5)).all()
    assert (lengths > 0.5 * eps).all()
    with torch.no_grad():
        judged = LOSSES["sum" if loss == "mtd" else loss]
        gain = judged(network(made), targets(), False) - judged(network(images), targets(), False)
    assert (gain > 0).all()
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("targeted", [False, True])
def test_mtd_takes_image_by_image_the_attack_with_the_larger_whole_loss(
    targeted: bool, network: Network, images: Tensor
) -> None:
    """By brute force: both attacks alone, both judged by the whole loss (Zhang and Wang 2019)."""
    params = {
        loss: AttackParams(parse_method("pgd"), eps=8 / 255, steps=3, loss=loss, goal="transfer", targeted=targeted)
        for loss in ("cls", "loc", "mtd")
    }
    made = {
        loss: attack([network], images, targets(), torch.arange(2), one).images.nan_to_num(nan=-1.0)
        for loss, one in params.items()
    }
    whole = {}
    for loss in ("cls", "loc"):
        x = torch.where(images.isnan(), torch.nan, made[loss])
        with torch.no_grad():
            whole[loss] = LOSSES["sum"](network(x), targets(), targeted)
    for k in range(2):
        better = "cls" if whole["cls"][k] >= whole["loc"][k] else "loc"
        assert torch.equal(made["mtd"][k], made[better][k])
    assert not torch.equal(made["cls"], made["loc"])


def test_an_image_does_not_weigh_on_another_in_an_attack(network: Network, images: Tensor) -> None:
    params = AttackParams(parse_method("pgd"), eps=8 / 255, steps=3)
    together = attack([network], images, targets(), torch.arange(2), params).images
    alone = attack([network], images[1:], targets()[1:], torch.arange(1, 2), params).images
    assert (
        (together[1:] - alone).nan_to_num().abs() < 1e-6
    ).float().mean() > 0.99  # signs of gradients near 0 may turn


@pytest.mark.parametrize("method", ["fmn", "square", "mi,di"])
def test_methods_that_need_what_boxes_have_not_are_refused(method: str, network: Network, images: Tensor) -> None:
    params = AttackParams(parse_method(method), eps=8 / 255, loss="sum" if method == "mi,di" else None)
    with pytest.raises(InputError, match=method.rpartition(",")[2]):
        attack([network], images, targets(), torch.arange(2), params)
    with pytest.raises(InputError, match="--loss ce: detection has sum, cls, loc"):
        attack([network], images, targets(), torch.arange(2), AttackParams(parse_method("pgd"), loss="ce"))


def test_an_image_is_right_when_every_object_is_found() -> None:
    truth = stacked([torch.tensor([[0, 0, 10, 10, 1, 0], [20, 20, 40, 40, 0, 0], [50, 50, 60, 60, 2, 1.0]])])
    both = found([0, 0, 10, 10, 0.9, 1], [20, 20, 40, 40, 0.6, 0])
    assert DETECTION.correct(both, truth).tolist() == [True]
    assert DETECTION.is_success(both, truth, False).tolist() == [False]
    unsure = found([0, 0, 10, 10, 0.9, 1], [20, 20, 40, 40, 0.4, 0])
    assert DETECTION.correct(unsure, truth).tolist() == [False]
    other = found([0, 0, 10, 10, 0.9, 1], [20, 20, 40, 40, 0.9, 2])
    assert DETECTION.correct(other, truth).tolist() == [False]
    nothing = stacked([torch.empty(0, 6)])
    assert DETECTION.correct(both, nothing).tolist() == [False]
    assert DETECTION.correct(found(), nothing).tolist() == [True]
    metric = DETECTION.metric(3)
    assert isinstance(metric, DetectionMetric)
    metric.update(both, truth)
    metric.update(other, truth)
    assert metric.compute()["images_right"] == 1
    assert metric.compute()["images"] == 2


def test_aims_keep_the_boxes_and_change_the_classes() -> None:
    truth = targets()
    assert DETECTION.parse_target("next", ("a", "b", "c")) == "next"
    assert DETECTION.parse_target("b", ("a", "b", "c")) == 1
    with pytest.raises(InputError, match="least-likely"):
        DETECTION.parse_target("least-likely", ("a", "b", "c"))
    for rule, expected in (("next", [[2, 1], [0, -1]]), (1, [[1, 1], [1, -1]])):
        aims = DETECTION.aim(rule, truth, torch.arange(2), lambda: None, 3, 0)
        assert aims[..., LABEL].tolist() == expected
        assert torch.equal(aims[..., :4], truth[..., :4])
    drawn = DETECTION.aim("random", truth, torch.arange(2), lambda: None, 3, 0)
    there = is_object(truth)
    assert (drawn[..., LABEL][there] != truth[..., LABEL][there]).all()
    assert (drawn[..., LABEL][~there] == -1).all()


def test_strata_are_the_classes_of_the_largest_objects() -> None:
    assert DETECTION.strata(targets()).tolist() == [2, 3]
    assert DETECTION.strata(stacked([torch.empty(0, 6)] * 2)).tolist() == [0, 0]


def test_columns_say_boxes_classes_and_sizes(images: Tensor) -> None:
    truth = targets()
    truth[0, 1, DIFFICULT] = 1
    columns = DETECTION.columns(images, truth, truth, found())
    assert columns["sizes"].tolist() == [[96, 80], [64, 96]]
    assert torch.equal(columns["boxes"], truth[..., :4])
    assert columns["labels"].tolist() == [[1, 0], [2, -1]]
    assert columns["difficult"].tolist() == [[0, 1], [0, 0]]


def test_flags_of_two_passes(network: Network, images: Tensor) -> None:
    output = network(images)
    assert DETECTION.output_flags(output, output) == []
    assert DETECTION.output_flags(output, network(images.flip(3).nan_to_num())) == ["random-forward"]


def test_a_score_is_the_mean_over_the_objects_of_the_best_of_their_class() -> None:
    class Output:
        def scores(self) -> Tensor:
            return torch.tensor([[0.5, 0.1, 0.3], [0.2, 0.4, 0.8], [0.9, 0.9, 0.9]])

    rows = stacked(
        [torch.tensor([[10, 10, 60, 70, 1, 0], [50, 60, 79, 90, 0, 0.0]]), targets()[1, :1], torch.empty(0, 6)]
    )
    torch.testing.assert_close(DETECTION.score(Output(), rows), torch.tensor([0.3, 0.8, 0.0]))  # type: ignore[arg-type]


def test_the_margin_is_the_whole_loss(network: Network, images: Tensor) -> None:
    output = network(images)
    torch.testing.assert_close(DETECTION.margin(output, targets()), LOSSES["sum"](output, targets(), False))
