"""``advkit evolve`` as a user runs it: equal bytes whoever works and whatever happens, figures, errors."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from executable import Run, advkit, done, load, one_line, start
from terminal import on_terminal

from advkit.commands import evolve_run
from advkit.evolution.settings_diff import flat
from advkit.files.checkpoint import read_checkpoint
from advkit.files.errors import InputError

SMALL = [
    *("--data", "digits", "--limit", "432", "--candidate-images", "384", "--candidate-epochs", "1"),
    *("--validation-images", "40", "--budget", "4", "--offspring", "3", "--population", "2", "--epochs", "1"),
    *("--eps", "0.2", "--steps", "2", "--max-multiply-adds", "400000", "--max-parameters", "60000", "--quiet"),
    *("--finalists", "1", "--accuracy-floor", "0.1"),
]


GENOME = Path(__file__).with_name("genome.json")  # small enough for the limits above
BESIDE = ("--beside", "advkit/genome:patch", "--begin-with", f"advkit/genome:{GENOME}")


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


@pytest.fixture(scope="module")
def whole(r: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a finished run by one worker, with report and figures."""
    folder = tmp_path_factory.mktemp("whole")
    done(
        *("evolve", r, "-o", "e.safetensors", *SMALL, "--report", "e.json", "--figure", "f.png"),
        *("--figure-architecture", "a.svg", *BESIDE),
        cwd=folder,
    )
    return folder


def test_the_report_says_what_was_found(whole: Path, r: Path) -> None:
    report = load(whole / "e.json")
    result = report["result"]
    assert report["schema"] == "advkit/evolve/1"
    assert result["trainings"] == [6, 2]
    assert result["cost"] == pytest.approx(4)
    assert result["failed"] == 0
    assert len(result["members"]) <= 2
    assert result["draws"]["drawn"] >= 6
    assert [one["name"] for one in result["baselines"]] == ["advkit/genome:patch", "R'"]
    assert result["floors"][1] == pytest.approx(0.1)
    chosen = result["chosen"]
    checkpoint = read_checkpoint(whole / "e.safetensors")
    assert checkpoint.meta["model_args"]["genome"] == chosen["genome"]
    assert checkpoint.meta["parents"] == [{"sha256": load(r.parent / "r.json")["result"]["sha256"]}]
    for one in (*result["front"], *result["finalists"]):
        seen = load_result("evaluate", one["file"], "--data", "digits#train", cwd=whole)
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


def load_result(*arguments: str | Path, **options: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(done(*arguments, **options).stdout)["result"]
    return found


def test_two_workers_find_what_one_does_bit_for_bit(whole: Path, r: Path, tmp_path: Path) -> None:
    loud = [option for option in SMALL if option != "--quiet"]
    found = done("evolve", r, "-o", "e.safetensors", *loud, *BESIDE, "--workers", "2", cwd=tmp_path)
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
    whole: Path, r: Path, tmp_path: Path, number: signal.Signals, status: int
) -> None:
    out, log = tmp_path / "e.safetensors", tmp_path / "e.run/candidates.jsonl"
    process = start("evolve", r, "-o", out, *SMALL, *BESIDE, stdout=subprocess.DEVNULL, start_new_session=True)
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
    done("evolve", r, "-o", out, *SMALL, *BESIDE)
    assert out.read_bytes() == (whole / "e.safetensors").read_bytes()
    assert tree(tmp_path / "e.run") == tree(whole / "e.run")
    assert kept.items() <= trainings(tmp_path / "e.run").items()


def test_a_run_killed_in_a_later_generation_or_the_final_training_goes_on(whole: Path, r: Path, tmp_path: Path) -> None:
    """As after a kill: a finished run cut back to each of its records but the first few, its later files gone."""
    lines = (whole / "e.run/candidates.jsonl").read_bytes().splitlines(keepends=True)
    for kept in (len(lines) - 1, len(lines) - 3):
        folder = tmp_path / str(kept)
        shutil.copytree(whole / "e.run", folder / "e.run")
        (folder / "e.run/candidates.jsonl").write_bytes(b"".join(lines[:kept]) + lines[kept][:20])
        for path in (folder / "e.run/final").iterdir():
            path.unlink()
        done("evolve", r, "-o", "e.safetensors", *SMALL, *BESIDE, cwd=folder)
        assert (folder / "e.safetensors").read_bytes() == (whole / "e.safetensors").read_bytes()
        assert tree(folder / "e.run") == tree(whole / "e.run")


