"""What one-stage detectors of torchvision share here: one forward pass, the same in training and evaluation."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from advkit.models.detectors.output import DenseGroup, DenseOutput, ObjectTargets, full_precision, no_objects
from advkit.models.detectors.resize import grouped


class DenseDetector(nn.Module):
    """A mix-in for torchvision's one-stage detectors, whose own ``forward`` it replaces.

    Attributes:
        label_offset: the number of class 0 among the classes of the head.
    """

    label_offset: int
    transform: Any
    backbone: nn.Module
    head: nn.Module
    anchor_generator: Any
    proposal_matcher: Any
    box_coder: Any
    neg_to_pos_ratio: float
    center_sampling_radius: float
    postprocess_detections: Any

    def forward(self, images: Tensor) -> DenseOutput:
        """Raw outputs for ``images`` (N, C, H, W), normalised, NaN beyond their edges."""
        parts = []
        for group in grouped(images, self.transform):
            found = self.backbone(group.images)
            features = [found] if isinstance(found, Tensor) else list(found.values())
            heads = {name: full_precision(head) for name, head in self.head(features).items()}
            anchors = self.anchor_generator(_ImageList(group.images), features)[0]
            total, cells = len(anchors), [one.shape[2] * one.shape[3] for one in features]
            per_cell = self.anchor_generator.num_anchors_per_location()
            levels = [count * each for count, each in zip(cells, per_cell, strict=True)]
            assert sum(levels) == total
            parts.append(DenseGroup(group, heads, anchors, levels))
        return DenseOutput(self, parts)

    def group_losses(self, part: DenseGroup, found: ObjectTargets) -> dict[str, Tensor]:
        """``cls`` and ``loc``, (n,) each."""
        raise NotImplementedError

    def group_background(self, part: DenseGroup) -> Tensor:
        """(n,) ``cls`` if there were no object."""
        return self.group_losses(part, no_objects(part.group))["cls"]

    def group_detections(self, part: DenseGroup) -> list[dict[str, Tensor]]:
        """torchvision's ``boxes``, ``scores`` and ``labels`` of each of n images, in pixels of the scaled image."""
        raise NotImplementedError

    def group_scores(self, part: DenseGroup) -> Tensor:
        """(n, K) largest score of each class."""
        raise NotImplementedError


class _ImageList:
    """What anchor generators ask of a batch; they give the anchors of one image here."""

    def __init__(self, images: Tensor) -> None:
        self.tensors = images
        self.image_sizes = [(images.shape[2], images.shape[3])]
