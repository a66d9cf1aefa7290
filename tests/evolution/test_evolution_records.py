"""The run directory forgets nothing that was paid for, and mixes up nothing."""

from __future__ import annotations

import json
import resource
import signal
from pathlib import Path

import pytest

from advkit.evolution.records import RunDirectory
from advkit.files.errors import InputError

SETTINGS = {"search": {"seed": 1}, "reference": "abc"}


def line(name: str, stage: str = "rung0") -> dict[str, object]:
    return {"id": name, "stage": stage, "error": None, "validation": [1, 2]}


def test_records_survive_and_a_line_cut_short_is_done_again(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run", SETTINGS)
    for name in "abc":
        run.add(line(name))
    run.add(line("a", "rung1"))
    path = tmp_path / "run/candidates.jsonl"
    whole = path.read_bytes()
    for cut in range(1, len(whole.splitlines(keepends=True)[-1])):
        path.write_bytes(whole[:-cut])
        again = RunDirectory(tmp_path / "run", SETTINGS)
        assert set(again.known) == {("a", "rung0"), ("b", "rung0"), ("c", "rung0")}
        again.add(line("a", "rung1"))
        assert path.read_bytes() == whole
    assert RunDirectory(tmp_path / "run", SETTINGS).known["a", "rung1"] == line("a", "rung1")


def test_another_run_is_refused_and_named(tmp_path: Path) -> None:
    RunDirectory(tmp_path / "run", SETTINGS).add(line("a"))
    before = sorted((path, path.read_bytes()) for path in (tmp_path / "run").iterdir() if path.is_file())
    with pytest.raises(InputError, match=r"another reference; choose another --run-dir, or --force"):
        RunDirectory(tmp_path / "run", SETTINGS | {"reference": "def"})
    assert before == sorted((path, path.read_bytes()) for path in (tmp_path / "run").iterdir() if path.is_file())
    fresh = RunDirectory(tmp_path / "run", SETTINGS | {"reference": "def"}, force=True)
    assert fresh.known == {}
    assert json.loads((tmp_path / "run/run.json").read_text())["reference"] == "def"


@pytest.mark.parametrize("damage", ["not json", "[1]", '{"id": "a"}', "{" * 100_000])
def test_a_damaged_line_is_named(tmp_path: Path, damage: str) -> None:
    RunDirectory(tmp_path / "run", SETTINGS).add(line("a"))
    path = tmp_path / "run/candidates.jsonl"
    path.write_bytes(damage.encode() + b"\n" + path.read_bytes())
    with pytest.raises(InputError, match="line 1 is damaged"):
        RunDirectory(tmp_path / "run", SETTINGS)


@pytest.mark.parametrize("damage", ["", "not json", "[1]"])
def test_a_damaged_run_file_is_named(tmp_path: Path, damage: str) -> None:
    RunDirectory(tmp_path / "run", SETTINGS)
    (tmp_path / "run/run.json").write_text(damage)
    with pytest.raises(InputError, match=r"run\.json"):
        RunDirectory(tmp_path / "run", SETTINGS)


def test_places_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="file: cannot write"):
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
