"""The process with the libraries, which forks: ``python forkserver.py DESCRIPTOR`` (see :mod:`preloaded`)."""

from __future__ import annotations

import array
import atexit
import contextlib
import ctypes
import fcntl
import gc
import importlib
import io
import json
import os
import runpy
import signal
import socket
import sys
import time
from collections.abc import Sequence
from multiprocessing import util
from pathlib import Path
from typing import Any

LIBRARIES = {"numpy.random", "safetensors.torch", "torch", "typer", "pydantic.json_schema", "pydantic.type_adapter"}
LIBRARIES |= {"rich.console", "rich.live", "rich.progress", "rich.table", "PIL.Image", "matplotlib.figure"}
LIBRARIES |= {"matplotlib.backends.backend_agg", "torch._dynamo"}  # which torch's optimizers import at their first step
# Read while the program runs. A difference in any other variable asks for a fresh process.
LATE = {"ADVKIT_DEBUG", "COLUMNS", "FORCE_COLOR", "NO_COLOR", "PYTEST_CURRENT_TEST", "RANK", "SCRIPTED_PAUSE", "TERM"}
LATE |= {"WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "SCRIPTED_FAILURE"}
LATE |= {"TORCHELASTIC_USE_AGENT_STORE"}
LARGEST = 1 << 17  # bytes of a request
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h


def fork(line: socket.socket, request: dict[str, Any], descriptors: Sequence[int]) -> int:
    """The number of a new process, a child of this one."""
    # An orphan falls to its nearest living ancestor that is a "subreaper": to this process, for as long as it takes.
    # Not for longer, or orphans of other processes would stay here as zombies.
    libc = ctypes.CDLL(None)
    blocked = [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ())]
    request |= {"blocked": blocked, "interrupts": signal.getsignal(signal.SIGINT) != signal.SIG_IGN}
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        socket.send_fds(line, [json.dumps(request).encode()], descriptors)
        return int(line.recv(LARGEST))
    finally:
        libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def serve(line: socket.socket) -> tuple[dict[str, Any], array.array[int]]:
    """Answer requests until pytest is gone; returns, in each fork alone, the request and its descriptors."""
    while True:
        request, descriptors, _, _ = socket.recv_fds(line, LARGEST, 16)
        if not request:
            os._exit(0)
        reading, writing = os.pipe()
        middle = os.fork()
        if middle == 0:
            middle = os.getpid()
            if os.fork():
                os._exit(0)  # which makes an orphan of the other
            while os.getppid() == middle:
                time.sleep(1e-4)
            asked = json.loads(request)
            if asked["session"]:
                os.setsid()
            signal.pthread_sigmask(signal.SIG_SETMASK, asked["blocked"])
            if asked["interrupts"]:
                signal.signal(signal.SIGINT, signal.default_int_handler)
            os.write(writing, str(os.getpid()).encode())  # from here on it may be sent signals
            return asked, array.array("i", descriptors)
        os.close(writing)
        os.waitpid(middle, 0)
        line.send(os.read(reading, 32))
        for descriptor in (reading, *descriptors):
            os.close(descriptor)


def become(request: dict[str, Any], descriptors: array.array[int]) -> None:
    """Give this fork what a process is born with, and run its program."""
    above = max(request["descriptors"]) + 1
    moved = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, above) for descriptor in descriptors]
    for number, descriptor in zip(request["descriptors"], moved, strict=True):
        os.dup2(descriptor, number)
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in request["descriptors"]:
            with contextlib.suppress(OSError):  # that of the listing itself
                os.close(int(name))
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.stdin = sys.__stdin__ = _stream(0, sys.__stdin__)
    sys.stdout = sys.__stdout__ = _stream(1, sys.__stdout__)
    sys.stderr = sys.__stderr__ = _stream(2, sys.__stderr__)
    sys.modules["numpy"].random.seed()  # or all forks would draw the same
    if request["workers"]:
        _fork_workers()
    first, *rest = request["words"]
    if first == "-c":
        sys.argv = ["-c", *rest[1:]]
        exec(rest[0], sys.modules["__main__"].__dict__)
    elif first == "-m":
        sys.path[0], sys.argv = os.getcwd(), rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.path[0], sys.argv = str(Path(first).parent), request["words"]
        runpy.run_path(first, run_name="__main__")


def _fork_workers() -> None:
    """Let multiprocessing's spawn ask for a fork, from a server of this process's own: a worker is its child."""
    line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    environment, spawn = dict(os.environ), util.spawnv_passfds
    if os.fork() == 0:
        line.close()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with open(os.devnull, "r+b") as nothing:
            for number in range(3):
                os.dup2(nothing.fileno(), number)
        become(*serve(socket.socket(fileno=theirs.detach())))
        sys.exit()
    theirs.close()

    def forked(path: bytes, words: list[str], descriptors: Sequence[int]) -> int:
        changed = {name for name, _ in os.environ.items() ^ environment.items()}
        if "--multiprocessing-fork" not in words or changed - {*LATE, "MPLBACKEND", "OMP_WAIT_POLICY"}:
            return int(spawn(path, words, descriptors))
        here = [0, 1, 2, *descriptors]
        request = {
            "words": words[words.index("-c") :],
            "cwd": os.getcwd(),
            "env": dict(os.environ),
            "session": False,
            "workers": False,
            "descriptors": here,
        }
        return fork(line, request, here)

    util.spawnv_passfds = forked


_status: list[int] = []


def _leave() -> None:
    """End a fork that leaves with a number, after all other exit handlers.

    The interpreter would write out the two streams too, and then take a thousand modules apart one by one, of which
    nothing is seen outside but that it takes as long as the rest of a short run.
    """
    if _status:
        with contextlib.suppress(OSError, ValueError):  # it will be met, and told, by the interpreter once more
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(_status[0])


def _stream(descriptor: int, like: Any) -> io.TextIOWrapper:
    """A standard stream as the interpreter opens it (CPython's create_stdio); ``like`` is that of this process."""
    unbuffered = like.write_through  # by PYTHONUNBUFFERED
    file: Any = open(descriptor, f"{like.mode}b", 0 if unbuffered and descriptor else -1, closefd=False)  # noqa: SIM115
    getattr(file, "raw", file).name = like.name
    lines = not unbuffered and (descriptor == 2 or file.isatty())
    stream: Any = io.TextIOWrapper(file, like.encoding, like.errors, "\n", lines, unbuffered)
    stream.mode = like.mode
    return stream


if __name__ == "__main__":
    atexit.register(_leave)  # the first to be registered is the last to be called
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for pytest
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    for _library in sorted(LIBRARIES):
        importlib.import_module(_library)
    gc.freeze()  # forks share these pages for as long as nobody writes there
    try:
        become(*serve(socket.socket(fileno=int(sys.argv[1]))))
    except SystemExit as _end:
        if isinstance(_end.code, int | None):
            _status.append((_end.code or 0) & 0xFF)
        raise
    _status.append(0)
