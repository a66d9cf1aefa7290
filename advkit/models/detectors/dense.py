"""What one-stage detectors of torchvision share here: one forward pass, the same in training and evaluation."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import sigmoid_focal_loss

from advkit.models.detectors import matching
from advkit.models.detectors.output import GroupedDetector, GroupedOutput, ObjectTargets, full_precision
from advkit.models.detectors.resize import ImageGroup, grouped


@dataclass(frozen=True)
class DenseGroup:
    """What the heads of a one-stage detector say of one group of images.

    Attributes:
        group: which images.
        heads: raw outputs by name, (n, A, ...) float32 each.
        anchors: (A, 4), the same for every image.
        levels: anchors at each level; their sum is A.
    """

    group: ImageGroup
    heads: dict[str, Tensor]
    anchors: Tensor
    levels: list[int]

    @property
    def image_shapes(self) -> list[tuple[int, int]]:
        """Height and width of each image, without padding."""
        return [(height, width) for height, width in self.group.sizes.tolist()]

    def detach(self) -> DenseGroup:
        """The same without a graph."""
        return replace(self, heads={name: head.detach() for name, head in self.heads.items()})


class DenseDetector(GroupedDetector):
    """A mix-in for torchvision's one-stage detectors, whose own ``forward`` it replaces."""

    transform: Any
    backbone: nn.Module
    head: nn.Module
    anchor_generator: Any
    proposal_matcher: Any
    box_coder: Any
    neg_to_pos_ratio: float
    center_sampling_radius: float
    postprocess_detections: Any

    def forward(self, images: Tensor) -> GroupedOutput:
        """Raw outputs for ``images`` (N, C, H, W), normalised, NaN beyond their edges."""
        parts = []
        for group in grouped(images, self.transform):
            found = self.backbone(group.images)
            features = [found] if isinstance(found, Tensor) else list(found.values())
            heads = {name: full_precision(head) for name, head in self.head(features).items()}
            anchors = self.anchor_generator(_ImageList(group.images), features)[0]
            cells = [one.shape[2] * one.shape[3] for one in features]
            per_cell = self.anchor_generator.num_anchors_per_location()
            levels = [count * each for count, each in zip(cells, per_cell, strict=True)]
            assert sum(levels) == len(anchors)
            parts.append(DenseGroup(group, heads, anchors, levels))
        return GroupedOutput(self, parts)

    @abstractmethod
    def match(self, part: DenseGroup, found: ObjectTargets) -> Tensor:
        """(n, A), see :mod:`advkit.models.detectors.matching`."""

    @abstractmethod
    def log_scores(self, part: DenseGroup) -> Tensor:
        """(n, A, K) logs of the scores of the classes at each anchor."""

    def group_object_scores(self, part: DenseGroup, found: ObjectTargets) -> Tensor:
        """(n, B) over the anchors that are matched with an object in training."""
        match, scores = self.match(part, found), self.log_scores(part)
        rows = torch.arange(found.labels.shape[1], device=match.device)
        mine = match[:, None] == rows[None, :, None]  # (n, B, A)
        labels = found.labels.clamp_min(0)[:, None].expand(-1, scores.shape[1], -1)
        return scores.gather(2, labels).mT.masked_fill(~mine, -float("inf")).amax(2)


class FocalDetector(DenseDetector):
    """Those that score every class at every anchor by itself, and choose level by level: RetinaNet and FCOS."""

    def focal_losses(self, part: DenseGroup, match: Tensor, labels: Tensor) -> Tensor:
        """(n,) focal loss (Lin et al. 2017) over the anchors that count, divided by those that match.

        Args:
            part: the group.
            match: (n, A), see :mod:`advkit.models.detectors.matching`.
            labels: (n, A) int64, classes of the matched objects.
        """
        logits, foreground = part.heads["cls_logits"], match >= 0
        classes = F.one_hot((labels + self.label_offset).clamp_min(0), logits.shape[2]).to(logits.dtype)
        losses = sigmoid_focal_loss(logits, classes * foreground[..., None], reduction="none").sum(2)
        return torch.where(match != matching.IGNORED, losses, 0.0).sum(1) / foreground.sum(1).clamp_min(1)

    def group_detections(self, part: DenseGroup) -> list[dict[str, Tensor]]:
        """torchvision's, of each image."""
        heads = {name: list(torch.split(head, part.levels, 1)) for name, head in part.heads.items()}
        anchors = [list(torch.split(part.anchors, part.levels))] * len(part.group.positions)
        found: list[dict[str, Tensor]] = self.postprocess_detections(heads, anchors, part.image_shapes)
        return found


class _ImageList:
    """What anchor generators ask of a batch; they give the anchors of one image here."""

    def __init__(self, images: Tensor) -> None:
        self.tensors = images
        self.image_sizes = [(images.shape[2], images.shape[3])]
