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

import atexit
import inspect
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import forkserver
from forkserver import LATE

# Options of subprocess.Popen, by their defaults, that a fork does not honour otherwise.
PLAIN = {"executable": None, "preexec_fn": None, "close_fds": True, "pass_fds": (), "shell": False}
PLAIN |= {"restore_signals": True, "gid": None, "gids": None, "uid": None, "umask": -1, "process_group": -1}


class Process(subprocess.Popen[str]):
    """``subprocess.Popen(words, ...)`` of a Python program: ``(sys.executable, "-m", MODULE or SCRIPT, ...)``.

    With ``forked_workers`` those that multiprocessing spawns there are forks with the libraries, too.
    """

    def __init__(self, words: Sequence[str], forked_workers: bool = False, **options: Any) -> None:
        self._forked_workers = forked_workers
        super().__init__(words, **options)

    def _execute_child(self, *values: Any) -> None:
        given = inspect.signature(subprocess.Popen._execute_child).bind(self, *values).arguments
        if not _is_for_a_fork(given):
            super()._execute_child(*values)
            return
        numbers = [given[name] for name in ("p2cread", "c2pwrite", "errwrite")]
        request = {
            "words": given["args"][1:],
            "cwd": os.fspath(given["cwd"] or os.getcwd()),
            "env": given["env"],
            "session": given["start_new_session"],
            "workers": self._forked_workers,
            "descriptors": [0, 1, 2],
        }
        here = [number if number != -1 else place for place, number in enumerate(numbers)]
        self.pid = forkserver.fork(_forkserver().line, request, here)
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
    """The other end of :func:`forkserver.serve`."""

    def __init__(self) -> None:
        from executable import environment

        self.owner, self.environment = os.getpid(), environment()
        self.line, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # As the executable sets them before it imports a library, unless the user does.
        more = {"OMP_WAIT_POLICY": self.environment.get("OMP_WAIT_POLICY", "passive"), "MPLBACKEND": "Agg"}
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, forkserver.__file__, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=self.environment | more,
                cwd="/",
                pass_fds=[theirs.fileno()],
            )
        atexit.register(self.close)

    def close(self) -> None:
        """End it."""
        if os.getpid() == self.owner:
            self.line.close()
            self._process.wait()


_servers: list[_Forkserver] = []


def _forkserver() -> _Forkserver:
    if not _servers:
        _servers.append(_Forkserver())
    return _servers[0]
