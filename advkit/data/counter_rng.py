"""Random numbers that belong to an image, not to a batch.

A counter-based generator (SplitMix64, Steele et al. 2014) hashes (seed, image index, stream, element). The same image
therefore sees the same randomness whatever the batch size, the order, the worker or the device.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

_GAMMA = 0x9E3779B97F4A7C15 - 2**64
_MIX_1 = 0xBF58476D1CE4E5B9 - 2**64
_MIX_2 = 0x94D049BB133111EB - 2**64


def _shifted(x: Tensor, bits: int) -> Tensor:
    return (x >> bits) & ((1 << (64 - bits)) - 1)  # logical, not arithmetic


def _mixed(x: Tensor) -> Tensor:
    x = (x ^ _shifted(x, 30)) * _MIX_1
    x = (x ^ _shifted(x, 27)) * _MIX_2
    return x ^ _shifted(x, 31)


def _wrapped(value: int) -> int:
    return (value + 2**63) % 2**64 - 2**63  # into the range of int64


def stream(purpose: str, *numbers: int) -> int:
    """The random stream of one use: pass it as ``stream`` below, or as a seed of a whole part of a run.

    Streams that are counted by hand meet: one use's epoch is another's restart. A hash (BLAKE2b, 64 bits) of the
    purpose's name and its numbers keeps every two apart.

    Args:
        purpose: what the numbers are for, in words that no other use has.
        numbers: which of its draws: epoch, restart, step, copy ...

    Returns:
        an integer in [0, 2^64).
    """
    text = ":".join([purpose, *map(str, map(int, numbers))])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def streams(purpose: str, numbers: Iterable[Sequence[int]]) -> Tensor:
    """(N,) int64: the :func:`stream` of each of N draws, for functions below that take one for each image."""
    return torch.tensor([_wrapped(stream(purpose, *one)) for one in numbers], dtype=torch.int64)


def uniform(seed: int, indices: Tensor, stream: int | Tensor, count: int) -> Tensor:
    """Uniform numbers in [0, 1) with 24 bits, ``count`` for each image.

    Args:
        seed: the run's seed, any integer.
        indices: (N,) int64, identities of the images in their data set.
        stream: separates independent uses, see :func:`stream`; (N,) of :func:`streams` give each image its own.
        count: numbers wanted for each image.

    Returns:
        (N, count) float32 on the device of ``indices``.
    """
    key = torch.full_like(indices, _wrapped(seed * 2 + 1))
    key = _mixed(_mixed(key) + (indices + 1) * _GAMMA)
    key = _mixed(key + (_wrapped((stream + 1) * _GAMMA) if isinstance(stream, int) else (stream + 1) * _GAMMA))
    counter = torch.arange(1, count + 1, device=indices.device, dtype=torch.int64)
    return _shifted(_mixed(key[:, None] + counter * _GAMMA), 40).to(torch.float32) * 2.0**-24


def signs(seed: int, indices: Tensor, stream: int | Tensor, count: int) -> Tensor:
    """Fair signs, (N, count) float32 of -1 and 1; arguments as :func:`uniform`."""
    return torch.where(uniform(seed, indices, stream, count) < 0.5, -1.0, 1.0)


def normal(seed: int, indices: Tensor, stream: int | Tensor, count: int) -> Tensor:
    """Standard normal numbers, (N, count) float32 (Box and Muller 1958); arguments as :func:`uniform`."""
    both = uniform(seed, indices, stream, 2 * count)
    radius = (-2.0 * torch.log1p(-both[:, :count])).sqrt()
    return radius * torch.cos(2.0 * math.pi * both[:, count:])


def laplace(seed: int, indices: Tensor, stream: int | Tensor, count: int) -> Tensor:
    """Laplace numbers of scale 1, (N, count) float32: exponential, of either sign; arguments as :func:`uniform`."""
    both = uniform(seed, indices, stream, count) * 2.0 - 1.0
    return -both.sign() * torch.log1p(-both.abs().clamp_max(1.0 - 2.0**-24))
