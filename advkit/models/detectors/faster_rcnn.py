"""Faster R-CNN (Ren et al. 2015): torchvision's, with losses of each image that are the same at every call."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import faster_rcnn
from torchvision.models.detection.image_list import ImageList

from advkit.models.detectors.output import GroupedDetector, GroupedOutput, ObjectTargets, full_precision
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

    def each(self) -> Iterator[tuple[ImageList, dict[str, Tensor]]]:
        """:meth:`of` of all images."""
        return map(self.of, range(len(self.group.positions)))

    def detach(self) -> TwoStageGroup:
        """The same without a graph."""
        return replace(self, features={name: level.detach() for name, level in self.features.items()})


class FasterRCNN(GroupedDetector, faster_rcnn.FasterRCNN):  # type: ignore[misc]  # torchvision has no types
    """torchvision's Faster R-CNN.

    Its losses are taken over a sample of anchors and proposals. Here each image's sample is drawn from one fixed seed,
    so that equal images have equal losses, whatever else is in the batch and however often they are asked for.
    """

    label_offset = 1
    transform: Any
    backbone: nn.Module
    rpn: Any
    roi_heads: Any

    def forward(self, images: Tensor) -> GroupedOutput:
        """Features for ``images`` (N, C, H, W), normalised, NaN beyond their edges; heads run when they are asked."""
        parts = []
        for group in grouped(images, self.transform):
            features = self.backbone(group.images)
            parts.append(TwoStageGroup(group, {name: full_precision(level) for name, level in features.items()}))
        return GroupedOutput(self, parts)

    def group_losses(self, part: TwoStageGroup, found: ObjectTargets) -> dict[str, Tensor]:
        """``cls`` and ``loc``, (n,) each; difficult objects are background here, as in torchvision's recipe."""
        cls, loc = [], []
        rows = zip(part.each(), found.boxes, found.labels, found.asked, strict=True)
        for (images, features), boxes, labels, asked in rows:
            targets = [{"boxes": boxes[asked], "labels": labels[asked] + self.label_offset}]
            with _sampling(self, images.tensors.device):
                proposals, first = self.rpn(images, features, targets)
                _, second = self.roi_heads(features, proposals, images.image_sizes, targets)
            cls.append(first["loss_objectness"] + second["loss_classifier"])
            loc.append(first["loss_rpn_box_reg"] + second["loss_box_reg"])
        return {"cls": torch.stack(cls), "loc": torch.stack(loc)}

    def group_detections(self, part: TwoStageGroup) -> list[dict[str, Tensor]]:
        """torchvision's, of each image."""
        found = []
        for images, features in part.each():
            with _in_mode(self, False):
                proposals, _ = self.rpn(images, features)
                found += self.roi_heads(features, proposals, images.image_sizes)[0]
        return found

    def group_scores(self, part: TwoStageGroup) -> Tensor:
        """(n, K) largest score of each class over the proposals."""
        found = []
        for images, features in part.each():
            with _in_mode(self, False):
                proposals, _ = self.rpn(images, features)
            found.append(self._class_logits(images, features, proposals).softmax(1)[:, self.label_offset :].amax(0))
        return torch.stack(found)

    def group_object_scores(self, part: TwoStageGroup, found: ObjectTargets) -> Tensor:
        """(n, B) of the objects' own boxes, as if they had been proposed."""
        rows = []
        for (images, features), boxes, labels, asked in zip(
            part.each(), found.boxes, found.labels, found.asked, strict=True
        ):
            logits = self._class_logits(images, features, [torch.where(asked[:, None], boxes, 0.0)])
            own = (labels.clamp_min(0) + self.label_offset)[:, None]
            scores = logits.log_softmax(1).gather(1, own).squeeze(1)
            rows.append(scores.masked_fill(~asked, -float("inf")))
        return torch.stack(rows)

    def _class_logits(self, images: ImageList, features: dict[str, Tensor], proposals: list[Tensor]) -> Tensor:
        """(P, K + 1) of P boxes in one image."""
        heads = self.roi_heads
        logits: Tensor = heads.box_predictor(
            heads.box_head(heads.box_roi_pool(features, proposals, images.image_sizes))
        )[0]
        return logits


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
