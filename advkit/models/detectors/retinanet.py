"""RetinaNet (Lin et al. 2017): torchvision's, with losses of each image by itself."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection import retinanet

from advkit.models.detectors import matching
from advkit.models.detectors.dense import DenseGroup, FocalDetector
from advkit.models.detectors.output import ObjectTargets


class RetinaNet(FocalDetector, retinanet.RetinaNet):  # type: ignore[misc]  # torchvision has no types
    """torchvision's RetinaNet; the mean over images of its losses is torchvision's loss of the batch."""

    label_offset = 1

    def match(self, part: DenseGroup, found: ObjectTargets) -> Tensor:
        """See :class:`~advkit.models.detectors.dense.DenseDetector`."""
        matcher = self.proposal_matcher
        return matching.match_retinanet(found, part.anchors, matcher.low_threshold, matcher.high_threshold)

    def log_scores(self, part: DenseGroup) -> Tensor:
        """See :class:`~advkit.models.detectors.dense.DenseDetector`."""
        return F.logsigmoid(part.heads["cls_logits"])[..., self.label_offset :]

    def group_losses(self, part: DenseGroup, found: ObjectTargets) -> dict[str, Tensor]:
        """``cls`` focal loss, ``loc`` L1; (n,) each."""
        match = self.match(part, found)
        foreground, boxes, labels = matching.matched(found, match)
        image = foreground.nonzero()[:, 0]
        anchors = part.anchors.expand(len(boxes), -1, -1)[foreground]
        wanted = self.box_coder.encode_single(boxes[foreground], anchors)
        apart = F.l1_loss(part.heads["bbox_regression"][foreground], wanted, reduction="none").sum(1)
        loc = apart.new_zeros(len(boxes)).index_add(0, image, apart)
        return {"cls": self.focal_losses(part, match, labels), "loc": loc / foreground.sum(1).clamp_min(1)}

    def group_scores(self, part: DenseGroup) -> Tensor:
        """(n, K)."""
        return part.heads["cls_logits"].sigmoid()[..., self.label_offset :].amax(1)
