"""RetinaNet (Lin et al. 2017): torchvision's, with losses of each image by itself."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection import retinanet
from torchvision.ops import sigmoid_focal_loss

from advkit.models.detectors import matching
from advkit.models.detectors.dense import DenseDetector
from advkit.models.detectors.output import DenseGroup, ObjectTargets


class RetinaNet(DenseDetector, retinanet.RetinaNet):  # type: ignore[misc]  # torchvision has no types
    """torchvision's RetinaNet; the mean over images of its losses is torchvision's loss of the batch."""

    label_offset = 1

    def group_losses(self, part: DenseGroup, found: ObjectTargets) -> dict[str, Tensor]:
        """``cls`` focal loss, ``loc`` L1; (n,) each."""
        matcher = self.proposal_matcher
        match = matching.match_retinanet(found, part.anchors, matcher.low_threshold, matcher.high_threshold)
        foreground, boxes, labels = matching.matched(found, match)
        most = foreground.sum(1).clamp_min(1)
        logits = part.heads["cls_logits"]
        classes = F.one_hot((labels + self.label_offset).clamp_min(0), logits.shape[2]).to(logits.dtype)
        focal = sigmoid_focal_loss(logits, classes * foreground[..., None], reduction="none").sum(2)
        cls = torch.where(match != matching.IGNORED, focal, 0.0).sum(1) / most
        image = foreground.nonzero()[:, 0]
        anchors = part.anchors.expand(len(boxes), -1, -1)[foreground]
        wanted = self.box_coder.encode_single(boxes[foreground], anchors)
        apart = F.l1_loss(part.heads["bbox_regression"][foreground], wanted, reduction="none").sum(1)
        return {"cls": cls, "loc": apart.new_zeros(len(boxes)).index_add(0, image, apart) / most}

    def group_detections(self, part: DenseGroup) -> list[dict[str, Tensor]]:
        """torchvision's, of each image."""
        heads = {name: part.split(name) for name in part.heads}
        anchors = [list(torch.split(part.anchors, part.levels))] * len(part.group.positions)
        found: list[dict[str, Tensor]] = self.postprocess_detections(heads, anchors, part.image_shapes)
        return found

    def group_scores(self, part: DenseGroup) -> Tensor:
        """(n, K)."""
        return part.heads["cls_logits"].sigmoid()[..., self.label_offset :].amax(1)
