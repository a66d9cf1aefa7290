"""One writer for one output; temporary files go when their writer is dead, and only then."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from advkit.files.atomic import atomic_write, sweep
from advkit.files.errors import InputError
from advkit.files.lock import lock_path, sole_writer

REPOSITORY = Path(__file__).resolve().parents[2]
HOLD = """
import sys
from pathlib import Path
from advkit.files.atomic import atomic_write
from advkit.files.lock import sole_writer
with sole_writer(Path(sys.argv[1])), atomic_write(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    print("begun", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that is writing ``x`` in the directory of the test."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "x")]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        yield process
        process.kill()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_second_writer_is_refused_also_through_a_link(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "x")
    before = names(tmp_path)
    for name in ("x", "link"):
        why = f"^{tmp_path / name}: another run is writing it; wait, or choose another name$"
        with pytest.raises(InputError, match=why), sole_writer(tmp_path / name):
            pass
    assert names(tmp_path) == before
    with sole_writer(tmp_path / "y"):  # another name is free
        pass


def test_a_sweep_spares_the_living_and_takes_the_dead(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    before = names(tmp_path)
    assert len(before) == 2  # lock and temporary file
    sweep(tmp_path / "x")
    assert names(tmp_path) == before
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert names(tmp_path) == before
    with sole_writer(tmp_path / "x"):
        assert names(tmp_path) == [lock_path(tmp_path / "x").name]
    assert names(tmp_path) == []


def test_a_sweep_takes_nothing_of_other_names(tmp_path: Path) -> None:
    mine = [".x.tmp", ".x.0123456.tmp", ".x.0123456z.tmp", ".xx.01234567.tmp", "x.01234567.tmp", ".y.01234567.tmp"]
    for name in (*mine, ".x.01234567.tmp", ".[x]*.01234567.tmp"):
        (tmp_path / name).touch()
    sweep(tmp_path / "x", tmp_path / "[x]*")
    assert names(tmp_path) == sorted(mine)


def test_the_lock_goes_with_an_error_too(tmp_path: Path) -> None:
    with pytest.raises(KeyError), sole_writer(tmp_path / "x"), atomic_write(tmp_path / "x"):
        raise KeyError
    assert names(tmp_path) == []


def test_a_lock_that_its_holder_removed_meanwhile_is_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The holder removes its file after we opened it: what we then lock is nobody's any more."""
    import fcntl

    lock, real, calls = lock_path(tmp_path / "x"), fcntl.flock, []

    def late(file: int, how: int) -> None:
        calls.append(how)
        if len(calls) == 1:
            lock.unlink()
        real(file, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with sole_writer(tmp_path / "x"):
        assert len(calls) == 2
        with pytest.raises(InputError, match="another run"), sole_writer(tmp_path / "x"):
            pass
    assert names(tmp_path) == []
