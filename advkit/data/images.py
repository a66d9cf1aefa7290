"""A set of labelled images, read a few at a time."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from advkit.data.boxes import is_object
from advkit.data.canvas import sizes
from advkit.data.decoding import Resize
from advkit.files.errors import InputError

_BLOCK = 512  # images; part of what the fingerprint means, so it never changes
_READ = 16 << 20  # bytes of float32 pixels read at a time where nobody asked for a batch size

GREY_REPEATED = "grey images, repeated to three channels for models of colour"  # one of the warnings

Reader = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class ImageSet:
    """Labelled images on a canvas of one size.

    Attributes:
        ref: the reference they came from.
        split: ``train``, ``test`` or another name; empty when the set has no splits.
        class_names: K names.
        size: (C, H, W) of the canvas.
        targets: what a task wants to be predicted of each image: (N,) int64 in [0, K) for classification, (N, B, 6)
            float32 for detection (see :mod:`advkit.data.boxes`).
        indices: (N,) int64: the identity of an image, its position in the whole split it came from.
        rows: (N,) int64, where ``read`` finds it; differs from ``indices`` in a set made from another one.
        read: from rows (M,) to images (M, C, H, W) float32 in [0, 1]; NaN right of and below an image that is smaller
            than the canvas (see :mod:`advkit.data.canvas`).
        target_classes: (N,) int64 in [0, K), the class that an attack is to aim at on each image; None where the data
            do not say.
        warnings: what the user must hear of how the data were read, each one line: files left out, conventions taken.
        resize: how pictures of other sizes became ``size``; None for arrays.
        task: what the targets are of (:data:`advkit.tasks.task.TASKS`).
        names: N names of files without suffixes; None for data that are no files.
    """

    ref: str
    split: str
    class_names: tuple[str, ...]
    size: tuple[int, int, int]
    targets: Tensor
    indices: Tensor
    rows: Tensor
    read: Reader
    target_classes: Tensor | None = None
    warnings: tuple[str, ...] = ()
    resize: Resize | None = None
    task: str = "classification"
    names: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def num_classes(self) -> int:
        """K."""
        return len(self.class_names)

    @property
    def is_grey(self) -> bool:
        """Whether there are no colours, be it in three channels."""
        return self.size[0] == 1 or GREY_REPEATED in self.warnings

    def batch(self, positions: slice | Tensor) -> tuple[Tensor, Tensor]:
        """Images (M, C, H, W) float32 in [0, 1] and labels (M,) at ``positions`` of this set.

        Raises:
            InputError: a file that can't be read or decoded.
        """
        try:
            return self.read(self.rows[positions]), self.targets[positions]
        except OSError as error:
            raise InputError(f"{self.ref}: cannot read any more: {error.strerror or error}") from error

    def subset(self, positions: Tensor) -> ImageSet:
        """The images at ``positions``, which keep their indices."""
        return replace(
            self,
            targets=self.targets[positions],
            indices=self.indices[positions],
            rows=self.rows[positions],
            target_classes=None if self.target_classes is None else self.target_classes[positions],
            names=None if self.names is None else tuple(self.names[k] for k in positions.tolist()),
        )

    def origin(self) -> dict[str, str]:
        """Where the images come from, as files that are made of them tell it."""
        return {"ref": self.ref, "split": self.split, "fingerprint": self.fingerprint}

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over size, then indices, labels and pixels of every 512 images, in order.

        Of images of many sizes: over channels, then index, objects, size and pixels of each in order. How many are read
        at once, from which kind of file, and how large canvas and targets are beyond them, makes no difference.
        """
        digest, step = hashlib.sha256(repr(self.size).encode()), images_per_read(self.size)
        if self.task != "classification":
            return self._fingerprint_by_image(step)
        for start in range(0, len(self), _BLOCK):
            stop = min(start + _BLOCK, len(self))
            digest.update(self.indices[start:stop].numpy().tobytes())
            digest.update(self.targets[start:stop].numpy().tobytes())
            for first in range(start, stop, step):
                images, _ = self.batch(slice(first, min(first + step, stop)))
                digest.update(images.contiguous().numpy().tobytes())
        return digest.hexdigest()

    def _fingerprint_by_image(self, step: int) -> str:
        digest = hashlib.sha256(f"{self.task} {self.size[0]}".encode())
        for start in range(0, len(self), step):
            images, targets = self.batch(slice(start, start + step))
            indices = self.indices[start : start + step]
            for index, image, rows, (height, width) in zip(
                indices, images, targets, sizes(images).tolist(), strict=True
            ):
                found = rows[is_object(rows)]
                digest.update(torch.tensor([int(index), len(found), height, width]).numpy().tobytes())
                digest.update(found.contiguous().numpy().tobytes())
                digest.update(image[:, :height, :width].contiguous().numpy().tobytes())
        return digest.hexdigest()


def images_per_read(size: tuple[int, int, int]) -> int:
    """How many images of ``size`` (C, H, W) to read at once, so that memory stays flat however large they are."""
    return max(1, _READ // (4 * math.prod(size)))


def array_reader(pixels: Callable[[Tensor], Tensor], scale: float) -> Reader:
    """A reader over rows of integers or floats: ``pixels`` maps positions to (M, C, H, W), divided by ``scale``."""

    def read(positions: Tensor) -> Tensor:
        return (pixels(positions).to(torch.float32) / scale).clamp_(0.0, 1.0)  # beyond by a rounding at most

    return read
