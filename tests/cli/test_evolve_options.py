"""Options of ``advkit evolve``: what becomes of them, and what is refused."""

from __future__ import annotations

import contextlib
import io
import signal
from pathlib import Path
from typing import Any

import pytest
from executable import Run, one_line
from PIL import Image
from searches import GENOME, SMALL, without

from advkit.evolution import run_search
from advkit.evolution.settings_diff import flat
from advkit.files.errors import InputError


@pytest.mark.parametrize(
    "option", [("--epochs", "10"), ("--misalign-weight", "1"), ("--smoothness-weight", "0"), ("--limit", "432")]
)
def test_what_r_prime_says_is_refused_even_with_the_defaults_value(
    r: Path, tmp_path: Path, inside: Run, option: tuple[str, str]
) -> None:
    small = without(SMALL, "--limit", "--epochs")
    found = inside("evolve", r, *small, "--recipe-from", r, "-o", tmp_path / "e.safetensors", *option)
    assert f"{option[0]}: --recipe-from says it already" in one_line(found)


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
