"""What the workers of these tests do: module-level functions, as an engine wants them."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from advkit.files.errors import InputError


def begin(state: Any = None) -> Any:
    """A worker's state."""
    return state


def begin_badly(how: str, folder: str) -> None:
    """Leave a trace, then fail."""
    Path(folder, f"{time.time_ns()}-{os.getpid()}").touch()
    misbehave(how)


def add(state: int, item: int) -> int:
    """State and item."""
    return state + item


def numbers(state: None, item: int) -> tuple[bytes, int]:
    """The bits of a sum and of a step of training, and who computed them."""
    import torch

    draw = torch.Generator().manual_seed(item)
    net = torch.nn.Conv2d(3, 8, 3)
    for parameter in net.parameters():
        parameter.data = torch.randn(parameter.shape, generator=draw)
    images = torch.randn(16, 3, 24, 24, generator=draw)
    net(images).square().mean().backward()
    found = [parameter.grad.flatten() for parameter in net.parameters()]
    found.append(torch.randn(100_000, generator=draw).sum()[None])
    return torch.cat(found).numpy().tobytes(), os.getpid()


def threads(state: None, item: str) -> tuple[str, int]:
    """What numerical libraries are told, before torch comes and after."""
    before = os.environ["OMP_NUM_THREADS"]
    import torch

    return before, torch.get_num_threads()


def misbehave(how: str) -> None:
    """One way of failing."""
    match how:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "segfault":
            ctypes.string_at(0)
        case "exit":
            sys.exit(3)
        case "hang":
            time.sleep(600)
        case "raise":
            raise ValueError("two\n  lines")
        case "memory":
            bytearray(2**62)
        case "torch memory":
            import torch

            torch.empty(2**55)
        case "input":
            raise InputError("photo.png: no picture; give another")


def chore(state: Any, item: tuple[str, str] | str) -> Any:
    """Misbehave always, or only while a marker file is missing; else say who did the work.

    Args:
        item: how, or how and the marker file.
    """
    how, marker = (item, None) if isinstance(item, str) else item
    if marker is None:
        misbehave(how)
    elif not Path(marker).exists():
        Path(marker).touch()
        misbehave(how)
    if how == "lambda":
        return lambda: None
    if how == "print":
        print("chatter")
    return how, os.getpid()


def meet(folder: str, on_ray: bool) -> str:
    """Wait until another worker, on another node if on Ray, is at work too; returns the working directory."""
    place = str(os.getpid())
    if on_ray:
        import ray

        place = ray.get_runtime_context().get_node_id()
    Path(folder, place).touch()
    deadline = time.monotonic() + 60
    while len(list(Path(folder).iterdir())) < 2:
        if time.monotonic() > deadline:
            raise TimeoutError("nobody came")
        time.sleep(0.02)
    return os.getcwd()


def count(folder: str, item: str) -> None:
    """Leave a trace of this attempt, then fail."""
    Path(folder, f"{item}-{time.time_ns()}").touch()
    misbehave("raise")


def sign_in(folder: str, item: int) -> None:
    """Leave this process's id, then work for a long time."""
    Path(folder, str(os.getpid())).touch()
    time.sleep(600)
