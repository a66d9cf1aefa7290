"""SSD (Liu et al. 2016) and SSDLite: torchvision's, with losses of each image by itself."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection import ssd

from advkit.models.detectors import matching
from advkit.models.detectors.dense import DenseDetector, DenseGroup
from advkit.models.detectors.output import ObjectTargets


class SSD(DenseDetector, ssd.SSD):  # type: ignore[misc]  # torchvision has no types
    """torchvision's SSD; class 0 of its logits is the background.

    The losses of an image are divided by its own matched anchors, where torchvision divides by those of the batch, so
    that images don't weigh on each other. An image without objects has the loss of its hardest negatives, where
    torchvision's has none at all and therefore no gradient.
    """

    label_offset = 1

    def match(self, part: DenseGroup, found: ObjectTargets) -> Tensor:
        """See :class:`DenseDetector`."""
        return matching.match_ssd(found, part.anchors, self.proposal_matcher.high_threshold)

    def log_scores(self, part: DenseGroup) -> Tensor:
        """See :class:`DenseDetector`."""
        return part.heads["cls_logits"].log_softmax(2)[..., 1:]

    def group_losses(self, part: DenseGroup, found: ObjectTargets) -> dict[str, Tensor]:
        """``cls`` cross-entropy with three hard negatives for a match, ``loc`` smooth L1; (n,) each."""
        match = self.match(part, found)
        foreground, boxes, labels = matching.matched(found, match)
        count = foreground.sum(1)
        shape = boxes.shape
        anchors = part.anchors.expand(shape).reshape(-1, 4)
        wanted = self.box_coder.encode_single(_sound(boxes, foreground).reshape(-1, 4), anchors).view(shape)
        loc = F.smooth_l1_loss(part.heads["bbox_regression"], wanted, reduction="none").sum(2)
        logits = part.heads["cls_logits"]
        classes = torch.where(foreground, labels + self.label_offset, 0)
        cls = F.cross_entropy(logits.flatten(0, 1), classes.flatten(), reduction="none").view(classes.shape)
        negative = cls.detach().masked_fill(match != matching.BACKGROUND, -float("inf"))
        rank = negative.sort(dim=1, descending=True, stable=True).indices.argsort(1)
        hard = (rank < self.neg_to_pos_ratio * count.clamp_min(1)[:, None]) & (match == matching.BACKGROUND)
        most = count.clamp_min(1)
        return {
            "cls": torch.where(foreground | hard, cls, 0.0).sum(1) / most,
            "loc": torch.where(foreground, loc, 0.0).sum(1) / most,
        }

    def group_background(self, part: DenseGroup) -> Tensor:
        """(n,) cross-entropy over all anchors: of an image without objects the loss sees the three hardest alone."""
        return -part.heads["cls_logits"].log_softmax(2)[..., 0].sum(1)

    def group_detections(self, part: DenseGroup) -> list[dict[str, Tensor]]:
        """torchvision's, of each image."""
        found: list[dict[str, Tensor]] = self.postprocess_detections(
            part.heads, [part.anchors] * len(part.group.positions), part.image_shapes
        )
        return found

    def group_scores(self, part: DenseGroup) -> Tensor:
        """(n, K)."""
        return part.heads["cls_logits"].softmax(2)[..., 1:].amax(1)


def _sound(boxes: Tensor, foreground: Tensor) -> Tensor:
    """``boxes`` (n, A, 4), a unit box where there is none: its logarithms are finite, and its loss is masked out."""
    return torch.where(foreground[..., None], boxes, boxes.new_tensor([0.0, 0.0, 1.0, 1.0]))
