"""Images that stand in two sets, pixel for pixel."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from advkit.data.canvas import sizes
from advkit.data.images import ImageSet, images_per_read


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
