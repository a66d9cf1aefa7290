"""FCOS (Tian et al. 2019): torchvision's, with losses of each image by itself."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection import fcos
from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss

from advkit.models.detectors import matching
from advkit.models.detectors.dense import DenseDetector
from advkit.models.detectors.output import DenseGroup, ObjectTargets


class FCOS(DenseDetector, fcos.FCOS):  # type: ignore[misc]  # torchvision has no types
    """torchvision's FCOS. The losses of an image are divided by its own matched points, torchvision's by the batch's.

    Attributes:
        label_offset: 1 for heads with a logit for the background, as in torchvision's weights for COCO.
    """

    label_offset = 0

    def group_losses(self, part: DenseGroup, found: ObjectTargets) -> dict[str, Tensor]:
        """``cls`` focal loss; ``loc`` generalised IoU loss and cross-entropy of the centreness; (n,) each."""
        match = matching.match_fcos(found, part.anchors, part.levels, self.center_sampling_radius)
        foreground, boxes, labels = matching.matched(found, match)
        most = foreground.sum(1).clamp_min(1)
        logits = part.heads["cls_logits"]
        classes = F.one_hot((labels + self.label_offset).clamp_min(0), logits.shape[2]).to(logits.dtype)
        focal = sigmoid_focal_loss(logits, classes * foreground[..., None], reduction="none").sum(2)
        cls = torch.where(match != matching.IGNORED, focal, 0.0).sum(1) / most
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
        loc = overlap.new_zeros(len(boxes)).index_add(0, image, overlap + centred) / most
        return {"cls": cls, "loc": loc}

    def group_detections(self, part: DenseGroup) -> list[dict[str, Tensor]]:
        """torchvision's, of each image."""
        heads = {name: part.split(name) for name in part.heads}
        anchors = [list(torch.split(part.anchors, part.levels))] * len(part.group.positions)
        found: list[dict[str, Tensor]] = self.postprocess_detections(heads, anchors, part.image_shapes)
        return found

    def group_scores(self, part: DenseGroup) -> Tensor:
        """(n, K)."""
        both = part.heads["cls_logits"].sigmoid() * part.heads["bbox_ctrness"].sigmoid()
        return both.sqrt()[..., self.label_offset :].amax(1)
