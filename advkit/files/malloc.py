"""Memory that a long computation frees and takes again."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # names of glibc's <malloc.h>


def tune_malloc() -> None:
    """Let the C library keep what is freed, where it is glibc.

    Large blocks go back to the system at once otherwise, and every step of a training takes them anew, page by page:
    a tenth of a small network's time. What was the most at any time stays taken.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)
