"""Augmentation of images with boxes: both move together, and what is drawn belongs to (seed, epoch, image)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from advkit.data import boxes, canvas, counter_rng
from advkit.data.photometric import photometric

KINDS = ("crop", "scale-jitter", "flip", "cutout", "photometric")
WINDOWS = {"crop": (0.5, 1.25), "scale-jitter": (0.4, 1.8)}  # their sides, in sides of the image
LEAST_SEEN = 0.3  # of an object's area; of one that is seen less nothing is asked
_SMALLEST = 1.0  # pixel, of a side


def augmented(
    images: Tensor, targets: Tensor, indices: Tensor, kinds: frozenset[str], seed: int, epoch: int
) -> tuple[Tensor, Tensor]:
    """Copies of ``images`` that are cut, mirrored, recoloured and masked at random, with their boxes moved along.

    Args:
        images: (N, C, H, W) float in [0, 1], on their canvas; each keeps its size.
        targets: (N, B, 6), see :mod:`advkit.data.boxes`. An object of which less than 0.3 is left becomes difficult.
        indices: (N,) int64, identities of the images.
        kinds: subset of :data:`KINDS`. ``crop`` shows a window of 0.5 to 1.25 of the image's sides, anywhere in it and
            black beyond it, at the image's size; ``scale-jitter`` one of 0.4 to 1.8 (after Ghiasi et al. 2021);
            ``flip`` mirrors half of the images; ``cutout`` blackens a square of a quarter of the shorter side;
            ``photometric`` changes their colours.
        seed, epoch: of the run.
    """
    if not kinds:
        return images, targets
    drawn = counter_rng.uniform(seed, indices, counter_rng.stream("augment", epoch), 9)
    extent = canvas.sizes(images).flip(1).to(images.dtype)  # (N, 2): width, height
    side = torch.ones_like(drawn[:, :1])
    start = torch.zeros_like(extent)
    if "photometric" in kinds:
        images = photometric(images, drawn[:, 6:9])
    for name in [name for name in WINDOWS if name in kinds]:
        low, high = WINDOWS[name]
        side = low + (high - low) * drawn[:, 1:2]
        start = (1.0 - side) * drawn[:, 2:4] * extent
    mirrored = (drawn[:, 0] < 0.5) & ("flip" in kinds)
    images = _resampled(images, extent, side, start, mirrored)
    targets = _moved(targets, extent, side, start, mirrored)
    if "cutout" in kinds:
        images = _cut(images, extent, drawn[:, 4:6])
    return images, targets


def _resampled(images: Tensor, extent: Tensor, side: Tensor, start: Tensor, mirrored: Tensor) -> Tensor:
    """The windows of ``images`` at the images' own sizes, bilinear, black beyond the images."""
    height, width = images.shape[2:]
    x = torch.arange(width, dtype=images.dtype, device=images.device) + 0.5
    y = torch.arange(height, dtype=images.dtype, device=images.device) + 0.5
    x = torch.where(mirrored[:, None], extent[:, :1] - x, x)  # (N, W), pixels of the result
    seen_x, seen_y = start[:, :1] + side * x, start[:, 1:] + side * y  # pixels of the image
    across = (seen_x * (2.0 / width) - 1.0)[:, None, :].expand(-1, height, -1)
    down = (seen_y * (2.0 / height) - 1.0)[:, :, None].expand(-1, -1, width)
    grid = torch.stack([across, down], 3)
    there = canvas.is_pixel(images)
    inner = F.grid_sample(torch.where(there, images, 0.0), grid, padding_mode="zeros", align_corners=False)
    return torch.where(there, inner.clamp(0.0, 1.0), canvas.NOWHERE)


def _moved(targets: Tensor, extent: Tensor, side: Tensor, start: Tensor, mirrored: Tensor) -> Tensor:
    """``targets`` in the windows, cut at their edges; what is hardly left is difficult, or no object if it is gone."""
    corners = (targets[..., :4].reshape(*targets.shape[:2], 2, 2) - start[:, None, None]) / side[:, None, None]
    flipped = corners.clone()
    flipped[..., 0] = extent[:, None, :1] - corners[..., 0].flip(2)
    corners = torch.where(mirrored[:, None, None, None], flipped, corners)
    whole = (corners[:, :, 1] - corners[:, :, 0]).prod(2)
    seen = torch.minimum(corners.clamp_min(0.0), extent[:, None, None])
    sides = seen[:, :, 1] - seen[:, :, 0]
    result = targets.clone()
    result[..., :4] = seen.flatten(2)
    hardly = sides.prod(2) < LEAST_SEEN * whole
    result[..., boxes.DIFFICULT] = torch.where(hardly, 1.0, targets[..., boxes.DIFFICULT])
    gone = (sides < _SMALLEST).any(2)
    result[..., boxes.LABEL] = torch.where(gone, boxes.NO_OBJECT, targets[..., boxes.LABEL])
    return result


def _cut(images: Tensor, extent: Tensor, where: Tensor) -> Tensor:
    """``images`` with a black square of a quarter of the shorter side around ``where`` (N, 2) in [0, 1)."""
    half = extent.amin(1)[:, None] / 8
    centre = where * extent
    x = torch.arange(images.shape[3], device=images.device) + 0.5
    y = torch.arange(images.shape[2], device=images.device) + 0.5
    across, down = (x - centre[:, :1]).abs() < half, (y - centre[:, 1:]).abs() < half
    square = (down[:, :, None] & across[:, None, :]).unsqueeze(1) & canvas.is_pixel(images)
    return torch.where(square, 0.0, images)
