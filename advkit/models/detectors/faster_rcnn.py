"""Faster R-CNN (Ren et al. 2015): torchvision's, with losses of each image that are the same at every call."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection import faster_rcnn
from torchvision.models.detection.image_list import ImageList

from advkit.models.detectors.output import (
    ObjectTargets,
    as_predictions,
    full_precision,
    in_order,
    no_objects,
    object_targets,
)
from advkit.models.detectors.resize import ImageGroup, grouped


@dataclass(frozen=True)
class TwoStageGroup:
    """Features of the images of one group, by level (n, C, h, w)."""

    group: ImageGroup
    features: dict[str, Tensor]

    def of(self, row: int) -> tuple[ImageList, dict[str, Tensor]]:
        """One image of the group, as torchvision's heads take it."""
        size = (int(self.group.sizes[row, 0]), int(self.group.sizes[row, 1]))
        images = ImageList(self.group.images[row : row + 1], [size])
        return images, {name: level[row : row + 1] for name, level in self.features.items()}


@dataclass(frozen=True)
class TwoStageOutput:
    """A :class:`~advkit.models.detectors.output.DetectorOutput` of the detector ``net``."""

    net: FasterRCNN
    parts: list[TwoStageGroup]

    def losses(self, targets: Tensor) -> dict[str, Tensor]:
        """``cls`` of objectness and classes, ``loc`` of proposals and boxes; (N,) each."""
        return in_order(
            [self.net.group_losses(part, object_targets(targets, part.group)) for part in self.parts], self.groups
        )

    def predictions(self) -> Tensor:
        """See :class:`~advkit.models.detectors.output.DetectorOutput`."""
        with torch.no_grad():
            found = [
                [self.net.detect(*part.of(row)) for row in range(len(part.group.positions))] for part in self.parts
            ]
        return as_predictions(found, self.groups, self.net.label_offset)

    def scores(self) -> Tensor:
        """(N, K) largest score of each class over the proposals."""
        found = [
            torch.stack([self.net.class_scores(*part.of(row)) for row in range(len(part.group.positions))])
            for part in self.parts
        ]
        return in_order([{"scores": one} for one in found], self.groups)["scores"]

    def background_losses(self) -> Tensor:
        """``cls`` if there were no object, (N,), over a sample of anchors and proposals."""
        return in_order([self.net.group_losses(part, no_objects(part.group)) for part in self.parts], self.groups)[
            "cls"
        ]

    def detach(self) -> TwoStageOutput:
        """The same without a graph."""
        parts = [
            replace(part, features={name: level.detach() for name, level in part.features.items()})
            for part in self.parts
        ]
        return replace(self, parts=parts)

    @property
    def groups(self) -> list[ImageGroup]:
        """The groups of images."""
        return [part.group for part in self.parts]


class FasterRCNN(faster_rcnn.FasterRCNN):  # type: ignore[misc]  # torchvision has no types
    """torchvision's Faster R-CNN.

    Its losses are taken over a sample of anchors and proposals. Here each image's sample is drawn from one fixed seed,
    so that equal images have equal losses, whatever else is in the batch and however often they are asked for.
    """

    label_offset = 1

    def forward(self, images: Tensor) -> TwoStageOutput:
        """Features for ``images`` (N, C, H, W), normalised, NaN beyond their edges; heads run when they are asked."""
        parts = []
        for group in grouped(images, self.transform):
            features = self.backbone(group.images)
            parts.append(TwoStageGroup(group, {name: full_precision(level) for name, level in features.items()}))
        return TwoStageOutput(self, parts)

    def group_losses(self, part: TwoStageGroup, found: ObjectTargets) -> dict[str, Tensor]:
        """``cls`` and ``loc``, (n,) each; difficult objects are background here, as in torchvision's recipe."""
        cls, loc = [], []
        for row in range(len(part.group.positions)):
            asked = found.asked[row]
            labels = found.labels[row][asked] + self.label_offset
            targets = [{"boxes": found.boxes[row][asked], "labels": labels}]
            images, features = part.of(row)
            with _sampling(self, images.tensors.device):
                proposals, first = self.rpn(images, features, targets)
                _, second = self.roi_heads(features, proposals, images.image_sizes, targets)
            cls.append(first["loss_objectness"] + second["loss_classifier"])
            loc.append(first["loss_rpn_box_reg"] + second["loss_box_reg"])
        return {"cls": torch.stack(cls), "loc": torch.stack(loc)}

    def detect(self, images: ImageList, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """torchvision's ``boxes``, ``scores`` and ``labels`` of one image."""
        with _in_mode(self, False):
            proposals, _ = self.rpn(images, features)
            found: list[dict[str, Tensor]] = self.roi_heads(features, proposals, images.image_sizes)[0]
        return found[0]

    def class_scores(self, images: ImageList, features: dict[str, Tensor]) -> Tensor:
        """(K,) largest score of each class over the proposals of one image."""
        with _in_mode(self, False):
            proposals, _ = self.rpn(images, features)
        heads = self.roi_heads
        logits, _ = heads.box_predictor(heads.box_head(heads.box_roi_pool(features, proposals, images.image_sizes)))
        scores: Tensor = logits.softmax(1)[:, self.label_offset :].amax(0)
        return scores


@contextlib.contextmanager
def _in_mode(net: Any, training: bool) -> Iterator[None]:
    """The heads themselves in training mode or not; what is inside them (batch-norm) stays as it is."""
    before = [head.training for head in (net.rpn, net.roi_heads)]
    net.rpn.training = net.roi_heads.training = training
    try:
        yield
    finally:
        net.rpn.training, net.roi_heads.training = before


@contextlib.contextmanager
def _sampling(net: Any, device: torch.device) -> Iterator[None]:
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), _in_mode(net, True):
        torch.manual_seed(0)
        yield
