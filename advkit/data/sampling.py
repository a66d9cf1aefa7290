"""Which images: seeded, stratified, independent of order."""

from __future__ import annotations

import torch
from torch import Tensor


def stratified(strata: Tensor, count: int, seed: int) -> Tensor:
    """Positions (sorted) of ``count`` images whose strata keep their proportions, to the nearest image.

    Seats are shared out by largest remainder; within a stratum images are drawn without replacement.

    Args:
        strata: (N,) int64 from 0, the kind of each image.
        count: images wanted; all, in order, when N or more.
        seed: of the draw.
    """
    total = len(strata)
    if count >= total:
        return torch.arange(total)
    sizes = torch.bincount(strata)
    exact = sizes.double() * count / total
    seats = exact.floor().long()
    missing = count - int(seats.sum())
    remainder = (exact - seats).masked_fill(seats >= sizes, -1.0)
    seats[remainder.argsort(descending=True, stable=True)[:missing]] += 1
    chosen = []
    for stratum, wanted in enumerate(seats.tolist()):
        where = (strata == stratum).nonzero().squeeze(1)
        generator = torch.Generator().manual_seed((seed * 1_000_003 + stratum) & (2**63 - 1))
        chosen.append(where[torch.randperm(len(where), generator=generator)[:wanted]])
    return torch.cat(chosen).sort().values


def hold_out(strata: Tensor, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Split positions into a training and a validation part, both sorted, strata in proportion.

    Args:
        strata: (N,) int64 from 0, the kind of each image.
        fraction: part to hold out, in [0, 1); when positive, at least one image of several, never all.
        seed: of the draw, independent of :func:`stratified`'s.

    Raises:
        ValueError: ``fraction`` outside [0, 1).
    """
    if not 0 <= fraction < 1:
        raise ValueError(f"fraction {fraction} is not in [0, 1)")
    count = min(max(1, round(fraction * len(strata))), len(strata) - 1) if fraction > 0 else 0
    held = stratified(strata, count, seed ^ 0x5EED) if count > 0 else torch.empty(0, dtype=torch.int64)
    mask = torch.ones(len(strata), dtype=torch.bool)
    mask[held] = False
    return mask.nonzero().squeeze(1), held
