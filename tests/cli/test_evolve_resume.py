"""Runs of ``advkit evolve`` that were stopped, shared or begun again: the same bytes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from executable import Run, done, environment, load, one_line, start
from searches import MORE, PROGRAM, result_of, search, trainings, tree

from advkit.evolution.run_directory import RunDirectory


def test_two_workers_find_what_one_process_does_bit_for_bit(whole: Path, two: Path, tmp_path: Path) -> None:
    loud = [option for option in search(two, *MORE) if option != "--quiet"]
    found = done(*loud, "-o", "e.safetensors", "--workers", "2", cwd=tmp_path, program=PROGRAM, forked_workers=True)
    assert json.loads(found.stdout)["host"]["processes"] == 2
    generations = [line for line in found.stderr.splitlines() if "search evolution, generation" in line]
    assert [line.partition("generation ")[2][:3] for line in generations] == ["1/2", "2/2"]
    assert "candidates 3 (0 failed)" in generations[0]
    assert "left" in generations[0]
    assert any("final: accuracy" in line for line in found.stderr.splitlines())
    assert (tmp_path / "e.safetensors").read_bytes() == (whole / "e.safetensors").read_bytes()
    assert tree(tmp_path / "e.run") == tree(whole / "e.run")
    assert trainings(tmp_path / "e.run") == trainings(whole / "e.run")


@pytest.mark.parametrize(
    ("number", "status"),
    [
        (signal.SIGINT, 130),
        pytest.param(signal.SIGKILL, -9, marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow),
    ],
)
def test_a_run_that_was_stopped_goes_on_to_the_same_bytes(
    whole: Path, two: Path, tmp_path: Path, quick: Run, number: signal.Signals, status: int
) -> None:
    out, log = tmp_path / "e.safetensors", tmp_path / "e.run/candidates.jsonl"
    command = search(two, *MORE, "-o", out)
    slow = environment(SCRIPTED_PAUSE="0.5")
    how = {"forked_workers": number != signal.SIGINT}  # which meets new interpreters while they are born
    process = start(*command, stdout=subprocess.DEVNULL, start_new_session=True, program=PROGRAM, env=slow, **how)
    deadline = time.monotonic() + 120
    while not (log.exists() and log.read_bytes().count(b"\n") >= 3) and time.monotonic() < deadline:
        time.sleep(0.01)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does: to the workers too
    else:
        process.send_signal(number)
    errors = process.communicate(timeout=120)[1]
    assert process.returncode == status, errors
    assert "Traceback" not in errors
    assert not out.exists()
    kept = trainings(tmp_path / "e.run")
    assert 3 <= len(kept) < len(trainings(whole / "e.run"))
    if number != signal.SIGKILL:
        assert "the same command goes on" in errors
    result_of(quick(*command))
    assert out.read_bytes() == (whole / "e.safetensors").read_bytes()
    assert tree(tmp_path / "e.run") == tree(whole / "e.run")
    assert kept.items() <= trainings(tmp_path / "e.run").items()


def test_a_run_killed_in_a_later_generation_or_the_final_training_goes_on(
    whole: Path, two: Path, tmp_path: Path, quick: Run
) -> None:
    """As after a kill: a finished run cut back to each of its records but the first few, its later files gone."""
    lines = (whole / "e.run/candidates.jsonl").read_bytes().splitlines(keepends=True)
    for kept in (len(lines) - 1, len(lines) - 3):
        folder = tmp_path / str(kept)
        shutil.copytree(whole / "e.run", folder / "e.run")
        (folder / "e.run/candidates.jsonl").write_bytes(b"".join(lines[:kept]) + lines[kept][:20])
        for path in (folder / "e.run/final").iterdir():
            path.unlink()
        result_of(quick(*search(two, *MORE, "-o", folder / "e.safetensors")))
        assert (folder / "e.safetensors").read_bytes() == (whole / "e.safetensors").read_bytes()
        assert tree(folder / "e.run") == tree(whole / "e.run")


def test_a_search_without_finalists_keeps_the_epochs_for_a_later_run_with_some(
    two: Path, tmp_path: Path, quick: Run
) -> None:
    command = search(two, "--epochs", "2", "-o", tmp_path / "e.safetensors")
    assert not result_of(quick(*command, "--finalists", "0"))["finalists"]
    before = trainings(tmp_path / "e.run")
    other = ("--finalists", "1", "--epochs", "3", "-o", tmp_path / "f.safetensors", "--run-dir", tmp_path / "e.run")
    assert "--epochs 2, not 3" in one_line(quick(*command, *other))
    assert len(result_of(quick(*command, "--finalists", "1"))["finalists"]) == 1
    after = trainings(tmp_path / "e.run")
    assert {key: after[key] for key in before} == before, "no candidate is trained again"
    assert {stage for _, stage in after.keys() - before.keys()} == {"final"}


@pytest.mark.slow
def test_inherited_weights_survive_a_second_start(
    two: Path, tmp_path: Path, quick: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RunDirectory, "keep_weights", lambda directory, names: None)
    command = search(two, "--budget", "9", "--rungs", "1", "--finalists", "0", "--objective", "scalar", "--ageing")
    inherited = [*command, "--inherit", "-o", tmp_path / "e.safetensors"]
    first = result_of(quick(*inherited))
    before, bytes_before = tree(tmp_path / "e.run"), (tmp_path / "e.safetensors").read_bytes()
    again = result_of(quick(*inherited))
    assert again["members"] == first["members"]
    assert tree(tmp_path / "e.run") == before
    assert (tmp_path / "e.safetensors").read_bytes() == bytes_before
    fresh = result_of(quick(*command, "-o", tmp_path / "f.safetensors"))
    assert [one["id"] for one in fresh["members"]] == [one["id"] for one in first["members"]], "outcomes are told"
    alike = {
        one["id"]: (tmp_path / f"e.run/weights/{one['id']}.safetensors").read_bytes()
        == (tmp_path / f"f.run/weights/{one['id']}.safetensors").read_bytes()
        for one in first["members"]
    }
    assert all(alike[one["id"]] for one in first["members"] if not one["parents"]), "there is nobody to inherit from"
    assert not all(alike[one["id"]] for one in first["members"] if one["parents"])


def test_on_a_cluster_it_finds_the_same(whole: Path, two: Path, tmp_path: Path, ray_cluster: str) -> None:
    done(*search(two, *MORE), "-o", "e.safetensors", "--ray", ray_cluster, cwd=tmp_path, program=PROGRAM)
    assert (tmp_path / "e.safetensors").read_bytes() == (whole / "e.safetensors").read_bytes()
    assert tree(tmp_path / "e.run") == tree(whole / "e.run")


def test_a_finished_run_is_read_not_done_again(whole: Path, two: Path, tmp_path: Path, quick: Run) -> None:
    shutil.copytree(whole / "e.run", tmp_path / "e.run")
    shutil.copy(whole / "e.safetensors", tmp_path)
    before = (tmp_path / "e.run/candidates.jsonl").read_bytes()
    found = result_of(quick(*search(two, *MORE, "-o", tmp_path / "e.safetensors")))
    assert (tmp_path / "e.run/candidates.jsonl").read_bytes() == before
    expected = load(whole / "e.json")["result"]
    assert found["members"] == expected["members"]
    assert tree(tmp_path / "e.run") == tree(whole / "e.run")
    assert (tmp_path / "e.safetensors").read_bytes() == (whole / "e.safetensors").read_bytes()


def test_another_runs_directory_or_checkpoint_is_not_touched(
    whole: Path, two: Path, tmp_path: Path, quick: Run
) -> None:
    shutil.copytree(whole / "e.run", tmp_path / "e.run")
    before = tree(tmp_path / "e.run")
    command = search(two, "-o", tmp_path / "e.safetensors", *MORE, "--seed", "1")
    assert "holds another run (--seed 0, not 1)" in one_line(quick(*command))
    assert tree(tmp_path / "e.run") == before
    shutil.copy(two / "r.safetensors", tmp_path / "e.safetensors")
    assert "another run" in one_line(quick(*command, "--run-dir", tmp_path / "new"))
    assert (tmp_path / "e.safetensors").read_bytes() == (two / "r.safetensors").read_bytes()
