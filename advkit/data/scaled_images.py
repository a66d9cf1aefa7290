"""A set of images at another size, arrays too: what a network that is made for one size is to see of another domain."""

from __future__ import annotations

from dataclasses import replace

import torch.nn.functional as F
from torch import Tensor

from advkit.data.images import ImageSet


def at_size(images: ImageSet, height: int, width: int) -> ImageSet:
    """``images`` resized to ``height`` x ``width``, bilinear with antialiasing, and a warning that says so.

    It is what a network of that size does inside with images of another one
    (:class:`advkit.models.resized.Resized`). Images of that size come back as they are.
    """
    channels, *own = images.size
    if own == [height, width]:
        return images
    read = images.read

    def resized(rows: Tensor) -> Tensor:
        return F.interpolate(read(rows), (height, width), mode="bilinear", antialias=True).clamp_(0.0, 1.0)

    told = f"images of {own[0]}x{own[1]} are resized to {height}x{width}"
    return replace(images, size=(channels, height, width), read=resized, warnings=(*images.warnings, told))
