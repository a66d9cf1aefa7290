"""Images that stand in two sets, pixel for pixel."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator

import torch
from torch import Tensor

from advkit.data.canvas import sizes
from advkit.data.images import ImageSet, images_per_read
from advkit.files.errors import InputError


def digests(images: ImageSet) -> Iterator[bytes]:
    """A hash of each image's pixels, without what its canvas has beyond it."""
    step = images_per_read(images.size)
    for start in range(0, len(images), step):
        pixels, _ = images.batch(slice(start, start + step))
        for image, (height, width) in zip(pixels, sizes(pixels).tolist(), strict=True):
            part = image[:, :height, :width].contiguous()
            yield hashlib.sha256(repr(tuple(part.shape)).encode() + part.numpy().tobytes()).digest()


def images_in_both(first: ImageSet, second: ImageSet) -> int:
    """How many images of ``second`` are in ``first``."""
    known = set(digests(first))
    return sum(digest in known for digest in digests(second))


def positions_of(wanted: ImageSet, images: ImageSet) -> Tensor:
    """(N,) int64: where in ``images`` those of ``wanted`` stand, in the order of ``wanted``.

    Two sets of the same files may be in different orders, and one of them may hold more. Of images that are equal pixel
    for pixel the first of ``wanted`` is the first of ``images``, and so on.

    Raises:
        InputError: some are not there.
    """
    places: dict[bytes, list[int]] = defaultdict(list)
    for position, digest in enumerate(digests(images)):
        places[digest].append(position)
    for found in places.values():
        found.reverse()
    positions = [places[digest].pop() if places.get(digest) else -1 for digest in digests(wanted)]
    if missing := positions.count(-1):
        raise InputError(
            f"{images.ref}: has labels of {len(wanted) - missing} of the {len(wanted)} images adapted to; "
            "leave --target-labels out, or the others away"
        )
    return torch.tensor(positions)
