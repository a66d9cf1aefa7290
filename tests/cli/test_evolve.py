"""``advkit evolve`` as a user runs it: equal bytes whoever works and whatever happens, figures, errors."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import handmade
import pytest
import scripted
import torch
from executable import Run, advkit, done, environment, load, one_line, start
from PIL import Image
from terminal import on_terminal

from advkit.evolution import run_search
from advkit.evolution.run_directory import RunDirectory
from advkit.evolution.settings_diff import flat
from advkit.files.checkpoint import read_checkpoint
from advkit.files.errors import InputError

SMALL = [
    *("--data", "digits", "--limit", "432", "--candidate-images", "384", "--candidate-epochs", "1"),
    *("--validation-images", "40", "--budget", "4", "--offspring", "3", "--population", "2", "--epochs", "1"),
    *("--eps", "0.2", "--steps", "2", "--max-multiply-adds", "400000", "--max-parameters", "60000", "--quiet"),
    *("--finalists", "1", "--accuracy-floor", "0.1"),
]


GENOME = handmade.GENOME  # small enough for the limits above
MORE = ("--baseline", "advkit/genome:patch", "--begin-with", f"advkit/genome:{GENOME}")


def tree(run: Path) -> dict[str, bytes]:
    """What two equal runs have in common: all but the lock and the log of trainings, which says how long they took."""
    return {
        str(path.relative_to(run)): path.read_bytes()
        for path in sorted(run.rglob("*"))
        if path.is_file() and path.name not in ("candidates.jsonl", "lock")
    }


def trainings(run: Path) -> dict[tuple[str, str], dict[str, Any]]:
    lines = map(json.loads, (run / "candidates.jsonl").read_text().splitlines())
    return {
        (line["id"], line["stage"]): {name: v for name, v in line.items() if not name.endswith("seconds")}
        for line in lines
    }


PROGRAM = (sys.executable, str(Path(scripted.__file__)))  # candidates turn out as they are told


def search(two: Path, *options: str | Path) -> list[str | Path]:
    """Arguments of a search against the R made by hand; ``options`` win over those of every search."""
    return ["evolve", two / "r.safetensors", *SMALL, "--data", two / "two.npz", "--eps", handmade.EPS, *options]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, inside: Run) -> Run:
    """``advkit ARGUMENTS`` in this process alone, candidates turning out as they are told."""
    monkeypatch.setattr(run_search, "evaluate", scripted.evaluate)
    monkeypatch.setattr(run_search, "open_executor", scripted.open_inline)
    return inside


def result_of(finished: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """What the report on stdout says under ``result``."""
    assert finished.returncode == 0, finished.stderr
    found: dict[str, Any] = json.loads(finished.stdout)["result"]
    return found


@pytest.fixture(scope="module")
def whole(two: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a finished run in one process, with report and figures."""
    from advkit.commands.app import run

    folder, threads = tmp_path_factory.mktemp("whole"), torch.get_num_threads()
    files = ["-o", folder / "e.safetensors", "--report", folder / "e.json", "--figure", folder / "f.png"]
    arguments = search(two, *files, "--figure-architecture", folder / "a.svg", *MORE)
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()):
        patch.setattr(run_search, "evaluate", scripted.evaluate)
        patch.setattr(run_search, "open_executor", scripted.open_inline)
        handler = signal.getsignal(signal.SIGTERM)
        assert run([str(argument) for argument in arguments]) == 0
        signal.signal(signal.SIGTERM, handler)
    torch.set_num_threads(threads)
    return folder


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


def without(options: list[str], *names: str) -> list[str]:
    """``options``, all of which have a value but the last switches, without ``names``."""
    found = list(options)
    for name in names:
        place = found.index(name)
        del found[place : place + 2]
    return found


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


@pytest.mark.parametrize(("number", "status"), [(signal.SIGKILL, -9), (signal.SIGINT, 130), (signal.SIGTERM, 143)])
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


@pytest.mark.parametrize(
    "option", [("--epochs", "10"), ("--misalign-weight", "1"), ("--smoothness-weight", "0"), ("--limit", "432")]
)
def test_what_r_prime_says_is_refused_even_with_the_defaults_value(
    r: Path, tmp_path: Path, inside: Run, option: tuple[str, str]
) -> None:
    small = without(SMALL, "--limit", "--epochs")
    found = inside("evolve", r, *small, "--recipe-from", r, "-o", tmp_path / "e.safetensors", *option)
    assert f"{option[0]}: --recipe-from says it already" in one_line(found)


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


