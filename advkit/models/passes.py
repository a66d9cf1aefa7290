"""Passes of many images: as many together as asked for, or as memory holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from advkit.files.errors import SingleImageError, is_out_of_memory
from advkit.files.streams import say

T = TypeVar("T")
_room: list[int] = []  # how many images a pass of this process may take, once memory has ended at more


def in_parts(run: Callable[[slice], T], count: int, at_once: int | None = None) -> tuple[list[T], list[int]]:
    """What ``run`` returns for each part of ``count`` images, and how many images each part has.

    A part is ``at_once`` images, by default all, or the rest; without any image there is one part.

    Where memory ends, the same images go on in halves, and no later pass of this process takes more; stderr says so.

    Raises:
        MemoryError: it ends at a single image.
    """
    found: list[T] = []
    sizes: list[int] = []
    start, most = 0, at_once or max(1, count)
    while start < count or not found:
        stop = min(start + min([most, *_room]), count)
        try:
            found.append(run(slice(start, stop)))
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            if stop - start <= 1:
                raise SingleImageError from error
        else:
            sizes.append(stop - start)
            start = stop
            continue
        _halve(stop - start)  # out of reach of the exception, which holds on to what the pass had made
    return found, sizes


def _halve(size: int) -> None:
    _room[:] = [size // 2]
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    say(f"advkit: memory ends at {size} images in a pass; going on with {size // 2}")
