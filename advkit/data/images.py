"""A set of labelled images, read a few at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

_CHUNK = 512

Reader = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class ImageSet:
    """Labelled images of one size.

    Attributes:
        ref: the reference they came from.
        split: ``train``, ``test`` or another name; empty when the set has no splits.
        class_names: K names.
        size: (C, H, W).
        labels: (N,) int64 in [0, K).
        indices: (N,) int64: the identity of an image, its position in the whole split it came from.
        rows: (N,) int64, where ``read`` finds it; differs from ``indices`` in a set made from another one.
        read: from rows (M,) to images (M, C, H, W) float32 in [0, 1].
    """

    ref: str
    split: str
    class_names: tuple[str, ...]
    size: tuple[int, int, int]
    labels: Tensor
    indices: Tensor
    rows: Tensor
    read: Reader

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.class_names)

    def batch(self, positions: slice | Tensor) -> tuple[Tensor, Tensor]:
        """Images (M, C, H, W) float32 in [0, 1] and labels (M,) at ``positions`` of this set.

        Raises:
            InputError: a file that can't be decoded.
        """
        return self.read(self.rows[positions]), self.labels[positions]

    def subset(self, positions: Tensor) -> ImageSet:
        """The images at ``positions``, which keep their indices."""
        return replace(self, labels=self.labels[positions], indices=self.indices[positions], rows=self.rows[positions])

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over size, indices, labels and pixels, in order."""
        digest = hashlib.sha256(repr(self.size).encode())
        for start in range(0, len(self), _CHUNK):
            images, labels = self.batch(slice(start, start + _CHUNK))
            digest.update(self.indices[start : start + _CHUNK].numpy().tobytes())
            digest.update(labels.numpy().tobytes())
            digest.update(images.contiguous().numpy().tobytes())
        return digest.hexdigest()


def array_reader(pixels: Callable[[Tensor], Tensor], scale: float) -> Reader:
    """A reader over rows of integers or floats: ``pixels`` maps positions to (M, C, H, W), divided by ``scale``."""

    def read(positions: Tensor) -> Tensor:
        return pixels(positions).to(torch.float32) / scale

    return read