ASKED: dict[str, tuple[list[str], dict[str, Any]]] = {  # options, and what becomes of them in the settings
    "objective": (["--objective", "scalar"], {"search.objective": "scalar"}),
    "ageing": (["--ageing"], {"search.ageing": True}),
    "inherit": (["--inherit"], {"search.inherit": True}),
    "population": (["--population", "7"], {"search.population": 7}),
    "rungs": (["--rungs", "1"], {"search.rungs": 1}),
    "norm": (["--norm", "l2", "--eps", "1.5"], {"attacks.norm": "l2", "attacks.eps": 1.5}),
    "methods": (["--method", "fgsm", "--method", "mi,ti"], {"attacks.method": "fgsm and mi,ti"}),
    "steps": (["--steps", "3"], {"attacks.steps": 3}),
    "threads": (["--threads", "2"], {"threads": 2}),
    "weight": (["--misalign-weight", "0.25"], {"recipe.misalign.weight": 0.25}),
    "smoothness": (["--smoothness-weight", "0.5"], {"recipe.misalign.smoothness": 0.5}),
    "epochs": (["--epochs", "2"], {"recipe.epochs": 2}),
    "candidate": (["--candidate-epochs", "3"], {"candidate_epochs": 3}),
    "limits": (["--max-parameters", "9999"], {"search.limits.max_parameters": 9999}),
    "seed": (["--seed", "5"], {"search.seed": 5, "recipe.seed": 5, "data_seed": 5, "attacks.seed": 5}),
}