def test_inherited_weights_survive_a_second_start(r: Path, tmp_path: Path) -> None:
    small = [*without(SMALL, "--budget", "--offspring", "--finalists"), "--inherit", "--rungs", "1", "--finalists", "0"]
    command = ["evolve", r, "-o", "e.safetensors", *small, "--budget", "9", "--offspring", "3", "--ageing"]
    command += ["--objective", "scalar"]
    first = json.loads(done(*command, cwd=tmp_path).stdout)["result"]
    before, bytes_before = tree(tmp_path / "e.run"), (tmp_path / "e.safetensors").read_bytes()
    again = json.loads(done(*command, cwd=tmp_path).stdout)["result"]
    assert again["members"] == first["members"]
    assert tree(tmp_path / "e.run") == before
    assert (tmp_path / "e.safetensors").read_bytes() == bytes_before
    assert any(one["parents"] for one in first["members"])
    plain = [value for value in command if value != "--inherit"]
    fresh = json.loads(done(*plain, "--run-dir", "f.run", "-o", "f.safetensors", cwd=tmp_path).stdout)["result"]

    def generation(result: dict[str, Any], early: bool) -> list[Any]:
        return [one for one in result["members"] if (one["born"] == 0) == early]

    assert generation(fresh, True) == generation(first, True), "the first generation has nobody to inherit from"
    assert generation(fresh, False) != generation(first, False)


def test_on_a_cluster_it_finds_the_same(whole: Path, r: Path, tmp_path: Path, ray_cluster: str) -> None:
    done("evolve", r, "-o", "e.safetensors", *SMALL, *BESIDE, "--ray", ray_cluster, cwd=tmp_path)
    assert (tmp_path / "e.safetensors").read_bytes() == (whole / "e.safetensors").read_bytes()
    assert tree(tmp_path / "e.run") == tree(whole / "e.run")


def test_a_finished_run_is_read_not_done_again(whole: Path, r: Path, tmp_path: Path) -> None:
    shutil.copytree(whole / "e.run", tmp_path / "e.run")
    shutil.copy(whole / "e.safetensors", tmp_path)
    before = (tmp_path / "e.run/candidates.jsonl").read_bytes()
    found = json.loads(done("evolve", r, "-o", "e.safetensors", *SMALL, *BESIDE, cwd=tmp_path).stdout)["result"]
    assert (tmp_path / "e.run/candidates.jsonl").read_bytes() == before
    expected = load(whole / "e.json")["result"]
    assert found["members"] == expected["members"]
    assert tree(tmp_path / "e.run") == tree(whole / "e.run")
    assert (tmp_path / "e.safetensors").read_bytes() == (whole / "e.safetensors").read_bytes()


def test_random_search_beside_evolution_and_by_the_recipe_of_another(whole: Path, r: Path, tmp_path: Path) -> None:
    recipe = ["--misalign-from", r, "--misalign-weight", "0.5", "--lr", "0.05", "--batch-size", "64"]
    training = ["train", "--arch", "advkit/cnn", "--data", "digits", "--limit", "400", "--epochs", "1", "-q"]
    done(*training, *recipe, "--seed", "3", "-o", tmp_path / "rp.safetensors", cwd=tmp_path)
    small = [*without(SMALL, "--limit", "--epochs", "--population", "--budget", "--offspring")]
    small += ["--budget", "2", "--offspring", "2"]
    common = ["evolve", r, *small, "--like", "rp.safetensors"]
    done(*common, "--search", "random", "-o", "random.safetensors", cwd=tmp_path)
    options = ["--beside-run", "random.run", "-o", "e.safetensors", "--figure", "f.svg", "--seed", "4"]
    report = json.loads(done(*common, *options, cwd=tmp_path).stdout)
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
    wrong = advkit("evolve", r, *small, "--like", r, "-o", "x.safetensors", cwd=tmp_path)
    assert "--misalign-from" in one_line(wrong)
    assert result["others"][0]["unlike"] == []
    assert 0 <= result["others"][0]["hypervolume"] <= 1
    assert not [flag for flag in report["flags"] if "random.run" in flag]
    other = advkit("evolve", r, *SMALL, "-o", "y.safetensors", "--beside-run", "random.run", cwd=tmp_path)
    assert "does not compare" in one_line(other)


def test_a_dry_run_writes_nothing_and_tells_the_time(r: Path, tmp_path: Path) -> None:
    found = done("evolve", r, "-o", "e.safetensors", *SMALL, "--dry-run", cwd=tmp_path)
    assert "2 generations of 3 candidates (3 on 128 images, 1 on 384 images)" in found.stdout
    assert "one candidate took" in found.stdout
    assert list(tmp_path.iterdir()) == []


