"""A command line run inside the process of the tests."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path

from advkit.files.signals import raise_on_stop_signals


@contextlib.contextmanager
def single_threaded() -> Iterator[None]:
    """What a run of the tool sets in this process is undone at the end of the block."""
    import torch

    threads = torch.get_num_threads()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        raise_on_stop_signals()  # which also forgets a signal that came
        for number, handler in handlers.items():
            signal.signal(number, handler)


def run_tool(*arguments: str | Path) -> int:
    """The exit status of ``advkit ARGUMENTS`` in this process."""
    from advkit.commands.app import run

    return run([str(argument) for argument in arguments])
