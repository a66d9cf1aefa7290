"""Processes of this machine that end with this one, whatever ends it."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any

from advkit.files.errors import InputError

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_CONTEXT = multiprocessing.get_context("spawn")  # a fork would copy the threads' locks, and CUDA does not survive one


class ChildProcess:
    """A process, and the pipe to it.

    Args:
        life: module-level; called in the process with its end of the pipe and ``arguments``.
        arguments: picklable.

    Attributes:
        pipe: this process's end.

    Raises:
        InputError: the machine has no room for another process.
    """

    def __init__(self, life: Callable[..., None], *arguments: Any) -> None:
        self.pipe, theirs = _CONTEXT.Pipe()
        self._process = _CONTEXT.Process(target=_live, args=(theirs, life, arguments), daemon=True)
        resource_tracker.ensure_running()  # or the first start does that, and lets the signals through again
        try:
            with _held_back(signal.SIGINT, signal.SIGTERM):
                self._process.start()
        except OSError as error:
            raise InputError(f"cannot start a worker: {error.strerror or error}; use fewer --workers") from error
        except BaseException:  # a signal that was held back
            self.kill()
            raise
        finally:
            theirs.close()

    def wait_handles(self) -> tuple[Connection, int]:
        """What :func:`multiprocessing.connection.wait` finds ready when there is a message, or when it is gone."""
        return self.pipe, self._process.sentinel

    def receive(self, seconds: float | None = 0.0) -> bytes | None:
        """The next message, waited for at most ``seconds`` (None: until it comes).

        Returns:
            None when there is none.

        Raises:
            EOFError: there will be none any more; its text says how the process ended.
        """
        try:
            ready = wait(self.wait_handles(), seconds)
            if self.pipe.poll():
                return self.pipe.recv_bytes()
        except (EOFError, OSError):  # closed, perhaps in the middle of a message
            raise EOFError(self._end()) from None
        if ready:
            raise EOFError(self._end())
        return None

    def kill(self) -> None:
        """End it at once, whatever it is doing; it is gone when this returns."""
        if self._process.pid is not None:
            self._process.kill()
            self._process.join()
        self.pipe.close()

    def _end(self) -> str:
        self._process.join(1.0)
        code = self._process.exitcode
        if code is None:
            return "worker closed its pipe"
        return f"worker died ({f'signal {-code}' if code < 0 else f'exit status {code}'})"


@contextlib.contextmanager
def _held_back(*signals: signal.Signals) -> Iterator[None]:
    """Signals wait. A child inherits that: the terminal's Ctrl-C, which reaches the whole group, finds it prepared."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _live(pipe: Connection, life: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    """The whole life of a child."""
    for number in (signal.SIGINT, signal.SIGTERM):  # sent to the group: the parent answers, and ends its children
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
    _end_with_parent()
    os.dup2(2, 1)  # stdout carries the run's report: a child's chatter goes to stderr
    life(pipe, *arguments)


def _end_with_parent() -> None:
    """Die when the parent does, however it dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    def watch() -> None:  # for other systems, and for a parent that was gone before the line above
        parent = multiprocessing.parent_process()
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
