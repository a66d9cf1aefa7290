"""The run directory forgets nothing that was paid for, and mixes up nothing."""

from __future__ import annotations

import json
import os
import resource
import signal
from pathlib import Path

import pytest

from advkit.evolution.run_directory import SPEC, RunDirectory
from advkit.files.errors import InputError

SETTINGS = {"spec": SPEC, "search": {"seed": 1}, "reference": "abc"}


def line(name: str, stage: str = "rung0") -> dict[str, object]:
    return {"id": name, "stage": stage, "error": None, "validation": [1, 2]}


def opened(folder: Path) -> RunDirectory:
    """A run directory that lets go of its lock, as the end of the process would."""
    run = RunDirectory(folder / "run", SETTINGS)
    run.close()
    return run


def test_records_survive_and_a_line_cut_short_is_done_again(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run", SETTINGS)
    for name in "abc":
        run.add(line(name))
    run.add(line("a", "rung1"))
    path = tmp_path / "run/candidates.jsonl"
    whole = path.read_bytes()
    run.close()
    for cut in range(1, len(whole.splitlines(keepends=True)[-1])):
        path.write_bytes(whole[:-cut])
        again = RunDirectory(tmp_path / "run", SETTINGS)
        assert set(again.known) == {("a", "rung0"), ("b", "rung0"), ("c", "rung0")}
        again.add(line("a", "rung1"))
        again.close()
        assert path.read_bytes() == whole
    assert RunDirectory(tmp_path / "run", SETTINGS).known["a", "rung1"] == line("a", "rung1")


def test_a_record_is_on_the_disk_when_it_is_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[tuple[int, int]] = []  # inode and length
    fsync = os.fsync

    def watched(file: int) -> None:
        synced.append((os.fstat(file).st_ino, os.fstat(file).st_size))
        fsync(file)

    run, path = RunDirectory(tmp_path / "run", SETTINGS), tmp_path / "run/candidates.jsonl"
    monkeypatch.setattr(os, "fsync", watched)
    for name in "ab":
        run.add(line(name))
        assert synced[-1:] == [(path.stat().st_ino, path.stat().st_size)]
    run.close()


def test_another_run_is_refused_and_named(tmp_path: Path) -> None:
    opened(tmp_path).add(line("a"))
    before = sorted((path, path.read_bytes()) for path in (tmp_path / "run").iterdir() if path.is_file())
    with pytest.raises(InputError, match=r"another run \(R abc, not def\); choose another --run-dir, or --force"):
        RunDirectory(tmp_path / "run", SETTINGS | {"reference": "def"})
    assert before == sorted((path, path.read_bytes()) for path in (tmp_path / "run").iterdir() if path.is_file())
    anew = RunDirectory(tmp_path / "run", SETTINGS | {"reference": "def"}, force=True)
    assert anew.known == {}
    assert json.loads((tmp_path / "run/run.json").read_text())["reference"] == "def"


def test_force_leaves_nothing_that_was_made_for_the_other_run(tmp_path: Path) -> None:
    opened(tmp_path).add(line("a"))
    made = ["gradients", "adversarial-pgd", "weights/a", "front/a", "final/a"]
    for name in made:
        (tmp_path / f"run/{name}.safetensors").write_text("of R")
    (tmp_path / "run/notes.txt").write_text("mine")
    RunDirectory(tmp_path / "run", SETTINGS | {"reference": "def"}, force=True)
    assert [path.name for path in (tmp_path / "run").rglob("*.safetensors")] == []
    assert (tmp_path / "run/notes.txt").exists()


def test_a_run_killed_before_its_settings_were_written_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/lock").touch()
    (tmp_path / "run/.run.json.0123abcd.tmp").write_text("{")
    opened(tmp_path)
    assert json.loads((tmp_path / "run/run.json").read_text()) == SETTINGS
    assert not list((tmp_path / "run").glob(".*.tmp"))
    (tmp_path / "other").mkdir()
    (tmp_path / "other/lock").touch()
    (tmp_path / "other/thesis.tex").touch()
    with pytest.raises(InputError, match="no run directory"):
        RunDirectory(tmp_path / "other", SETTINGS)


@pytest.mark.parametrize("damage", ["not json", "[1]", '{"id": "a"}', "{" * 100_000])
def test_a_damaged_line_is_named(tmp_path: Path, damage: str) -> None:
    opened(tmp_path).add(line("a"))
    path = tmp_path / "run/candidates.jsonl"
    path.write_bytes(damage.encode() + b"\n" + path.read_bytes())
    with pytest.raises(InputError, match="line 1 is damaged"):
        RunDirectory(tmp_path / "run", SETTINGS)


@pytest.mark.parametrize("damage", ["", "not json", "[1]"])
def test_a_damaged_run_file_is_named(tmp_path: Path, damage: str) -> None:
    opened(tmp_path)
    (tmp_path / "run/run.json").write_text(damage)
    with pytest.raises(InputError, match=r"run\.json"):
        RunDirectory(tmp_path / "run", SETTINGS)


def test_places_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="file"):
        RunDirectory(tmp_path / "file", SETTINGS)
    with pytest.raises(InputError, match="cannot write"):
        RunDirectory(tmp_path / "no/where", SETTINGS)


def test_a_full_disk_leaves_whole_lines(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run", SETTINGS)
    run.add(line("a"))
    path = tmp_path / "run/candidates.jsonl"
    before, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, limits[1]))
        with pytest.raises(InputError, match="cannot write"):
            run.add(line("b"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == before
    assert ("b", "rung0") not in run.known


def test_only_weights_that_are_wanted_stay(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run", SETTINGS)
    for name in "abc":
        run.weights(name).write_bytes(b"x")
    run.keep_weights({"b"})
    assert [path.name for path in (tmp_path / "run/weights").iterdir()] == ["b.safetensors"]


@pytest.mark.parametrize("force", [False, True])
def test_a_directory_of_something_else_is_never_touched(tmp_path: Path, force: bool) -> None:
    (tmp_path / "mine").mkdir()
    kept = [tmp_path / name for name in ("r.safetensors", "data.jsonl", "mine/rp.safetensors")]
    for path in kept:
        path.write_bytes(b"precious")
    with pytest.raises(InputError, match="not empty"):
        RunDirectory(tmp_path, SETTINGS, force=force)
    assert all(path.read_bytes() == b"precious" for path in kept)
    assert not (tmp_path / "weights").exists()


def test_force_drops_what_the_other_run_wrote_and_nothing_else(tmp_path: Path) -> None:
    run = opened(tmp_path)
    run.add(line("a"))
    run.save_population({"generation": 1})
    run.weights("a").write_bytes(b"x")
    (run.path / "notes.txt").write_text("mine")
    RunDirectory(run.path, SETTINGS | {"reference": "def"}, force=True)
    left = {str(path.relative_to(run.path)) for path in run.path.rglob("*") if path.is_file()}
    assert left == {"run.json", "lock", "notes.txt"}


def test_two_at_once_are_one_too_many(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run", SETTINGS)
    with pytest.raises(InputError, match="another evolve is at work"):
        RunDirectory(tmp_path / "run", SETTINGS)
    run.close()
    RunDirectory(tmp_path / "run", SETTINGS).close()


def test_what_killed_workers_left_half_written_is_swept(tmp_path: Path) -> None:
    run = opened(tmp_path)
    for place in (run.path, run.path / "weights"):
        (place / ".a.safetensors.1234.tmp").write_bytes(b"half")
    opened(tmp_path)
    assert not list(run.path.rglob("*.tmp"))