@pytest.mark.parametrize("name", ASKED)
def test_every_option_reaches_the_search(
    name: str, r: Path, tmp_path: Path, inside: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the settings say is what is done: prepared are stopped before they begin, and asked."""
    prepared: list[Any] = []

    def stop(search_run: Any, observer: Any) -> None:
        prepared.append(search_run)
        raise InputError("enough")

    monkeypatch.setattr(run_search, "run", stop)
    options, expected = ASKED[name]
    for more in ([], options):
        assert "enough" in one_line(inside("evolve", r, "-o", tmp_path / "e.safetensors", *SMALL, *more))
    before, after = (flat(search_run.settings) for search_run in prepared)
    assert {key: after[key] for key in expected} == expected
    assert {key: before[key] for key in expected} != expected
    assert prepared[1].spec.recipe == prepared[1].settings["recipe"]
    assert prepared[1].params.inherit == after["search.inherit"]


def test_pictures_in_folders_are_brought_to_the_size_that_r_takes(
    r: Path, tmp_path: Path, inside: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np
    from PIL import Image

    for digit in range(10):
        folder = tmp_path / f"pictures/{digit}"
        folder.mkdir(parents=True)
        for k in range(30):
            Image.fromarray(np.full((12, 12), 20 * digit + k, np.uint8)).save(folder / f"{k}.png")

    def stop(search_run: Any, observer: Any) -> None:
        raise InputError(f"opened {search_run.images.size}, {search_run.spec.size}")

    monkeypatch.setattr(run_search, "run", stop)
    small = [*without(SMALL, "--limit", "--candidate-images"), "--candidate-images", "200", "--rungs", "1"]
    common = ["evolve", r, "-o", tmp_path / "e.safetensors", *small, "--data", tmp_path / "pictures"]
    assert "opened (1, 8, 8), (1, 8, 8)" in one_line(inside(*common))


@pytest.fixture(scope="module")
def trained(r: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with an R' as it should be, and others that E cannot be held against."""
    from advkit.commands.app import run

    folder, handler = tmp_path_factory.mktemp("trained"), signal.getsignal(signal.SIGTERM)
    common = ["train", "--data", "digits", "--limit", "400", "--epochs", "1", "-q", "--misalign-from", r]
    with contextlib.redirect_stdout(io.StringIO()):
        for name, options in (
            ("fit", ["--arch", "advkit/cnn"]),
            ("continued", ["--init", r]),
            ("unheld", ["--arch", "advkit/cnn", "--validation", "0"]),
        ):
            assert run([str(one) for one in [*common, *options, "-o", folder / f"{name}.safetensors"]]) == 0
    signal.signal(signal.SIGTERM, handler)
    return folder


def test_an_r_prime_that_e_could_not_be_held_against_is_refused(
    trained: Path, r: Path, tmp_path: Path, inside: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np

    def stop(search_run: Any, observer: Any) -> None:
        raise InputError("opened")

    monkeypatch.setattr(run_search, "run", stop)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (400, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "other.npz", images=pixels, labels=np.arange(400) % 10)
    small = without(SMALL, "--limit", "--epochs", "--candidate-images")
    common = [
        "evolve",
        r,
        "-o",
        tmp_path / "e.safetensors",
        *small,
        "--candidate-images",
        "200",
        "--rungs",
        "1",
        "--recipe-from",
    ]
    assert "opened" in one_line(inside(*common, trained / "fit.safetensors"))
    for name, options, said in (
        ("fit", ["--data", tmp_path / "other.npz"], "other images"),
        ("continued", [], "did not start from fresh weights"),
        ("unheld", [], "--validation 0"),
    ):
        assert said in one_line(inside(*common, trained / f"{name}.safetensors", *options)), name


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


BAD = {
    "R": (["nothing.safetensors"], "nothing.safetensors"),
    "budget": (["--budget", "1"], "--budget"),
    "floor": (["--accuracy-floor", "2"], "--accuracy-floor"),
    "search": (["--search", "grid"], "grid"),
    "objective": (["--objective", "both"], "both"),
    "method": (["--method", "magic"], "magic"),
    "twice": (["--method", "pgd", "--method", "pgd"], "twice"),
    "timeout": (["--candidate-timeout", "-1"], "--candidate-timeout"),
    "images": (["--candidate-images", "200"], "--candidate-images"),
    "baseline": (["--baseline", "advkit/resnet21"], "resnet20"),
    "baseline too small a picture": (["--baseline", "advkit/genome:stem7"], "--baseline advkit/genome:stem7"),
    "begin with too small a picture": (["--begin-with", "advkit/genome:stem7"], "--begin-with advkit/genome:stem7"),
    "begin with": (["--begin-with", "advkit/cnn"], "genome"),
    "figure": (["--figure", "f.jpg"], ".png"),
    "a graph of no architecture": (["--figure", "f.dot"], "f.dot: the name ends in .png, .svg, .pdf"),
    "architecture": (["--figure-architecture", "f.jpg"], ".dot, .gv"),
    "too many to begin with": (["--begin-with", f"advkit/genome:{GENOME}"] * 4, "--offspring"),
    "too large to begin with": (["--begin-with", "advkit/genome:patch"], "at most"),
    "random breeds nobody": (["--search", "random", "--inherit"], "--inherit"),
    "compared run": (["--compare-run", "."], "--compare-run"),
    "out": (["-o", "e.bin"], ".safetensors"),
    "directory": (["--run-dir", "no/where"], "no/where"),
    "a file for a directory": (["--run-dir", str(GENOME)], "is a file"),
    "nowhere to write": (["-o", "/proc/e.safetensors"], "can't be written"),
    "rungs": (["--rungs", "9"], "--rungs"),
    "no budget": (["--budget", "0"], "--budget"),
    "test images": (["--data", "digits#test"], "training split"),
    "no cluster": (["--ray", "127.0.0.1:9"], "ray start"),
    "recipe": (["--recipe-from", "nothing.safetensors"], "--recipe-from"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_options_are_one_line(name: str, r: Path, tmp_path: Path, inside: Run, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    options, word = BAD[name]
    reference: list[Path | str] = [] if name == "R" else [r]
    found = inside("evolve", *reference, "-o", "e.safetensors", *SMALL, *options)
    assert word in one_line(found)
    assert list(tmp_path.iterdir()) == []


def test_a_pattern_makes_no_training_images_of_test_images(r: Path, tmp_path: Path, inside: Run) -> None:
    for k in range(40):
        file = tmp_path / "digits" / "test" / str(k % 10) / f"a{k}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), k).save(file)
    options = ["--data", f"{tmp_path / 'digits'}#test:a*", "-o", tmp_path / "e.safetensors"]
    assert "training split" in one_line(inside("evolve", r, *SMALL, *options))


def test_another_class_count_or_image_size_is_said(r: Path, tmp_path: Path, inside: Run) -> None:
    import numpy as np

    rng = np.random.default_rng(0)
    for name, size, classes in (("size", 16, 10), ("classes", 8, 7)):
        images = rng.integers(0, 255, (300, size, size), dtype=np.uint8)
        np.savez(tmp_path / f"{name}.npz", images=images, labels=rng.permutation(np.arange(300) % classes))
        options = [*SMALL, "--data", tmp_path / f"{name}.npz", "-o", tmp_path / "e.safetensors"]
        assert "it was made for" in one_line(inside("evolve", r, *options))


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
