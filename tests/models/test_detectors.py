"""Detectors image by image: torchvision's own losses and boxes, whatever else is in the batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection import faster_rcnn, fcos, retinanet, ssd
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import MultiScaleRoIAlign

from advkit.data.boxes import DIFFICULT, LABEL, stacked
from advkit.data.canvas import on_canvas
from advkit.models.detectors.backbones import TinyStages
from advkit.models.detectors.build import build_advkit
from advkit.models.detectors.faster_rcnn import FasterRCNN
from advkit.models.detectors.fcos import FCOS
from advkit.models.detectors.retinanet import RetinaNet
from advkit.models.detectors.ssd import SSD

CLASSES = 3
BLANK = {"image_mean": [0.0] * 3, "image_std": [1.0] * 3}


class Levels(nn.Module):
    """Three levels of 32 channels each, of a few convolutions."""

    out_channels = 32

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 32, 3, 4, 1), nn.ReLU())
        self.stages = nn.ModuleList(nn.Sequential(nn.Conv2d(32, 32, 3, 2, 1), nn.ReLU()) for _ in range(3))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        x, found = self.stem(images), {}
        for k, stage in enumerate(self.stages):
            x = stage(x)
            found[str(k)] = x
        return found


def make_ssd() -> nn.Module:
    return build_advkit("tiny-ssd", CLASSES, (3, 96, 96), {})


def make_fcos() -> nn.Module:
    anchors = AnchorGenerator(((8,), (16,), (32,)), ((1.0,),) * 3)
    head = fcos.FCOSHead(32, 1, CLASSES, num_convs=1)
    sizes: dict[str, Any] = {"min_size": 64, "max_size": 96}
    return FCOS(Levels(), CLASSES, anchor_generator=anchors, head=head, score_thresh=0.0, **sizes, **BLANK)


def make_retinanet() -> nn.Module:
    anchors = AnchorGenerator(((16,), (32,), (64,)), ((0.5, 1.0, 2.0),) * 3)
    sizes: dict[str, Any] = {"min_size": 64, "max_size": 96}
    return RetinaNet(Levels(), CLASSES + 1, anchor_generator=anchors, score_thresh=0.0, **sizes, **BLANK)


def make_faster_rcnn() -> nn.Module:
    anchors = AnchorGenerator(((16,), (32,), (64,)), ((0.5, 1.0, 2.0),) * 3)
    pool = MultiScaleRoIAlign(["0", "1", "2"], 3, 2)
    return FasterRCNN(
        Levels(),
        min_size=64,
        max_size=96,
        rpn_anchor_generator=anchors,
        box_roi_pool=pool,
        box_head=TwoMLPHead(32 * 9, 16),
        box_predictor=FastRCNNPredictor(16, CLASSES + 1),
        box_score_thresh=0.0,
        **BLANK,
    )


MAKERS: dict[str, Callable[[], nn.Module]] = {
    "ssd": make_ssd,
    "fcos": make_fcos,
    "retinanet": make_retinanet,
    "faster-rcnn": make_faster_rcnn,
}
THEIRS = {"ssd": ssd.SSD, "fcos": fcos.FCOS, "retinanet": retinanet.RetinaNet, "faster-rcnn": faster_rcnn.FasterRCNN}
ONE_STAGE = ("ssd", "fcos", "retinanet")


def detector(name: str) -> Any:
    torch.manual_seed(3)
    net = MAKERS[name]().eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(5)
    for parameter in net.parameters():  # heads begin at nearly 0, where every class is alike
        if parameter.ndim > 1:
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return net


def pictures() -> list[Tensor]:
    generator = torch.Generator().manual_seed(7)
    return [torch.rand(3, *size, generator=generator) for size in ((96, 96), (70, 96), (96, 64))]


def objects() -> list[Tensor]:
    return [
        torch.tensor([[10, 10, 60, 70, 1, 0], [50, 60, 90, 90, 0, 0.0], [52, 58, 88, 92, 2, 0.0]]),
        torch.tensor([[5, 5, 40, 60, 2, 0.0]]),
        torch.tensor([[20, 30, 60, 90, 0, 0.0], [0, 0, 30, 30, 1, 0.0]]),
    ]


def theirs(net: Any, targets: list[Tensor]) -> list[dict[str, Tensor]]:
    return [{"boxes": rows[:, :4], "labels": rows[:, LABEL].long() + net.label_offset} for rows in targets]


def foreground(net: Any, canvas: Tensor, targets: Tensor) -> Tensor:
    """(N,) how many anchors are matched in each image: what the losses are divided by."""
    from advkit.models.detectors import matching
    from advkit.models.detectors.output import object_targets

    counts = torch.zeros(len(canvas))
    for part in net(canvas).parts:
        found = object_targets(targets, part.group)
        if isinstance(net, SSD):
            match = matching.match_ssd(found, part.anchors, 0.5)
        else:
            match = matching.match_fcos(found, part.anchors, part.levels, net.center_sampling_radius)
        counts[part.group.positions] = (match >= 0).sum(1).float()
    return counts


@pytest.mark.parametrize("name", ONE_STAGE)
def test_losses_of_images_make_torchvisions_loss_of_the_batch(name: str) -> None:
    net, targets = detector(name), objects()  # images of one size: torchvision would pad others, and count the padding
    images = list(torch.rand(3, 3, 96, 96, generator=torch.Generator().manual_seed(7)))
    canvas, rows = on_canvas(images, (96, 96)), stacked(targets)
    found = net(canvas).losses(rows)
    net.training = True  # of the detector alone: torchvision then gives losses
    reference = THEIRS[name].forward(net, images, theirs(net, targets))
    net.training = False
    classes = reference["classification"]
    places = reference["bbox_regression"] + reference.get("bbox_ctrness", 0.0)
    counts = torch.ones(3) if name == "retinanet" else foreground(net, canvas, rows)
    assert counts.min() > 0
    for ours, expected in ((found["cls"], classes), (found["loc"], places)):
        torch.testing.assert_close((ours * counts).sum() / counts.sum(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MAKERS)
def test_boxes_are_torchvisions_in_pixels_of_the_image(name: str) -> None:
    net, images = detector(name), pictures()
    found = net(on_canvas(images, (96, 96))).predictions()
    assert found.shape == (3, 100, 6)
    for ours, image in zip(found, images, strict=True):
        expected = THEIRS[name].forward(net, [image])[0]
        kept = expected["labels"] >= net.label_offset  # RetinaNet's weights have a logit of the background, too
        expected = {key: value[kept] for key, value in expected.items()}
        count = min(100, len(expected["scores"]))
        assert count > 10
        order = expected["scores"].argsort(descending=True, stable=True)[:count]
        torch.testing.assert_close(ours[:count, 4], expected["scores"][order], rtol=1e-4, atol=1e-5)
        labels = ours[:count, 5].long() + net.label_offset
        assert (labels == expected["labels"][order]).float().mean() > 0.9  # equal scores may change places
        torch.testing.assert_close(ours[0, :4], expected["boxes"][order][0], rtol=1e-3, atol=1e-2)
        assert (ours[count:, 5] == -1).all()
        assert (ours[:count, 5] >= 0).all()


@pytest.mark.parametrize("name", MAKERS)
def test_neither_batch_mates_nor_the_canvas_change_an_image(name: str) -> None:
    net, images, targets = detector(name), pictures(), objects()
    together = net(on_canvas(images, (96, 96)))
    losses, boxes = together.losses(stacked(targets)), together.predictions()
    torch.manual_seed(11)  # samples of anchors are none of the caller's random numbers
    again = net(on_canvas(images, (96, 96))).losses(stacked(targets))
    for k, (image, rows) in enumerate(zip(images, targets, strict=True)):
        alone = net(image[None])
        one = alone.losses(rows[None])
        for part in ("cls", "loc"):
            assert torch.equal(losses[part], again[part])
            torch.testing.assert_close(one[part][0], losses[part][k], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(alone.predictions()[0, :, 4], boxes[k, :, 4], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(alone.scores()[0], together.scores()[k], rtol=1e-4, atol=1e-5)
        score = together.object_scores(stacked(targets))[k]
        torch.testing.assert_close(alone.object_scores(rows[None])[0], score, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MAKERS)
def test_gradients_are_those_of_differences_and_0_where_there_is_no_pixel(name: str) -> None:
    exact = torch.float64 if name in ("ssd", "fcos") else torch.float32  # torchvision's other heads know no other
    net = detector(name).to(exact)
    canvas = on_canvas(pictures(), (96, 96)).to(exact).requires_grad_()
    rows = stacked(objects()).to(exact)

    def loss(x: Tensor) -> Tensor:
        found = net(x).losses(rows)
        return found["cls"] + found["loc"]

    gradient = torch.autograd.grad(loss(canvas).sum(), canvas)[0]
    assert not bool(gradient.isnan().any())
    assert (gradient[canvas.isnan()] == 0).all()
    assert (gradient.flatten(1).abs().amax(1) > 0).all()
    direction = torch.sign(gradient) * ~canvas.isnan()
    step = 1e-6 if exact == torch.float64 else 1e-4
    with torch.no_grad():
        moved = loss(canvas + step * direction) - loss(canvas - step * direction)
    slope = (gradient.nan_to_num() * direction).flatten(1).sum(1)
    torch.testing.assert_close(moved / (2 * step), slope, rtol=0.01 if exact == torch.float64 else 0.2, atol=1e-2)


@pytest.mark.parametrize("name", MAKERS)
def test_an_image_without_objects_has_a_loss_and_a_gradient(name: str) -> None:
    net = detector(name)
    canvas = on_canvas(pictures()[:1], (96, 96)).requires_grad_()
    losses = net(canvas).losses(stacked([torch.empty(0, 6)]))
    assert losses["loc"].tolist() == [0.0]
    assert losses["cls"].item() > 0
    gradient = torch.autograd.grad(losses["cls"].sum(), canvas)[0]
    assert bool(torch.isfinite(gradient).all())
    assert gradient.abs().max() > 0


@pytest.mark.parametrize("name", MAKERS)
def test_background_losses_are_of_every_anchor(name: str) -> None:
    """An attack that makes objects vanish moves all anchors, not the three that SSD's training looks at."""
    output = detector(name)(on_canvas(pictures(), (96, 96)))
    found = output.background_losses()
    if name != "ssd":
        torch.testing.assert_close(found, output.losses(stacked([torch.empty(0, 6)] * 3))["cls"])
        return
    for part in output.parts:
        logits = part.heads["cls_logits"].requires_grad_()
        expected = nn.functional.cross_entropy(
            logits.transpose(1, 2), torch.zeros(logits.shape[:2]).long(), reduction="none"
        )
        torch.testing.assert_close(found[part.group.positions], expected.sum(1))
    gradient = torch.autograd.grad(output.background_losses().sum(), output.parts[0].heads["cls_logits"])[0]
    assert (gradient.abs().sum(2) > 0).all()


