"""Boxes of objects in each image.

Targets and predictions are (N, B, 6) and (N, D, 6), see :mod:`advkit.data.boxes` and
:mod:`advkit.models.detectors.output`; raw outputs are a ``DetectorOutput``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from advkit.data import augment_boxes, boxes, canvas, counter_rng
from advkit.files.errors import InputError
from advkit.metrics.box_matching import images_right
from advkit.metrics.detection import DetectionMetric
from advkit.models.detectors.joined import JoinedOutput
from advkit.models.detectors.output import DetectorOutput
from advkit.tasks import box_marks, class_targets
from advkit.tasks.box_marks import BoxMark
from advkit.tasks.task import AttackLoss


def sum_of_losses(outputs: DetectorOutput, targets: Tensor, targeted: bool) -> Tensor:
    """The detector's whole loss (Xie et al. 2017)."""
    losses = outputs.losses(targets)
    total = losses["cls"] + losses["loc"]
    return -total if targeted else total


def cls_loss(outputs: DetectorOutput, targets: Tensor, targeted: bool) -> Tensor:
    """The loss of classes alone (Zhang and Wang 2019)."""
    loss = outputs.losses(targets)["cls"]
    return -loss if targeted else loss


def loc_loss(outputs: DetectorOutput, targets: Tensor, targeted: bool) -> Tensor:
    """The loss of positions alone (Zhang and Wang 2019)."""
    loss = outputs.losses(targets)["loc"]
    return -loss if targeted else loss


def vanishing(outputs: DetectorOutput, targets: Tensor, targeted: bool) -> Tensor:
    """Towards an image without objects (Chow et al. 2020)."""
    return -outputs.background_losses()


def fabrication(outputs: DetectorOutput, targets: Tensor, targeted: bool) -> Tensor:
    """Away from an image without objects: boxes where there is nothing (Chow et al. 2020)."""
    return outputs.background_losses()


