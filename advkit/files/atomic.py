"""Atomic writing: a reader sees the old file or the new one, never half of one."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

from advkit.files.errors import InputError


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def unwritable(path: Path, error: OSError) -> InputError:
    """The one line for a file that could not be written."""
    return InputError(f"{path}: cannot write: {error.strerror or error}; the file is as it was")


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; when the block ends well it takes the place of ``path``.

    The data is synced to the disk before the rename and the mode follows the umask. Should the block raise, the
    temporary file is removed and ``path`` stays as it was. A symbolic link stays one: its target is replaced.

    Raises:
        InputError: the directory is missing or can't be written, the disk is full, ``path`` is a device or a pipe.
    """
    path = Path(os.path.realpath(path))
    if _special(path):
        raise InputError(f"{path}: is no regular file; choose another name")
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    held = None
    try:
        held = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        with contextlib.suppress(OSError):  # a file system without locks: sweep then can't lock it either
            fcntl.flock(held, fcntl.LOCK_SH)  # while this process lives, sweep leaves the file alone
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        raise unwritable(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)
        if held is not None:
            os.close(held)


def sweep(*paths: Path) -> None:
    """Delete the temporary files of ``paths`` that no living process is writing: those of runs that were killed."""
    for path in map(Path, map(os.path.realpath, paths)):
        pattern = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{8}}\.tmp")
        for orphan in [found for found in path.parent.iterdir() if pattern.fullmatch(found.name)]:
            with contextlib.suppress(OSError):  # in use, gone, or not ours to delete: none of them stops a run
                held = os.open(orphan, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
                try:
                    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    orphan.unlink()
                finally:
                    os.close(held)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` as UTF-8, atomically; to a device or a pipe as it is."""
    if not _special(path):
        with atomic_write(path) as temporary:
            temporary.write_bytes(text.encode())
        return
    try:
        with path.open("w", encoding="utf-8") as file:
            file.write(text)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise unwritable(path, error) from error


def _special(path: Path) -> bool:
    """A device, a pipe, a terminal: nothing that another file may take the place of."""
    return path.exists() and not path.is_file() and not path.is_dir()


def require_writable(path: Path, *, special: bool = False) -> None:
    """Fail now, not after an hour's work, when ``path`` can't be written.

    Args:
        path: a file to come.
        special: whether a device or a pipe will do.

    Raises:
        InputError: the directory is missing, read-only, or ``path`` is itself a directory.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path}: is a directory; name a file")
    if _special(path):
        if special and os.access(path, os.W_OK):
            return
        raise InputError(f"{path}: is no regular file; choose another name")
    if not path.parent.is_dir():
        raise InputError(f"{path}: no directory {path.parent}; make it first")
    probe = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        try:
            probe.touch(exist_ok=False)
        finally:  # a signal may come in between
            probe.unlink(missing_ok=True)  # a sweep may have been faster
    except OSError as error:
        why = f"directory {path.parent} can't be written ({error.strerror or error})"
        raise InputError(f"{path}: {why}; choose another place") from error
