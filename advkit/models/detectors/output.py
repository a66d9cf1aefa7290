"""What a detector says of a batch: losses for each image, and boxes in pixels of the images at their own size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from advkit.data.boxes import COLUMNS, DIFFICULT, LABEL, NO_OBJECT
from advkit.models.detectors.resize import ImageGroup

MOST_PREDICTIONS = 100  # of one image, as COCO counts them
SCORE, CLASS = 4, 5  # columns of predictions


class DetectorOutput(Protocol):
    """Raw outputs for N images."""

    def losses(self, targets: Tensor) -> dict[str, Tensor]:
        """``cls`` and ``loc``, (N,) each, differentiable: the detector's own losses for ``targets`` (N, B, 6)."""
        ...

    def predictions(self) -> Tensor:
        """(N, 100, 6) float32: x0, y0, x1, y1, score, class, by falling score; class -1 where there is none."""
        ...

    def scores(self) -> Tensor:
        """(N, K) differentiable: the largest score of each class over all places, in (0, 1)."""
        ...

    def background_losses(self) -> Tensor:
        """(N,) differentiable: the loss of classes if no image held an object, over every anchor alike."""
        ...

    def detach(self) -> DetectorOutput:
        """The same without a graph."""
        ...


@dataclass(frozen=True)
class ObjectTargets:
    """The objects of n images in pixels of the scaled images.

    Attributes:
        boxes: (n, B, 4).
        labels: (n, B) int64 from 0; -1 where there is no object.
        difficult: (n, B) bool: neither to be found nor background.
    """

    boxes: Tensor
    labels: Tensor
    difficult: Tensor

    @property
    def asked(self) -> Tensor:
        """(n, B) bool: objects that are to be found."""
        return (self.labels >= 0) & ~self.difficult


def no_objects(group: ImageGroup) -> ObjectTargets:
    """What holds of the n images of ``group`` if there is nothing in them."""
    labels = torch.full_like(group.positions, -1)[:, None]
    return ObjectTargets(group.scale.new_zeros(len(labels), 1, 4), labels, labels > 0)


def object_targets(targets: Tensor, group: ImageGroup) -> ObjectTargets:
    """``targets`` (N, B, 6) of the images of ``group``, without the rows that none of them fills.

    B is the data set's most crowded image, and matching takes memory and time for each row and anchor.
    """
    rows = targets[group.positions]
    filled = (rows[..., LABEL] >= 0).any(0).nonzero()
    rows = rows[:, : int(filled[-1]) + 1 if len(filled) else 1]
    return ObjectTargets(rows[..., :4] * group.scale[:, None], rows[..., LABEL].long(), rows[..., DIFFICULT] > 0)


def as_predictions(found: Sequence[Sequence[dict[str, Tensor]]], groups: Sequence[ImageGroup], offset: int) -> Tensor:
    """(N, 100, 6) of torchvision's ``boxes``, ``scores`` and ``labels``.

    Args:
        found: of each group and image; boxes in pixels of the scaled image.
        groups: of all N images.
        offset: the number of class 0.
    """
    rows = groups[0].scale.new_zeros(sum(len(group.positions) for group in groups), MOST_PREDICTIONS, COLUMNS)
    rows[:, :, CLASS] = NO_OBJECT
    for group, images in zip(groups, found, strict=True):
        for position, scale, one in zip(group.positions.tolist(), group.scale, images, strict=True):
            order = one["scores"].argsort(descending=True, stable=True)
            order = order[one["labels"][order] >= offset][:MOST_PREDICTIONS]  # some heads have boxes of background
            row = rows[position, : len(order)]
            row[:, :4] = one["boxes"][order].float() / scale
            row[:, SCORE] = one["scores"][order].float()
            row[:, CLASS] = (one["labels"][order] - offset).float()
    return rows


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

    def split(self, name: str) -> list[Tensor]:
        """(n, a, ...) of each level."""
        return list(torch.split(self.heads[name], self.levels, 1))


@dataclass(frozen=True)
class DenseOutput:
    """A :class:`DetectorOutput` of the one-stage detector ``net``."""

    net: Any
    parts: list[DenseGroup]

    def losses(self, targets: Tensor) -> dict[str, Tensor]:
        """See :class:`DetectorOutput`."""
        return in_order(
            [self.net.group_losses(part, object_targets(targets, part.group)) for part in self.parts], self.groups
        )

    def predictions(self) -> Tensor:
        """See :class:`DetectorOutput`."""
        with torch.no_grad():
            return as_predictions(list(map(self.net.group_detections, self.parts)), self.groups, self.net.label_offset)

    def scores(self) -> Tensor:
        """See :class:`DetectorOutput`."""
        return in_order([{"scores": self.net.group_scores(part)} for part in self.parts], self.groups)["scores"]

    def background_losses(self) -> Tensor:
        """See :class:`DetectorOutput`."""
        return in_order([{"cls": self.net.group_background(part)} for part in self.parts], self.groups)["cls"]

    def detach(self) -> DenseOutput:
        """See :class:`DetectorOutput`."""
        parts = [replace(part, heads={name: head.detach() for name, head in part.heads.items()}) for part in self.parts]
        return replace(self, parts=parts)

    @property
    def groups(self) -> list[ImageGroup]:
        """The groups of images."""
        return [part.group for part in self.parts]


def full_precision(values: Tensor) -> Tensor:
    """``values`` in float32 at least: losses and boxes are not for bfloat16."""
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values


def in_order(found: Sequence[dict[str, Tensor]], groups: Sequence[ImageGroup]) -> dict[str, Tensor]:
    """Tensors (n, ...) of each group by name, put together to (N, ...) in the order of the images."""
    places = torch.cat([group.positions for group in groups]).argsort()
    return {name: torch.cat([one[name] for one in found])[places] for name in found[0]}