class Detection:
    """A :class:`~advkit.tasks.task.Task`.

    An image counts as right when every object that is asked for is found, at a score of 0.5 and an overlap of 0.5, and
    one without objects when nothing is. Attacks never stop early: what is no longer found at 0.5 still counts for the
    average precision at lower scores.
    """

    name = "detection"
    attack_losses: Mapping[str, AttackLoss] = {
        "sum": sum_of_losses,
        "cls": cls_loss,
        "loc": loc_loss,
        "vanishing": vanishing,
        "fabrication": fabrication,
    }
    strongest_of: Mapping[str, Sequence[str]] = {"mtd": ("cls", "loc")}  # Zhang and Wang 2019
    fallback = "sum"
    has_places = True
    least_classes = 1
    augmentations = augment_boxes.KINDS
    stops_early = False
    smooths_labels = False
    exclusive = False
    counts_in_training = False
    figures: tuple[str, ...] = ("map50", "map50_95")
    explained = "the best score of each object's class, averaged over the objects"
    activation_words = "the log of the best score of each object's class at its place, averaged over the objects"

    def outputs(self, networks: Sequence[nn.Module], images: Tensor) -> Any:
        """The ``DetectorOutput`` of one network.

        Raises:
            InputError: several networks.
        """
        if len(networks) > 1:
            raise InputError(f"{len(networks)} detectors: they make no ensemble here; give one")
        return networks[0](images)

    def joined(self, outputs: Sequence[DetectorOutput], sizes: Sequence[int]) -> DetectorOutput:
        """The ``DetectorOutput`` of all parts."""
        return outputs[0] if len(outputs) == 1 else JoinedOutput(outputs, sizes)

    def losses(
        self, network: nn.Module, images: Tensor, targets: Tensor, *, label_smoothing: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """(N,) sums of the losses of classes and of positions, and zeros: correctness would take a decoding each."""
        losses = network(images).losses(targets)
        total = losses["cls"] + losses["loc"]
        return total, torch.zeros_like(total)

    def predictions(self, outputs: DetectorOutput) -> Tensor:
        """(N, D, 6)."""
        return outputs.predictions()

    def correct(self, predictions: Tensor, targets: Tensor) -> Tensor:
        """(N,) bool."""
        return images_right(predictions, targets)

    def is_success(self, predictions: Tensor, targets: Tensor, targeted: bool) -> Tensor:
        """(N,) bool: the objects aimed at are found if targeted; otherwise an object is lost."""
        right = images_right(predictions, targets)
        return right if targeted else ~right

    def margin(self, outputs: DetectorOutput, targets: Tensor) -> Tensor:
        """(N,) the whole loss: its gradient never underflows as that of a softmax does."""
        return sum_of_losses(outputs, targets, False)

    def score(self, outputs: DetectorOutput, targets: Tensor) -> Tensor:
        """(N,) mean over the objects of the best score of their class."""
        scores, asked = outputs.scores(), boxes.is_object(targets)
        labels = targets[..., boxes.LABEL].long().clamp_min(0)
        found = scores.gather(1, labels) * asked
        return found.sum(1) / asked.sum(1).clamp_min(1)

    def activation(self, outputs: DetectorOutput, targets: Tensor) -> Tensor:
        """(N,) see :meth:`~advkit.models.detectors.output.DetectorOutput.object_scores`."""
        return outputs.object_scores(targets)

    def class_probabilities(self, outputs: DetectorOutput) -> Tensor:
        """(N, K) the largest score of each class over all places."""
        return outputs.scores()

    def titles(self, targets: Tensor, class_names: Sequence[str]) -> list[str]:
        """See :func:`advkit.tasks.box_marks.titles`."""
        return box_marks.titles(targets)

    def captions(self, predictions: Tensor, targets: Tensor, class_names: Sequence[str]) -> list[str]:
        """See :func:`advkit.tasks.box_marks.captions`."""
        return box_marks.captions(predictions, targets)

    def objects(self, targets: Tensor) -> list[list[BoxMark]]:
        """See :func:`advkit.tasks.box_marks.object_marks`."""
        return box_marks.object_marks(targets)

    def found(self, predictions: Tensor, targets: Tensor) -> list[list[BoxMark]]:
        """See :func:`advkit.tasks.box_marks.found_marks`."""
        return box_marks.found_marks(predictions, targets)

    def output_flags(self, first: DetectorOutput, second: DetectorOutput) -> list[str]:
        """``not-finite`` and ``random-forward`` of two passes over the same images."""
        one, two = first.predictions(), second.predictions()
        flags = [] if bool(torch.isfinite(one).all()) else ["not-finite"]
        same = torch.allclose(one[..., 4], two[..., 4], rtol=1e-4, atol=1e-4, equal_nan=True)
        return flags if same else [*flags, "random-forward"]

    def parse_target(self, text: str, class_names: tuple[str, ...]) -> str | int:
        """See :func:`advkit.tasks.class_targets.parse_target`; ``least-likely`` is for classifiers.

        Raises:
            InputError: no class and no rule.
        """
        found = class_targets.parse_target(text, class_names)
        if found == "least-likely":
            raise InputError("--target least-likely: a detector has no such class of an image; use next or random")
        return found

    def aim(
        self,
        rule: str | int,
        targets: Tensor,
        indices: Tensor,
        outputs: Callable[[], Any],
        num_classes: int,
        seed: int,
    ) -> Tensor:
        """The same boxes with other classes: a fixed one, the next, or one drawn for each image (Chow et al. 2020).

        Difficult objects, of which nothing is asked, keep theirs.
        """
        labels = targets[..., boxes.LABEL].long()
        asked = boxes.is_object(targets) & (targets[..., boxes.DIFFICULT] == 0)
        if isinstance(rule, int):
            aimed = torch.full_like(labels, rule)
        elif rule == "next":
            aimed = (labels + 1) % num_classes
        else:
            drawn = counter_rng.uniform(seed, indices, counter_rng.stream("target"), 1)
            aimed = (labels + 1 + (drawn * (num_classes - 1)).long()) % num_classes
        changed = targets.clone()
        changed[..., boxes.LABEL] = torch.where(asked, aimed, labels).to(targets.dtype)
        return changed

    def strata(self, targets: Tensor) -> Tensor:
        """(N,) by the class of the largest object, 0 without any."""
        areas = (targets[..., 2:4] - targets[..., :2]).prod(2).masked_fill(~boxes.is_object(targets), -1.0)
        largest = areas.argmax(1, keepdim=True)
        return targets[..., boxes.LABEL].gather(1, largest).squeeze(1).long() + 1

    def augmented(
        self, images: Tensor, targets: Tensor, indices: Tensor, kinds: frozenset[str], seed: int, epoch: int
    ) -> tuple[Tensor, Tensor]:
        """See :func:`advkit.data.augment_boxes.augmented`."""
        return augment_boxes.augmented(images, targets, indices, kinds, seed, epoch)

    def columns(self, images: Tensor, targets: Tensor, aims: Tensor, predictions: Tensor) -> dict[str, Tensor]:
        """``boxes`` (N, B, 4), ``labels`` and ``difficult`` (N, B), and ``sizes`` (N, 2) of the images."""
        return {
            "sizes": canvas.sizes(images),
            "boxes": targets[..., :4].contiguous(),
            "labels": targets[..., boxes.LABEL].long(),
            "difficult": targets[..., boxes.DIFFICULT].to(torch.uint8),
        }

    def metric(self, num_classes: int) -> DetectionMetric:
        """Average precisions."""
        return DetectionMetric(num_classes)

    def near_chance(self, correct: int, images: int, num_classes: int) -> bool:
        """Whether nothing was found at all."""
        return correct == 0


DETECTION = Detection()
