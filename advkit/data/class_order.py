"""A set of images with its classes in another order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from advkit.data.boxes import LABEL, is_object
from advkit.data.images import ImageSet


def in_order(images: ImageSet, names: Sequence[str]) -> ImageSet:
    """``images`` with the numbers that its classes have in ``names``, and a warning that says so.

    Args:
        images: with class numbers of its own.
        names: those of ``images``, each once, in any order.
    """
    places = torch.tensor([names.index(name) for name in images.class_names])
    targets, aims = images.targets, images.target_classes
    if images.task == "detection":
        targets, there = targets.clone(), is_object(targets)
        targets[..., LABEL][there] = places[targets[..., LABEL][there].long()].to(targets.dtype)
    else:
        targets = places[targets]
    return replace(
        images,
        class_names=tuple(names),
        targets=targets,
        target_classes=None if aims is None else places[aims],
        warnings=(*images.warnings, "its classes are brought into the order of the model's, by name"),
    )