def test_rungs_are_parts_of_the_images_that_there_are(r: Path, tmp_path: Path) -> None:
    most = [*without(SMALL, "--candidate-images"), "--candidate-images", "99999", "--dry-run"]
    found = done("evolve", r, "-o", "e.safetensors", *most, cwd=tmp_path).stdout
    short, whole = map(int, re.search(r"\(3 on (\d+) images, 1 on (\d+) images\)", found).groups())  # type: ignore[union-attr]
    images, held = map(int, re.search(r"on (\d+) images less (\d+) % held out", found).groups())  # type: ignore[union-attr]
    assert abs(whole - images * (100 - held) / 100) <= 10
    assert short == round(whole / 3)


def test_a_candidate_that_hangs_is_given_up(r: Path, tmp_path: Path) -> None:
    """No training ends in a millisecond: the candidate fails, twice, and the run still ends with a report."""
    small = without(SMALL, "--budget", "--offspring")
    small += ["--budget", "1", "--offspring", "1", "--rungs", "1"]
    options = ["--candidate-timeout", "0.001", "-o", "e.safetensors", "--report", "e.json", "--figure", "f.png"]
    assert "no candidate could be trained" in one_line(advkit("evolve", r, *small, *options, cwd=tmp_path))
    report = load(tmp_path / "e.json")["result"]
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
    """What the settings say is what is done: campaigns are stopped before they begin, and asked."""
    campaigns: list[Any] = []

    def stop(search_run: Any, given: dict[str, Any]) -> None:
        campaigns.append(search_run)
        raise InputError("enough")

    monkeypatch.setattr(evolve_run, "run", stop)
    options, expected = ASKED[name]
    for more in ([], options):
        assert "enough" in one_line(inside("evolve", r, "-o", tmp_path / "e.safetensors", *SMALL, *more))
    before, after = (flat(search_run.settings) for search_run in campaigns)
    assert {key: after[key] for key in expected} == expected
    assert {key: before[key] for key in expected} != expected
    assert campaigns[1].spec.recipe == campaigns[1].settings["recipe"]
    assert campaigns[1].params.inherit == after["search.inherit"]


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

    def stop(search_run: Any, given: dict[str, Any]) -> None:
        raise InputError(f"opened {search_run.images.size}, {search_run.spec.size}")

    monkeypatch.setattr(evolve_run, "run", stop)
    small = [*without(SMALL, "--limit", "--candidate-images"), "--candidate-images", "200", "--rungs", "1"]
    common = ["evolve", r, "-o", tmp_path / "e.safetensors", *small, "--data", tmp_path / "pictures"]
    assert "opened (1, 8, 8), (1, 8, 8)" in one_line(inside(*common))


