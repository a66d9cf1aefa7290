"""stdout is for results, stderr for everything else; other people's code keeps to that too."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from advkit.files.errors import InputError


class ReaderLeftError(Exception):
    """Whoever read the results went before their end: no error, but what the shell calls 141."""


_own: list[TextIO] = []  # the run's stdout, while sys.stdout is for other people's code


def results() -> TextIO:
    """Where a run's results go."""
    return _own[-1] if _own else sys.stdout


def say(text: str) -> None:
    """A line on stderr; a full or closed one changes nothing about the run or its exit status."""
    try:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        sys.stderr = nowhere()  # else the interpreter tries once more as it ends


@contextlib.contextmanager
def for_readers(*out: TextIO) -> Iterator[None]:
    """While results are written to ``out``.

    Raises:
        ReaderLeftError: the reader left.
        InputError: there is no room for them.
    """
    try:
        yield
    except BrokenPipeError as error:
        with open(os.devnull, "w") as sink:  # what is left in the buffers must not be tried again
            for stream in out:
                with contextlib.suppress(OSError, ValueError):
                    os.dup2(sink.fileno(), stream.fileno())
        raise ReaderLeftError from error
    except OSError as error:
        raise InputError(f"cannot write the results: {error.strerror or error}") from error


def nowhere() -> TextIO:
    """A stream that forgets."""
    return open(os.devnull, "w")


@contextlib.contextmanager
def stdout_for_results() -> Iterator[None]:
    """While it lasts, whatever prints (a factory, a download, a library in C) prints on stderr; :func:`results` stays.

    Streams that are no files, as under a test runner, are exchanged in Python only.
    """
    before = sys.stdout
    kept = _moved(before)
    _own.append(kept or before)
    sys.stdout = sys.stderr
    try:
        yield
    finally:
        sys.stdout = before
        _own.pop()
        if kept is not None:
            os.dup2(kept.fileno(), 1)
            with contextlib.suppress(OSError):  # what could not be written was told when it was
                kept.close()


def _moved(stream: TextIO) -> TextIO | None:
    """A stream to what file descriptor 1 was, which is stderr's file from here on; None where that can't be."""
    if stream is not sys.__stdout__:
        return None
    try:
        stream.flush()
        kept = os.dup(1)
        os.dup2(2, 1)
    except (OSError, ValueError):
        return None
    return open(kept, "w", encoding=stream.encoding, errors=stream.errors)


def named(path: Path) -> TextIO | None:
    """The open stream that ``path`` names (``-``, ``/dev/stdout``, ``/dev/fd/3``), None if it is a file's name."""
    text = str(path)
    if text in ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"):
        return results()
    if text in ("/dev/stderr", "/dev/fd/2", "/proc/self/fd/2"):
        return sys.stderr
    form = re.fullmatch(r"/(?:dev|proc/self)/fd/(\d+)", text)
    return open(int(form[1]), "w", encoding="utf-8", closefd=False) if form else None


def duration(seconds: float) -> str:
    """``75`` as ``1:15``."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"
