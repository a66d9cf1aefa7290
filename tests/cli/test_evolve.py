"""``advkit evolve`` as a user runs it: equal bytes whoever works and whatever happens, figures, errors."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import handmade
import pytest
import scripted
from executable import Run, advkit, load, one_line
from searches import MORE, PROGRAM, SMALL, result_of, search, without
from terminal import on_terminal

from advkit.evolution import run_search
from advkit.files.checkpoint import read_checkpoint
from advkit.files.errors import InputError


def test_the_report_says_what_was_found(whole: Path, two: Path, inside: Run) -> None:
    report = load(whole / "e.json")
    result = report["result"]
    assert report["schema"] == "advkit/evolve/1"
    assert report["status"] == "done"
    assert result["trainings"] == [6, 2]
    assert result["cost"] == pytest.approx(4)
    assert result["failed"] == 0
    assert len(result["members"]) == 2
    assert result["draws"]["drawn"] >= 6
    assert [one["name"] for one in result["baselines"]] == ["advkit/genome:patch", "R'"]
    assert result["floors"][1] == pytest.approx(0.1)
    chosen = result["chosen"]
    told = scripted.outcome(chosen["id"], 40, 2)
    assert [chosen["measured"]["accuracy"][name] for name in ("successes", "total")] == told["validation"]
    assert [chosen["measured"]["cond"][name] for name in ("successes", "total")] == told["cond"]
    checkpoint = read_checkpoint(whole / "e.safetensors")
    assert checkpoint.meta["model_args"]["genome"] == chosen["genome"]
    assert checkpoint.meta["parents"] == [{"sha256": report["inputs"][0]["sha256"]}]
    for one in (*result["front"], *result["finalists"]):
        seen = result_of(inside("evaluate", one["file"], "--data", two / "two.npz"))
        assert seen["models"][0]["model"] == one["id"]
    assert report["host"]["processes"] == 1
    assert 0 < result["hypervolume"] < 1
    assert (whole / "f.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in (whole / "a.svg").read_bytes()


def test_random_search_compared_with_evolution_by_the_recipe_of_another(
    two: Path, r: Path, tmp_path: Path, quick: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = ["--misalign-from", two / "r.safetensors", "--misalign-weight", "0.5", "--lr", "0.05"]
    training = ["train", "--arch", "advkit/cnn", "--data", two / "two.npz", "--limit", "400", "--epochs", "1", "-q"]
    result_of(quick(*training, *recipe, "--batch-size", "64", "--seed", "3", "-o", "rp.safetensors"))
    small = [*without(SMALL, "--limit", "--epochs", "--population"), "--budget", "2", "--offspring", "2"]
    common = ["evolve", two / "r.safetensors", *small, "--data", two / "two.npz", "--eps", handmade.EPS]
    common += ["--recipe-from", "rp.safetensors"]
    result_of(quick(*common, "--search", "random", "-o", "random.safetensors"))
    options = ["--compare-run", "random.run", "-o", "e.safetensors", "--figure", "f.svg", "--seed", "4"]
    report = json.loads(quick(*common, *options).stdout)
    result = report["result"]
    assert result["others"][0]["search"] == "random"
    assert result["others"][0]["front"]
    assert result["like"]["accuracy"]["total"] == 40
    assert report["params"]["recipe"]["misalign"]["weight"] == 0.5
    assert report["params"]["recipe"]["seed"] == 3
    bound = result["like"]["accuracy"]["rate"] - 0.02
    assert result["accuracy_bound"] == pytest.approx(bound)
    meta = read_checkpoint(tmp_path / "e.safetensors").meta
    assert meta["seed"] == 3
    wrong = quick("evolve", r, *small, "--recipe-from", r, "-o", "x.safetensors")
    assert "--misalign-from" in one_line(wrong)
    assert result["others"][0]["unlike"] == []
    assert 0 <= result["others"][0]["hypervolume"] <= 1
    assert not [flag for flag in report["flags"] if "random.run" in flag]
    other = quick(*search(two, "-o", "y.safetensors", "--compare-run", "random.run"))
    assert "does not compare" in one_line(other)


def test_images_that_r_was_trained_on_are_counted(r: Path, tmp_path: Path, inside: Run, monkeypatch: Any) -> None:
    """R holds out a tenth of 400 digits by its seed: those that evolve holds out are among its own, or are not."""
    from advkit.data import reference
    from advkit.data.sampling import hold_out
    from advkit.tasks.classification import CLASSIFICATION
    from advkit.tasks.sampling import limited

    prepared: list[Any] = []

    def stop(search_run: Any, observer: Any) -> None:
        prepared.append(search_run)
        raise InputError("enough")

    monkeypatch.setattr(run_search, "run", stop)
    packed = tmp_path / "packed.safetensors"
    packing = ["train", "--arch", f"advkit/cnn@{r}", "--data", "digits", "--epochs", "0", "-o", packed]
    assert inside(*packing).returncode == 0
    data = limited(CLASSIFICATION, reference.load("digits", role="train"), 400, 0)
    trained = set(data.indices[hold_out(data.targets, 0.1, 0)[0]].tolist())
    found = []
    for model, options in (
        (r, ["--limit", "400"]),
        (r, ["--limit", "400", "--seed", "7"]),
        (r, ["--limit", "420"]),
        (packed, ["--limit", "400"]),
    ):
        small = [*without(SMALL, "--limit", "--candidate-images"), "--candidate-images", "300", "--rungs", "1"]
        assert "enough" in one_line(inside("evolve", model, "-o", tmp_path / "e.safetensors", *small, *options))
        found.append(prepared[-1].seen)
    held = [set(one.parts.validation.indices.tolist()) for one in prepared]
    assert found == [0, len(held[1] & trained), len(held[2] & trained), None]
    assert found[1], "another seed holds out other images"


def test_with_nothing_to_measure_on_it_says_so_and_trains_nobody(two: Path, tmp_path: Path, quick: Run) -> None:
    options = ["--eps", "0.05", "-o", tmp_path / "e.safetensors"]
    line = one_line(quick(*search(two), *options))
    assert "none of the 40 of 40 validation images that R gets right" in line
    assert all(option in line for option in ("--eps", "--validation-images", "--method"))
    assert not (tmp_path / "e.run/candidates.jsonl").exists()


def test_candidates_that_get_none_of_the_fooled_images_right_are_said_to(
    two: Path, tmp_path: Path, quick: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def blind(context: Any, job: Any) -> dict[str, Any]:
        found = scripted.evaluate(context, job)
        none = {name: [0, 0] for name in ("cond", "both", "flipped", "noise") if name in found}
        return found | none | {"by_method": [[0, 0], [0, 0]]}

    monkeypatch.setattr(run_search, "evaluate", blind)
    found = quick(*search(two, "-o", tmp_path / "e.safetensors", "--report", tmp_path / "e.json"))
    line = one_line(found)
    assert "nothing to measure T_cond on (0/0)" in line
    assert "could be trained" not in line
    report = load(tmp_path / "e.json")
    assert (report["status"], report["result"]["failed"], report["result"]["checkpoint"]) == ("failed", 0, None)


def test_data_are_opened_once(two: Path, tmp_path: Path, quick: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from advkit.data import reference

    opened: list[str] = []
    original = reference.load

    def load(ref: str, **options: Any) -> Any:
        opened.append(ref)
        return original(ref, **options)

    def stop(*arguments: Any, **options: Any) -> None:
        raise InputError("enough")

    monkeypatch.setattr(reference, "load", load)
    monkeypatch.setattr(run_search, "open_executor", stop)
    assert "enough" in one_line(quick(*search(two, "-o", tmp_path / "e.safetensors")))
    assert opened == [str(two / "two.npz")]


def test_a_dry_run_writes_nothing_and_tells_the_time(
    two: Path, tmp_path: Path, quick: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = quick(*search(two, "-o", "e.safetensors", "--dry-run"))
    assert "2 generations of 3 candidates (3 on 128 images, 1 on 384 images)" in found.stdout
    assert "one candidate took" in found.stdout
    assert list(tmp_path.iterdir()) == []


def test_rungs_are_parts_of_the_images_that_there_are(two: Path, tmp_path: Path, quick: Run) -> None:
    most = search(two, "--candidate-images", "99999", "--dry-run", "-o", tmp_path / "e.safetensors")
    found = quick(*most).stdout
    short, whole = map(int, re.search(r"\(3 on (\d+) images, 1 on (\d+) images\)", found).groups())  # type: ignore[union-attr]
    images, held = map(int, re.search(r"on (\d+) images less (\d+) % held out", found).groups())  # type: ignore[union-attr]
    assert abs(whole - images * (100 - held) / 100) <= 10
    assert short == round(whole / 3)


def test_a_candidate_that_hangs_is_given_up(two: Path, tmp_path: Path) -> None:
    """No training ends in a millisecond: the candidate fails, twice, and the run still ends with a report."""
    small = search(two, "--budget", "1", "--offspring", "1", "--rungs", "1")
    options = ["--candidate-timeout", "0.001", "-o", "e.safetensors", "--report", "e.json", "--figure", "f.png"]
    assert "no candidate could be trained" in one_line(advkit(*small, *options, cwd=tmp_path, forked_workers=True))
    report = load(tmp_path / "e.json")
    assert report["status"] == "failed"
    report = report["result"]
    assert report["failed"] == 1
    assert report["checkpoint"] is None
    assert report["figure"] is None
    assert not (tmp_path / "e.safetensors").exists()
    lines = [json.loads(line) for line in (tmp_path / "e.run/candidates.jsonl").read_text().splitlines()]
    assert lines[0]["error"] is None, "the floor is not a candidate, and has no limit"
    assert lines[1]["attempts"] == 2
    assert "timed out" in lines[1]["error"]
    assert len(lines) == 2


def test_a_compared_run_must_be_finished_and_measured_alike(
    whole: Path, two: Path, tmp_path: Path, inside: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared: list[Any] = []

    def stop(search_run: Any, observer: Any) -> None:
        prepared.append(search_run)
        raise InputError("opened")

    monkeypatch.setattr(run_search, "run", stop)
    other = tmp_path / "other.run"
    shutil.copytree(whole / "e.run", other)
    common = search(two, "-o", tmp_path / "e.safetensors", *MORE, "--compare-run", other)
    assert "opened" in one_line(inside(*common))
    (found,) = prepared[0].runs
    assert (found.search, found.cost, found.unlike) == ("evolution", 4, [])
    assert "(--validation-images 40, not 30)" in one_line(inside(*common, "--validation-images", "30"))
    assert "(--candidate-epochs 1, not 2)" in one_line(inside(*common, "--candidate-epochs", "2"))
    assert "(--eps 0.3, not 0.1)" in one_line(inside(*common, "--eps", "0.1"))
    assert "opened" in one_line(inside(*common, "--inherit", "--budget", "6", "--offspring", "4", "--population", "3"))
    assert prepared[1].runs[0].unlike == ["no --inherit", "--budget 4, not 6", "--offspring 3, not 4"]
    state = load(other / "population.json")
    (other / "population.json").write_text(json.dumps(state | {"finished": False}))
    assert "not finished" in one_line(inside(*common))


def test_on_a_terminal_there_is_a_live_table_and_a_table_at_the_end(whole: Path, two: Path, tmp_path: Path) -> None:
    """The last training of a finished run is done once more, so that there is something to look at."""
    shutil.copytree(whole / "e.run", tmp_path / "e.run")
    log = tmp_path / "e.run/candidates.jsonl"
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:-2]))
    loud = [option for option in search(two, *MORE) if option != "--quiet"]
    status, table, live = on_terminal(*loud, "-o", "e.safetensors", cwd=tmp_path, program=PROGRAM, forked_workers=True)
    assert status == 0
    assert max(map(len, table.splitlines())) <= 80
    result = load(whole / "e.json")["result"]
    chosen = result["chosen"]
    counts = f"{chosen['measured']['cond']['successes']}/{chosen['measured']['cond']['total']}"
    assert re.search(rf"E {chosen['id']} .* {counts} ", table)
    assert f"the front of evolution dominates an area of {result['hypervolume']:.3f}" in table
    assert "genome:patch" in table
    assert "search" in live
    assert "generation 2/2" in live
    assert f"{chosen['id']} final: accuracy" in live
    assert f"{len(result['front'])} of {len(result['members'])} candidates" in live
    assert "making R's" not in live, "lines are for logs"