@pytest.mark.parametrize("name", ONE_STAGE)
def test_a_difficult_object_is_neither_asked_for_nor_background(name: str) -> None:
    net, image = detector(name), pictures()[:1]
    rows = stacked(objects()[:1])
    without, hard = rows[:, :2].clone(), rows.clone()
    hard[0, 2, DIFFICULT] = 1.0
    output = net(on_canvas(image, (96, 96)))
    easy, told = output.losses(without), output.losses(hard)
    torch.testing.assert_close(told["loc"], easy["loc"])
    assert told["cls"] <= easy["cls"] + 1e-6  # of the background there is less, never more
    assert output.losses(rows)["cls"] != told["cls"]


@pytest.mark.parametrize("name", ONE_STAGE)
def test_classes_of_ignored_anchors_enter_no_loss(name: str) -> None:
    from advkit.models.detectors import matching
    from advkit.models.detectors.output import object_targets

    net = detector(name)
    rows = stacked([torch.tensor([[65, 65, 90, 90, 1, 0.0], [4, 4, 60, 60, 0, 1.0]])])
    output = net(on_canvas(pictures()[:1], (96, 96)))
    (part,) = output.parts
    logits = part.heads["cls_logits"].requires_grad_()
    found = object_targets(rows, part.group)
    match = {
        "ssd": lambda: matching.match_ssd(found, part.anchors, 0.5),
        "fcos": lambda: matching.match_fcos(found, part.anchors, part.levels, net.center_sampling_radius),
        "retinanet": lambda: matching.match_retinanet(found, part.anchors, 0.4, 0.5),
    }[name]()
    weight = torch.autograd.grad(output.losses(rows)["cls"].sum(), logits)[0].abs().sum(2)
    assert (match == matching.IGNORED).any()
    assert (weight[match == matching.IGNORED] == 0).all()
    assert (weight[match >= 0] > 0).all()


