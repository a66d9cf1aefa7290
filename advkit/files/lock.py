"""One writer for one output: the second run with the same name is refused, and what a killed one left is swept."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from advkit.files.atomic import sweep, unwritable
from advkit.files.errors import InputError


def lock_path(path: Path) -> Path:
    """``x.safetensors`` -> ``.x.safetensors.lock``, beside the file itself, not beside a link to it."""
    path = Path(os.path.realpath(path))
    return path.with_name(f".{path.name}.lock")


@contextlib.contextmanager
def sole_writer(path: Path, *beside: Path) -> Iterator[None]:
    """Hold the lock of ``path`` during the block, which begins without temporary files of runs that were killed.

    The kernel releases the lock of a process however it ends. The lock file is removed at the end; one that a killed
    process left is taken over.

    Args:
        path: the output; it need not exist.
        beside: other files of the run, such as its state, whose temporary files are swept too.

    Raises:
        InputError: another process holds the lock, or the directory can't be written.
    """
    lock = lock_path(path)
    try:
        held = _take(lock)
    except BlockingIOError as error:
        raise InputError(f"{path}: another run is writing it; wait, or choose another name") from error
    except OSError as error:
        raise unwritable(path, error) from error
    try:
        sweep(path, *beside)
        yield
    finally:
        lock.unlink(missing_ok=True)  # while it is held: whoever opened it meanwhile sees that it is gone
        os.close(held)


def _take(lock: Path) -> int:
    """An open and locked ``lock``; not one that its last holder removed between our opening and our locking it."""
    while True:
        held = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if lock.exists() and os.path.samestat(os.fstat(held), lock.stat()):
                return held
        except FileNotFoundError:  # removed between the two looks
            pass
        except BaseException:
            os.close(held)
            raise
        os.close(held)
