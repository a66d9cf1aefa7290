"""SSA: views of the image with its spectrum changed at random (Long et al. 2022)."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from advkit.attacks.attack import Modifier
from advkit.data import counter_rng


def cosine_matrix(side: int, like: Tensor) -> Tensor:
    """(side, side): the orthonormal discrete cosine transform; its rows are the frequencies."""
    return _cosine_matrix(side, like.device, like.dtype)


@functools.lru_cache(maxsize=16)
def _cosine_matrix(side: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    place = torch.arange(side, dtype=torch.float64)
    found = torch.cos(math.pi * (2 * place[None] + 1) * place[:, None] / (2 * side)) * math.sqrt(2 / side)
    found[0] /= math.sqrt(2)
    return found.to(device=device, dtype=dtype)


def spectrum(
    images: Tensor,
    indices: Tensor,
    seed: int,
    stream: int,
    *,
    views: int = 20,
    sigma: float = 16 / 255,
    rho: float = 0.5,
) -> Tensor:
    """``images`` (N, C, H, W) plus normal noise of ``sigma``, each of their frequencies times 1 - rho to 1 + rho.

    Gradients are averaged over ``views`` of them.
    """
    size, (height, width) = images[0].numel(), images.shape[-2:]
    noise = counter_rng.normal(seed, indices, stream, size).view_as(images)
    mask = counter_rng.uniform(seed, indices, counter_rng.stream("ssa mask", stream), size).view_as(images)
    down, across = cosine_matrix(height, images), cosine_matrix(width, images)
    frequencies = down @ (images + sigma * noise.to(images.dtype)) @ across.T
    return down.T @ (frequencies * (1.0 + rho * (2.0 * mask.to(images.dtype) - 1.0))) @ across


SSA = Modifier(
    "ssa",
    "gradients averaged over views with another spectrum (Long et al. 2022)",
    spectrum,
    {"views": (1, 1000), "sigma": (0.0, 1.0), "rho": (0.0, 1.0)},
    "view",
    copies="views",
)
