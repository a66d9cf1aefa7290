"""A process on a terminal of its own."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import struct
import termios
import threading
from collections.abc import Sequence
from pathlib import Path

from executable import ADVKIT, TIMEOUT, environment, start


def on_terminal(
    *arguments: str | Path,
    cwd: Path,
    apart: bool = True,
    program: Sequence[str] = ADVKIT,
    forked_workers: bool = False,
    **more: str,
) -> tuple[int, str, str]:
    """Run ``advkit ARGUMENTS`` with stdout and stderr on 80 columns; returns (status, stdout, stderr).

    Args:
        arguments: of the command line.
        cwd: where.
        apart: stdout and stderr each on a terminal of its own.
        program: what stands for the executable.
        forked_workers: see :class:`preloaded.Process`.
        more: environment.
    """
    texts: list[list[bytes]] = [[], []]
    pairs = [pty.openpty() for _ in range(2 if apart else 1)]
    for _, secondary in pairs:
        fcntl.ioctl(secondary, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))

    def drain(primary: int, text: list[bytes]) -> None:
        with contextlib.suppress(OSError):  # the other end is closed: how a terminal says so
            while part := os.read(primary, 4096):
                text.append(part)

    env = environment(TERM="xterm-256color", **more)
    how = {"program": program, "forked_workers": forked_workers}
    process = start(*arguments, cwd=cwd, stdout=pairs[0][1], stderr=pairs[-1][1], env=env, **how)
    readers = [threading.Thread(target=drain, args=(pair[0], text)) for pair, text in zip(pairs, texts, strict=False)]
    for _, secondary in pairs:
        os.close(secondary)
    for reader in readers:
        reader.start()
    status = process.wait(TIMEOUT)
    for reader in readers:
        reader.join(TIMEOUT)
    for primary, _ in pairs:
        os.close(primary)
    out, err = (b"".join(text).decode().replace("\r\n", "\n") for text in texts)
    return status, out, err
