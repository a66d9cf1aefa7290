"""Augmentation whose randomness belongs to (seed, epoch, image), so that no worker or batch changes it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from advkit.data import counter_rng
from advkit.data.photometric import photometric

KINDS = ("crop", "flip", "cutout", "photometric")


def augmented(images: Tensor, indices: Tensor, kinds: frozenset[str], seed: int, epoch: int) -> Tensor:
    """A randomly moved, mirrored, recoloured and masked copy of ``images``.

    Args:
        images: (N, C, H, W) float in [0, 1].
        indices: (N,) int64, identities of the images.
        kinds: subset of :data:`KINDS`. ``crop`` pads by an eighth of the side with black and cuts at random;
            ``flip`` mirrors half of the images; ``cutout`` blackens a square of half the side (DeVries and Taylor
            2017) whose centre is anywhere; ``photometric`` changes their colours.
        seed, epoch: of the run.
    """
    if not kinds:
        return images
    height, width = images.shape[-2:]
    drawn = counter_rng.uniform(seed, indices, counter_rng.stream("augment", epoch), 8)
    if "photometric" in kinds:
        images = photometric(images, drawn[:, 5:8])
    rows = torch.arange(height, device=images.device).expand(len(images), -1)
    columns = torch.arange(width, device=images.device).expand(len(images), -1)
    if "flip" in kinds:
        mirrored = (drawn[:, 0] < 0.5)[:, None]
        columns = torch.where(mirrored, width - 1 - columns, columns)
    if "crop" in kinds:
        pad_y, pad_x = max(1, height // 8), max(1, width // 8)
        images = F.pad(images, (pad_x, pad_x, pad_y, pad_y))
        rows = rows + (drawn[:, 1:2] * (2 * pad_y + 1)).long()
        columns = columns + (drawn[:, 2:3] * (2 * pad_x + 1)).long()
    if kinds & {"flip", "crop"}:
        image = torch.arange(len(images), device=images.device)[:, None, None]
        images = images.permute(0, 2, 3, 1)[image, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    if "cutout" in kinds:
        images = images * ~_square(height, width, drawn[:, 3], drawn[:, 4])
    return images


def _square(height: int, width: int, y: Tensor, x: Tensor) -> Tensor:
    """(N, 1, H, W) bool: the cut-out square."""

    def axis(side: int, where: Tensor) -> Tensor:
        start = (where * side).long()[:, None] - side // 4
        pixel = torch.arange(side, device=where.device)
        return (pixel >= start) & (pixel < start + side // 2)

    return (axis(height, y)[:, :, None] & axis(width, x)[:, None, :]).unsqueeze(1)
