"""Processes that need not import the libraries again: on Linux, forks of one that has them already.

``import torch`` takes two to four seconds, most of what a short run of the executable takes. So one process for each
of pytest's own, started when it is first needed, imports third-party libraries, does nothing with them, and forks for
each :class:`Process`. The fork gets descriptors, directory, environment, session and signal handlers as ``exec`` would
give them, and runs its program as ``python`` does, up to the interpreter's own end. It is a child of pytest: it is
waited for, killed and reported as any other.

Not for what is decided at the birth of a process: which modules are imported, what the libraries read from the
environment while they are imported, closed or inherited descriptors, equal bytes of two processes (forks share the seed
of :func:`hash`). Ask for ``fresh=True`` there (see :func:`executable.start`); an environment or an option that a fork
could not honour gets a fresh process by itself.
"""

from __future__ import annotations

import array
import atexit
import contextlib
import ctypes
import gc
import importlib
import inspect
import io
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

LIBRARIES = (
    *(
        "numpy.random",
        "pydantic.json_schema",
        "pydantic.type_adapter",
        "rich.console",
        "rich.live",
        "rich.progress",
        "rich.table",
        "safetensors.torch",
    ),
    *("torch", "torch._dynamo", "typer", "PIL.Image", "matplotlib.figure", "matplotlib.backends.backend_agg"),
)  # torch's optimizers import torch._dynamo at their first step
# Read while the program runs. A difference in any other variable asks for a fresh process.
LATE = {"ADVKIT_DEBUG", "COLUMNS", "FORCE_COLOR", "NO_COLOR", "PYTEST_CURRENT_TEST", "RANK", "SCRIPTED_PAUSE", "TERM"}
LATE |= {"WORLD_SIZE"}
# Options of subprocess.Popen, by their defaults, that a fork does not honour otherwise.
PLAIN = {"executable": None, "preexec_fn": None, "close_fds": True, "pass_fds": (), "shell": False}
PLAIN |= {"restore_signals": True, "gid": None, "gids": None, "uid": None, "umask": -1, "process_group": -1}
LARGEST = 1 << 17  # bytes of a request
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h


class Process(subprocess.Popen[str]):
    """``subprocess.Popen(words, ...)`` of a Python program: ``(sys.executable, "-m", MODULE or SCRIPT, ...)``."""

    def _execute_child(self, *values: Any) -> None:
        given = inspect.signature(subprocess.Popen._execute_child).bind(self, *values).arguments
        if not _is_for_a_fork(given):
            super()._execute_child(*values)
            return
        self.pid = _forkserver().fork(
            given["args"],
            os.fspath(given["cwd"] or os.getcwd()),
            given["env"],
            given["start_new_session"],
            [given[name] if given[name] != -1 else k for k, name in enumerate(("p2cread", "c2pwrite", "errwrite"))],
        )
        self._child_created = True
        names = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
        self._close_pipe_fds(*(given[name] for name in names))


def _is_for_a_fork(given: dict[str, Any]) -> bool:
    if sys.platform != "linux" or given["args"][0] != sys.executable or given["env"] is None:
        return False
    if any(name in given and given[name] != default for name, default in PLAIN.items()):
        return False
    server = _forkserver()
    differing = {name for name, _ in given["env"].items() ^ server.environment.items()}
    return differing <= LATE and server.owner == os.getpid()


class _Forkserver:
    """The other end of :func:`serve`."""

    def __init__(self) -> None:
        from executable import environment

        self.owner, self.environment = os.getpid(), environment()
        self._line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # As the executable sets them before it imports a library, unless the user does.
        more = {"OMP_WAIT_POLICY": self.environment.get("OMP_WAIT_POLICY", "passive"), "MPLBACKEND": "Agg"}
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=self.environment | more,
                cwd="/",
                pass_fds=[theirs.fileno()],
            )
        atexit.register(self.close)

    def fork(self, words: list[str], cwd: str, env: dict[str, str], session: bool, descriptors: list[int]) -> int:
        """The number of a new process, a child of this one."""
        libc = ctypes.CDLL(None)
        request = json.dumps({"words": words[1:], "cwd": cwd, "env": env, "session": session}).encode()
        # An orphan falls to its nearest living ancestor that is a "subreaper": to this process, for as long as it
        # takes. Not for longer, or orphans of other processes would stay here as zombies.
        libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        try:
            socket.send_fds(self._line, [request], descriptors)
            return int(self._line.recv(LARGEST))
        finally:
            libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)

    def close(self) -> None:
        """End it."""
        if os.getpid() == self.owner:
            self._line.close()
            self._process.wait()


_servers: list[_Forkserver] = []


def _forkserver() -> _Forkserver:
    if not _servers:
        _servers.append(_Forkserver())
    return _servers[0]


def serve(line: socket.socket) -> tuple[dict[str, Any], array.array[int]]:
    """Answer requests until pytest is gone; returns, in each fork alone, the request and its descriptors."""
    while True:
        request, descriptors, _, _ = socket.recv_fds(line, LARGEST, 3)
        if not request:
            os._exit(0)
        reading, writing = os.pipe()
        middle = os.fork()
        if middle == 0:
            middle = os.getpid()
            if child := os.fork():
                os.write(writing, str(child).encode())
                os._exit(0)  # which makes an orphan of the child
            while os.getppid() == middle:
                time.sleep(1e-4)
            return json.loads(request), array.array("i", descriptors)
        os.waitpid(middle, 0)
        line.send(os.read(reading, 32))
        for descriptor in (reading, writing, *descriptors):
            os.close(descriptor)


def become(request: dict[str, Any], descriptors: array.array[int]) -> None:
    """Give this fork what a process is born with, and run its program."""
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    if request["session"]:
        os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.stdin = sys.__stdin__ = _stream(0, sys.__stdin__)
    sys.stdout = sys.__stdout__ = _stream(1, sys.__stdout__)
    sys.stderr = sys.__stderr__ = _stream(2, sys.__stderr__)
    sys.modules["numpy"].random.seed()  # or all forks would draw the same
    first, *rest = request["words"]
    if first == "-m":
        sys.path[0], sys.argv = os.getcwd(), rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.path[0], sys.argv = str(Path(first).parent), request["words"]
        runpy.run_path(first, run_name="__main__")


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
    for _library in LIBRARIES:
        importlib.import_module(_library)
    gc.freeze()  # forks share these pages for as long as nobody writes there
    try:
        become(*serve(socket.socket(fileno=int(sys.argv[1]))))
    except SystemExit as _end:
        if isinstance(_end.code, int | None):
            _status.append((_end.code or 0) & 0xFF)
        raise
    _status.append(0)
