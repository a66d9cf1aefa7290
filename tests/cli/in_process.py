"""A command line run inside the process of the tests."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def single_threaded() -> Iterator[None]:
    """What a run of the tool sets in this process is undone at the end of the block."""
    import torch

    threads, handler = torch.get_num_threads(), signal.getsignal(signal.SIGTERM)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        signal.signal(signal.SIGTERM, handler)


def run_tool(*arguments: str | Path) -> int:
    """The exit status of ``advkit ARGUMENTS`` in this process."""
    from advkit.commands.app import run

    return run([str(argument) for argument in arguments])
