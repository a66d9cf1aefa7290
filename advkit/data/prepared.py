"""Images of any data at one size: pictures in folders, arrays, and images of many sizes alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from advkit.data.canvas import cut_to_size
from advkit.data.decoding import Resize, resize_and_cut
from advkit.data.images import ImageSet, images_per_read


@dataclass(frozen=True)
class PreparedBatch:
    """Images of one size.

    Attributes:
        originals: of each (C, h, w) as it is read, before it is resized.
        images: (N, C', H, W) float32 in [0, 1].
    """

    originals: list[Tensor]
    images: Tensor


def prepared_batches(data: ImageSet, resize: Resize, channels: int, batch_size: int) -> Iterator[PreparedBatch]:
    """All images of ``data``, in order, a few at a time: scaled by the shorter side, with antialiasing, and cut.

    Memory depends on ``batch_size`` and the largest image alone. Grey ones become colour ones for 3 ``channels``.

    Raises:
        InputError: a file that can't be read; a picture that is too thin.
    """
    waiting: list[tuple[Tensor, Tensor]] = []
    step = min(batch_size, images_per_read(data.size))
    for start in range(0, len(data), step):
        pixels, _ = data.batch(slice(start, start + step))
        for image in cut_to_size(pixels, pixels):
            ready = resize_and_cut(image, resize, data.ref)
            waiting.append((image, ready.expand(channels, -1, -1) if len(ready) == 1 else ready))
        while len(waiting) >= batch_size or (waiting and start + step >= len(data)):
            yield _joined(waiting[:batch_size])
            waiting = waiting[batch_size:]


def _joined(images: list[tuple[Tensor, Tensor]]) -> PreparedBatch:
    return PreparedBatch([original for original, _ in images], torch.stack([ready for _, ready in images]))