@pytest.mark.parametrize("name", MAKERS)
def test_scores_are_those_of_the_best_boxes(name: str) -> None:
    output = detector(name)(on_canvas(pictures(), (96, 96)))
    scores, boxes = output.scores(), output.predictions()
    assert scores.shape == (3, CLASSES)
    for k in range(3):
        for label in boxes[k, :, 5].unique().long().tolist():
            if label >= 0:
                best = boxes[k, boxes[k, :, 5] == label, 4].max()
                torch.testing.assert_close(scores[k, label], best, rtol=1e-4, atol=1e-5)
    assert (boxes[:, 0, 5] >= 0).all()


@pytest.mark.parametrize("name", MAKERS)
def test_training_mode_and_losses_leave_buffers_and_modes_as_they_are(name: str) -> None:
    net = detector(name).train()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    modes = [module.training for module in net.modules()]
    output = net(on_canvas(pictures(), (96, 96)))
    output.losses(stacked(objects()))
    output.predictions()
    assert [module.training for module in net.modules()] == modes
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())


@pytest.mark.parametrize("name", MAKERS)
def test_heads_are_float32_whatever_the_network_computes_in(name: str) -> None:
    """Three digits of bfloat16 are whole pixels of a box."""
    with torch.autocast("cpu", torch.bfloat16):
        output = detector(name)(on_canvas(pictures(), (96, 96)))
    tensors = [
        tensor for part in output.parts for tensor in getattr(part, "heads", getattr(part, "features", {})).values()
    ]
    assert tensors
    assert {tensor.dtype for tensor in tensors} == {torch.float32}


def test_tiny_ssd_has_no_batch_norm() -> None:
    assert not [module for module in TinyStages(3).modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
