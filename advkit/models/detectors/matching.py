"""Which anchor stands for which object, for all images of a batch at once; as torchvision matches them one by one.

``wanted`` boxes are (n, B, 4), anchors (A, 4). A match is (n, A) int64: the object's row, or one of the two below.
"""

from __future__ import annotations

import torch
from torch import Tensor

from advkit.models.detectors.output import ObjectTargets

BACKGROUND, IGNORED = -1, -2


def box_iou(boxes: Tensor, anchors: Tensor) -> Tensor:
    """(n, B, A) intersection over union."""
    corner = torch.minimum(boxes[:, :, None, 2:], anchors[None, None, :, 2:])
    inner = (corner - torch.maximum(boxes[:, :, None, :2], anchors[None, None, :, :2])).clamp_min(0.0).prod(3)
    areas, own = (boxes[..., 2:] - boxes[..., :2]).prod(-1), (anchors[:, 2:] - anchors[:, :2]).prod(-1)
    return inner / (areas[:, :, None] + own - inner)


def _asked_iou(found: ObjectTargets, anchors: Tensor) -> tuple[Tensor, Tensor]:
    """(n, B, A) overlaps of the objects that are asked for, -1 in other rows; (n, A) bool, over a difficult one."""
    overlaps = box_iou(found.boxes, anchors)
    hard = ((overlaps >= 0.5) & (found.difficult & (found.labels >= 0))[:, :, None]).any(1)
    return overlaps.masked_fill(~found.asked[:, :, None], -1.0), hard


def match_ssd(found: ObjectTargets, anchors: Tensor, threshold: float) -> Tensor:
    """Anchors over ``threshold`` match their best object, each object's best anchor that object (Liu et al. 2016)."""
    overlaps, hard = _asked_iou(found, anchors)
    best, rows = overlaps.max(1)
    match = torch.where(best >= threshold, rows, torch.where(hard, IGNORED, BACKGROUND))
    own = overlaps.argmax(2)  # (n, B)
    for row in range(own.shape[1]):  # the later of two objects with one best anchor takes it
        mine = torch.zeros_like(match, dtype=torch.bool).scatter_(1, own[:, row : row + 1], True)
        match = torch.where(mine & found.asked[:, row : row + 1], row, match)
    return match


def match_retinanet(found: ObjectTargets, anchors: Tensor, low: float, high: float) -> Tensor:
    """Anchors from ``high`` match, below ``low`` are background; each object's best anchors match (Lin et al. 2017)."""
    overlaps, hard = _asked_iou(found, anchors)
    best, rows = overlaps.max(1)
    match = torch.where(best >= high, rows, torch.where((best >= low) | hard, IGNORED, BACKGROUND))
    top = overlaps.amax(2, keepdim=True)
    kept = ((overlaps == top) & found.asked[:, :, None]).any(1)
    return torch.where(kept, rows, match)


def match_fcos(found: ObjectTargets, anchors: Tensor, levels: list[int], radius: float) -> Tensor:
    """Points near an object's centre, inside it, on the level of its size, match the smallest (Tian et al. 2019)."""
    points, sizes = (anchors[:, :2] + anchors[:, 2:]) / 2, anchors[:, 2] - anchors[:, 0]
    centres = (found.boxes[..., :2] + found.boxes[..., 2:]) / 2
    near = (points - centres[:, :, None]).abs().amax(3) < radius * sizes
    sides = torch.cat([points - found.boxes[:, :, None, :2], found.boxes[:, :, None, 2:] - points], 3)
    low, high = sizes * 4, sizes * 8
    low[: levels[0]], high[-levels[-1] :] = 0.0, float("inf")
    reach = sides.amax(3)
    fits = near & (sides.amin(3) > 0) & (reach > low) & (reach < high)
    areas = (
        (found.boxes[..., 2:] - found.boxes[..., :2])
        .prod(-1)[:, :, None]
        .masked_fill(~fits | ~found.asked[:, :, None], float("inf"))
    )
    least, rows = areas.min(1)
    hard = (fits & (found.difficult & (found.labels >= 0))[:, :, None]).any(1)
    return torch.where(least < float("inf"), rows, torch.where(hard, IGNORED, BACKGROUND))


def matched(found: ObjectTargets, match: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(n, A) bool foreground; (n, A, 4) boxes and (n, A) int64 classes of the matched objects, row 0's elsewhere."""
    rows = match.clamp_min(0)
    boxes = found.boxes.gather(1, rows[..., None].expand(-1, -1, 4))
    return match >= 0, boxes, found.labels.gather(1, rows)
