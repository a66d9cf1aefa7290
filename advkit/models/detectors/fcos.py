"""FCOS (Tian et al. 2019): torchvision's, with losses of each image by itself."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection import fcos
from torchvision.ops import generalized_box_iou_loss

from advkit.models.detectors import matching
from advkit.models.detectors.dense import DenseGroup, FocalDetector
from advkit.models.detectors.output import ObjectTargets


class FCOS(FocalDetector, fcos.FCOS):  # type: ignore[misc]  # torchvision has no types
    """torchvision's FCOS. The losses of an image are divided by its own matched points, torchvision's by the batch's.

    Attributes:
        label_offset: 1 for heads with a logit for the background, as in torchvision's weights for COCO.
    """

    label_offset = 0

    def match(self, part: DenseGroup, found: ObjectTargets) -> Tensor:
        """See :class:`~advkit.models.detectors.dense.DenseDetector`."""
        return matching.match_fcos(found, part.anchors, part.levels, self.center_sampling_radius)

    def log_scores(self, part: DenseGroup) -> Tensor:
        """See :class:`~advkit.models.detectors.dense.DenseDetector`; with the centreness."""
        both = F.logsigmoid(part.heads["cls_logits"]) + F.logsigmoid(part.heads["bbox_ctrness"])
        return both[..., self.label_offset :] / 2

    def group_losses(self, part: DenseGroup, found: ObjectTargets) -> dict[str, Tensor]:
        """``cls`` focal loss; ``loc`` generalised IoU loss and cross-entropy of the centreness; (n,) each."""
        match = self.match(part, found)
        foreground, boxes, labels = matching.matched(found, match)
        image = foreground.nonzero()[:, 0]
        anchors = part.anchors.expand(len(boxes), -1, -1)[foreground]
        truth = boxes[foreground]
        predicted = self.box_coder.decode(part.heads["bbox_regression"][foreground], anchors)
        overlap = generalized_box_iou_loss(predicted, truth, reduction="none")
        sides = self.box_coder.encode(anchors, truth)
        across, down = sides[:, [0, 2]], sides[:, [1, 3]]
        centre = ((across.amin(1) / across.amax(1)) * (down.amin(1) / down.amax(1))).sqrt()
        centreness = part.heads["bbox_ctrness"][..., 0][foreground]
        centred = F.binary_cross_entropy_with_logits(centreness, centre, reduction="none")
        loc = overlap.new_zeros(len(boxes)).index_add(0, image, overlap + centred)
        return {"cls": self.focal_losses(part, match, labels), "loc": loc / foreground.sum(1).clamp_min(1)}

    def group_scores(self, part: DenseGroup) -> Tensor:
        """(n, K)."""
        both = part.heads["cls_logits"].sigmoid() * part.heads["bbox_ctrness"].sigmoid()
        return both.sqrt()[..., self.label_offset :].amax(1)
