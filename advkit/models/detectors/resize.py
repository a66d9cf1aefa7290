"""Images of many sizes, each scaled as its detector wants it, in groups of one size: no image pads another's batch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from advkit.data import canvas


@dataclass(frozen=True)
class ImageGroup:
    """Images of one size once they are scaled and padded.

    Attributes:
        positions: (n,) int64, which of the batch.
        images: (n, C, H, W), padded with 0 at the right and below to the multiple that the detector needs.
        sizes: (n, 2) int64, height and width of what is not padding.
        scale: (n, 4), pixels of the scaled image for one of the image: x, y, x, y, as for boxes.
    """

    positions: Tensor
    images: Tensor
    sizes: Tensor
    scale: Tensor


def grouped(images: Tensor, transform: Any) -> list[ImageGroup]:
    """``images`` (N, C, H, W), normalised, on their canvas, as torchvision's ``transform`` would scale each.

    Bilinear and without antialiasing, as in torchvision's own detectors; differentiable.
    """
    extents = canvas.sizes(images.detach())
    parts: dict[tuple[int, int], list[tuple[Tensor, Tensor, Tensor]]] = {}
    for height, width in torch.unique(extents, dim=0).tolist():
        positions = (extents == extents.new_tensor([height, width])).all(1).nonzero().squeeze(1)
        part = images if len(positions) == len(images) else images[positions]
        scaled, (below, right) = _scaled(part[:, :, :height, :width], transform)
        size = (scaled.shape[2] - below, scaled.shape[3] - right)
        factors = images.new_tensor([size[1] / width, size[0] / height] * 2).expand(len(positions), 4)
        sizes = extents.new_tensor(size).expand(len(positions), 2)
        parts.setdefault((scaled.shape[2], scaled.shape[3]), []).append(
            (positions, scaled, torch.cat([sizes, factors], 1))
        )
    return [_joined(found) for found in parts.values()]


def normalises_by_size(net: nn.Module) -> bool:
    """Whether batch-norms of the detector ``net`` would see, in training, one size of images at a time.

    So it is where images keep their proportions: each of their sizes is a pass of its own.
    """
    transform = getattr(net, "transform", None)
    norms = any(isinstance(module, _BatchNorm) for module in net.modules())
    return norms and transform is not None and getattr(transform, "fixed_size", None) is None


def _joined(found: list[tuple[Tensor, Tensor, Tensor]]) -> ImageGroup:
    positions, images, numbers = (torch.cat(one) if len(found) > 1 else one[0] for one in zip(*found, strict=True))
    return ImageGroup(positions, images, numbers[:, :2].long(), numbers[:, 2:])


def _scaled(images: Tensor, transform: Any) -> tuple[Tensor, tuple[int, int]]:
    """``images`` (n, C, h, w) scaled and padded, and how many rows and columns are padding."""
    height, width = images.shape[2:]
    if transform.fixed_size is not None:
        size = (int(transform.fixed_size[1]), int(transform.fixed_size[0]))  # torchvision keeps (width, height)
    else:
        factor = min(transform.min_size[-1] / min(height, width), transform.max_size / max(height, width))
        size = (math.floor(height * factor), math.floor(width * factor))
    if size != (height, width):
        images = F.interpolate(images, size=size, mode="bilinear", align_corners=False)
    padding = (-size[0] % transform.size_divisible, -size[1] % transform.size_divisible)
    if any(padding):
        images = F.pad(images, (0, padding[1], 0, padding[0]))
    return images, padding
