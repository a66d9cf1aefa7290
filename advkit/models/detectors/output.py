"""What a detector says of a batch: losses for each image, and boxes in pixels of the images at their own size."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

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

    def object_scores(self, targets: Tensor) -> Tensor:
        """(N,) differentiable, 0 or less: how much speaks for the objects of ``targets`` (N, B, 6) where they are.

        The mean over an image's objects of the log of the largest score of an object's class among the boxes that stand
        for it; difficult objects, and those that no box stands for, are left out; 0 without any.
        """
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


class DetectorGroup(Protocol):
    """What a detector says of one group of images.

    Attributes:
        group: which images.
    """

    @property
    def group(self) -> ImageGroup: ...

    def detach(self) -> DetectorGroup:
        """The same without a graph."""
        ...


class GroupedDetector(nn.Module, ABC):
    """What a :class:`GroupedOutput` asks of its detector, group by group.

    Attributes:
        label_offset: the number of class 0 among the classes of the head.
        backbone: from images to maps of several levels.
    """

    label_offset: int
    backbone: nn.Module

    @abstractmethod
    def group_losses(self, part: Any, found: ObjectTargets) -> dict[str, Tensor]:
        """``cls`` and ``loc``, (n,) each."""

    @abstractmethod
    def group_detections(self, part: Any) -> list[dict[str, Tensor]]:
        """torchvision's ``boxes``, ``scores`` and ``labels`` of each of n images, in pixels of the scaled image."""

    @abstractmethod
    def group_scores(self, part: Any) -> Tensor:
        """(n, K) largest score of each class."""

    @abstractmethod
    def group_object_scores(self, part: Any, found: ObjectTargets) -> Tensor:
        """(n, B) log of the largest score of each object's class among its boxes; -inf where no box stands for it."""

    def group_background(self, part: Any) -> Tensor:
        """(n,) ``cls`` if there were no object."""
        return self.group_losses(part, no_objects(part.group))["cls"]


@dataclass(frozen=True)
class GroupedOutput:
    """A :class:`DetectorOutput` of the detector ``net``, in groups of images of one size."""

    net: GroupedDetector
    parts: Sequence[DetectorGroup]

    def losses(self, targets: Tensor) -> dict[str, Tensor]:
        """See :class:`DetectorOutput`."""
        found = [self.net.group_losses(part, object_targets(targets, part.group)) for part in self.parts]
        return {name: self._in_order([one[name] for one in found]) for name in found[0]}

    def predictions(self) -> Tensor:
        """See :class:`DetectorOutput`."""
        with torch.no_grad():
            found = [self.net.group_detections(part) for part in self.parts]
        return as_predictions(found, [part.group for part in self.parts], self.net.label_offset)

    def scores(self) -> Tensor:
        """See :class:`DetectorOutput`."""
        return self._in_order([self.net.group_scores(part) for part in self.parts])

    def object_scores(self, targets: Tensor) -> Tensor:
        """See :class:`DetectorOutput`."""
        found = [self.net.group_object_scores(part, object_targets(targets, part.group)) for part in self.parts]
        return self._in_order([_mean_of_finite(one) for one in found])

    def background_losses(self) -> Tensor:
        """See :class:`DetectorOutput`."""
        return self._in_order([self.net.group_background(part) for part in self.parts])

    def detach(self) -> GroupedOutput:
        """See :class:`DetectorOutput`."""
        return replace(self, parts=[part.detach() for part in self.parts])

    def _in_order(self, found: Sequence[Tensor]) -> Tensor:
        """(N, ...) of the (n, ...) of each group, in the order of the images."""
        return torch.cat(list(found))[torch.cat([part.group.positions for part in self.parts]).argsort()]


def _mean_of_finite(scores: Tensor) -> Tensor:
    """(n,) means of the rows of ``scores`` (n, B) over those that are not -inf; 0 without any."""
    there = scores.detach() > -float("inf")
    return torch.where(there, scores, 0.0).sum(1) / there.sum(1).clamp_min(1)


def full_precision(values: Tensor) -> Tensor:
    """``values`` in float32 at least: losses and boxes are not for bfloat16."""
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values
