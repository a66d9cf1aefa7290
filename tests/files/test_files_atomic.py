"""What takes a file's place is on the disk before it does: a power cut leaves the old bytes or the new ones."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from advkit.files.atomic import require_writable, write_text
from advkit.files.errors import Interrupted


def test_the_new_bytes_are_synced_before_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, int, bytes]] = []
    fsync, replace = os.fsync, os.replace

    def watched_fsync(file: int) -> None:
        calls.append(("fsync", os.fstat(file).st_ino, os.pread(file, 100, 0)))
        fsync(file)

    def watched_replace(source: Any, target: Any) -> None:
        calls.append(("replace", os.stat(source).st_ino, Path(source).read_bytes()))
        assert Path(target).read_text() == "old"
        replace(source, target)

    path = tmp_path / "x"
    path.write_text("old")
    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "replace", watched_replace)
    write_text(path, "new")
    inode = path.stat().st_ino
    assert calls == [("fsync", inode, b"new"), ("replace", inode, b"new")]
    assert path.read_text() == "new"


def test_a_signal_during_the_probe_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch, seen = Path.touch, []

    def interrupted(path: Path, exist_ok: bool = True) -> None:
        touch(path, exist_ok=exist_ok)
        seen.extend(tmp_path.iterdir())
        raise Interrupted(15)

    monkeypatch.setattr(Path, "touch", interrupted)
    with pytest.raises(Interrupted):
        require_writable(tmp_path / "x")
    assert len(seen) == 1
    assert list(tmp_path.iterdir()) == []
