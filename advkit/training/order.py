"""What belongs to the place in a run alone: the order of the images, and what dropout draws from."""

from __future__ import annotations

import torch
from torch import Tensor

from advkit.data import counter_rng


def epoch_order(count: int, seed: int, epoch: int) -> Tensor:
    """The permutation of ``count`` images in ``epoch``: a function of seed and epoch alone."""
    generator = torch.Generator().manual_seed((seed * 1_000_003 + epoch) & (2**63 - 1))
    return torch.randperm(count, generator=generator)


def dropout_seed(seed: int, number: int, rank: int) -> int:
    """What dropout masks are drawn from: a function of the run's seed, the step and the rank alone.

    Ranks have masks of their own: one mask on all would drop the same units for every share of the batch.
    """
    if rank:
        return counter_rng.stream("dropout", seed, number, rank)
    return (seed * 7_368_787 + number) & (2**63 - 1)