@pytest.fixture(scope="module")
def trained(r: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with an R' as it should be, and others that E cannot be held against."""
    folder = tmp_path_factory.mktemp("trained")
    common = ["train", "--data", "digits", "--limit", "400", "--epochs", "1", "-q", "--misalign-from", r]
    done(*common, "--arch", "advkit/cnn", "-o", "fit.safetensors", cwd=folder)
    done(*common, "--init", r, "-o", "continued.safetensors", cwd=folder)
    done(*common, "--arch", "advkit/cnn", "--validation", "0", "-o", "unheld.safetensors", cwd=folder)
    return folder


def test_an_r_prime_that_e_could_not_be_held_against_is_refused(
    trained: Path, r: Path, tmp_path: Path, inside: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np

    def stop(search_run: Any, given: dict[str, Any]) -> None:
        raise InputError("opened")

    monkeypatch.setattr(evolve_run, "run", stop)
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
        "--like",
    ]
    assert "opened" in one_line(inside(*common, trained / "fit.safetensors"))
    for name, options, said in (
        ("fit", ["--data", tmp_path / "other.npz"], "other images"),
        ("continued", [], "did not start from fresh weights"),
        ("unheld", [], "--validation 0"),
    ):
        assert said in one_line(inside(*common, trained / f"{name}.safetensors", *options)), name


def test_a_run_beside_must_be_finished_and_measured_alike(
    whole: Path, r: Path, tmp_path: Path, inside: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    campaigns: list[Any] = []

    def stop(search_run: Any, given: dict[str, Any]) -> None:
        campaigns.append(search_run)
        raise InputError("opened")

    monkeypatch.setattr(evolve_run, "run", stop)
    other = tmp_path / "other.run"
    shutil.copytree(whole / "e.run", other)
    common = ["evolve", r, "-o", tmp_path / "e.safetensors", *SMALL, *BESIDE, "--beside-run", other]
    assert "opened" in one_line(inside(*common))
    (found,) = campaigns[0].runs
    assert (found.search, found.cost, found.unlike) == ("evolution", 4, [])
    assert "(--validation-images 40, not 30)" in one_line(inside(*common, "--validation-images", "30"))
    assert "(--candidate-epochs 1, not 2)" in one_line(inside(*common, "--candidate-epochs", "2"))
    assert "(--eps 0.2, not 0.1)" in one_line(inside(*common, "--eps", "0.1"))
    assert "opened" in one_line(inside(*common, "--inherit", "--budget", "6", "--offspring", "4", "--population", "3"))
    assert campaigns[1].runs[0].unlike == ["no --inherit", "--budget 4, not 6", "--offspring 3, not 4"]
    state = load(other / "population.json")
    (other / "population.json").write_text(json.dumps(state | {"finished": False}))
    assert "not finished" in one_line(inside(*common))


def test_on_a_terminal_there_is_a_live_table_and_a_table_at_the_end(whole: Path, r: Path, tmp_path: Path) -> None:
    """The last training of a finished run is done once more, so that there is something to look at."""
    shutil.copytree(whole / "e.run", tmp_path / "e.run")
    log = tmp_path / "e.run/candidates.jsonl"
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:-2]))
    loud = [option for option in SMALL if option != "--quiet"]
    status, table, live = on_terminal("evolve", r, "-o", "e.safetensors", *loud, *BESIDE, cwd=tmp_path)
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
    "beside": (["--beside", "advkit/resnet21"], "resnet20"),
    "beside too small a picture": (["--beside", "advkit/genome:stem7"], "--beside advkit/genome:stem7"),
    "begin with too small a picture": (["--begin-with", "advkit/genome:stem7"], "--begin-with advkit/genome:stem7"),
    "begin with": (["--begin-with", "advkit/cnn"], "genome"),
    "figure": (["--figure", "f.jpg"], ".png"),
    "a graph of no architecture": (["--figure", "f.dot"], "f.dot: the name ends in .png, .svg, .pdf"),
    "architecture": (["--figure-architecture", "f.jpg"], ".dot, .gv"),
    "too many to begin with": (["--begin-with", f"advkit/genome:{GENOME}"] * 4, "--offspring"),
    "too large to begin with": (["--begin-with", "advkit/genome:patch"], "at most"),
    "random breeds nobody": (["--search", "random", "--inherit"], "--inherit"),
    "beside run": (["--beside-run", "."], "--beside-run"),
    "out": (["-o", "e.bin"], ".safetensors"),
    "directory": (["--run-dir", "no/where"], "no/where"),
    "a file for a directory": (["--run-dir", str(GENOME)], "is a file"),
    "nowhere to write": (["-o", "/proc/e.safetensors"], "can't be written"),
    "rungs": (["--rungs", "9"], "--rungs"),
    "no budget": (["--budget", "0"], "--budget"),
    "test images": (["--data", "digits#test"], "training split"),
    "no cluster": (["--ray", "127.0.0.1:9"], "ray start"),
    "like": (["--like", "nothing.safetensors"], "--like"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_options_are_one_line(name: str, r: Path, tmp_path: Path, inside: Run, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    options, word = BAD[name]
    reference: list[Path | str] = [] if name == "R" else [r]
    found = inside("evolve", *reference, "-o", "e.safetensors", *SMALL, *options)
    assert word in one_line(found)
    assert list(tmp_path.iterdir()) == []


def test_another_class_count_or_image_size_is_said(r: Path, tmp_path: Path, inside: Run) -> None:
    import numpy as np

    rng = np.random.default_rng(0)
    for name, size, classes in (("size", 16, 10), ("classes", 8, 7)):
        images = rng.integers(0, 255, (300, size, size), dtype=np.uint8)
        np.savez(tmp_path / f"{name}.npz", images=images, labels=rng.permutation(np.arange(300) % classes))
        options = [*SMALL, "--data", tmp_path / f"{name}.npz", "-o", tmp_path / "e.safetensors"]
        assert "it was made for" in one_line(inside("evolve", r, *options))


def test_another_runs_directory_or_checkpoint_is_not_touched(whole: Path, r: Path, tmp_path: Path) -> None:
    shutil.copytree(whole / "e.run", tmp_path / "e.run")
    before = tree(tmp_path / "e.run")
    options = ["-o", tmp_path / "e.safetensors", *SMALL, *BESIDE, "--seed", "1"]
    assert "holds another run (--seed 0, not 1)" in one_line(advkit("evolve", r, *options))
    assert tree(tmp_path / "e.run") == before
    shutil.copy(r, tmp_path / "e.safetensors")
    assert "another run" in one_line(advkit("evolve", r, *options, "--run-dir", tmp_path / "new"))
    assert (tmp_path / "e.safetensors").read_bytes() == r.read_bytes()
