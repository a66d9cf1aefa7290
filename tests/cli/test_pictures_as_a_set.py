"""The folder of PNG files that ``attack -o DIR`` writes is the set that ``--quantize`` writes into one file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from executable import Run, one_line, settled
from PIL import Image

from advkit.data.reference import load
from advkit.files.adversarial import NUMBERS, read_adversarial

EPS = "0.25"
DATA = ("--data", "digits", "--limit", "60")


@pytest.fixture
def attacked(inside: Run, r: Path, r2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``attack OPTIONS`` on R, or on R and V as one with ``ensemble``: ``png/adv`` and ``file/adv.safetensors``."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "png").mkdir()
    (tmp_path / "file").mkdir()

    def make(*options: str, ensemble: bool = False) -> None:
        models = (r, r2) if ensemble else (r,)
        for out in (("png/adv",), ("file/adv.safetensors", "--quantize")):
            found = inside("attack", *models, *DATA, *options, "-q", "-o", *out)
            assert found.returncode == 0, found.stderr

    return make


@pytest.mark.parametrize(
    ("options", "ensemble"),
    [
        (("--eps", EPS), False),
        (("--eps", EPS, "--target", "next", "--goal", "transfer"), True),
        (("--norm", "l2", "--eps", "2.5", "--method", "mi"), False),
    ],
)
def test_the_reports_are_the_same(
    options: tuple[str, ...], ensemble: bool, attacked: Callable[..., None], inside: Run, r: Path, r2: Path
) -> None:
    attacked(*options, ensemble=ensemble)
    reports: list[dict[str, Any]] = []
    for path in ("png/adv", "png/adv/", "file/adv.safetensors"):
        found = inside("transfer-matrix", f"R={r}", f"V={r2}", *DATA, "--adversarial", path, "--compare", "adv:R,V")
        assert found.returncode == 0, found.stderr
        reports.append(settled(json.loads(found.stdout)))
    assert reports[0] == reports[1] == reports[2]
    white = [pair["white_box"] for pair in reports[0]["result"]["pairs"]]
    assert white == [True, ensemble]
    assert reports[0]["result"]["surrogate_success"][0]["success"]["successes"] > 0
    folder, file = (read_adversarial(Path(path)) for path in ("png/adv", "file/adv.safetensors"))
    assert {name: folder.meta[name] for name in file.meta if name != "spec"} == {
        name: value for name, value in file.meta.items() if name != "spec"
    }
    for name in NUMBERS:
        assert torch.equal(getattr(folder, name), getattr(file, name)), name
    every = torch.arange(60)
    assert torch.equal(folder.images(every), file.images(every))
    clean = load("digits").batch(folder.index)[0]
    moved = (folder.images(every) - clean).flatten(1)
    size = moved.norm(dim=1) if "l2" in options else moved.abs().amax(1)
    assert 0 < float(size.max()) <= float(options[options.index("--eps") + 1]) + 1e-6


def without(folder: Path, name: str) -> None:
    said = json.loads((folder / "advkit.json").read_text())
    del said[name]
    (folder / "advkit.json").write_text(json.dumps(said))


def changed(folder: Path, name: str, value: Any) -> None:
    said = json.loads((folder / "advkit.json").read_text())
    said[name] = value(said[name])
    (folder / "advkit.json").write_text(json.dumps(said))


def first(folder: Path) -> Path:
    return min(folder.rglob("*.png"))


SPOILED: dict[str, tuple[Callable[[Path], object], str]] = {
    "no sidecar": (lambda folder: (folder / "advkit.json").unlink(), "no advkit.json"),
    "no attack": (lambda folder: without(folder, "attack"), "metadata does not say"),
    "names alone": (lambda folder: without(folder, "outcome"), "says not what was made of each image"),
    "text": (lambda folder: changed(folder, "target", lambda found: ["3", *found[1:]]), "'target' is no list of whole"),
    "huge": (lambda folder: changed(folder, "index", lambda found: [2**80, *found[1:]]), "'index' is no list of whole"),
    "short": (lambda folder: changed(folder, "target", lambda found: found[1:]), "do not fit"),
    "nothing": (lambda folder: [changed(folder, name, lambda found: []) for name in NUMBERS], "do not fit"),
    "label": (lambda folder: changed(folder, "labels", lambda found: [10, *found[1:]]), "do not fit"),
    "minus": (lambda folder: changed(folder, "index", lambda found: [-1, *found[1:]]), "do not fit"),
    "outcome": (lambda folder: changed(folder, "outcome", lambda found: [3, *found[1:]]), "other numbers than 0, 1"),
    "missing": (lambda folder: first(folder).unlink(), "cannot be read (No such file"),
    "damaged": (lambda folder: first(folder).write_bytes(first(folder).read_bytes()[:60]), "cannot be read"),
    "larger": (lambda folder: Image.new("L", (16, 16)).save(first(folder)), "another kind or size"),
    "colour": (lambda folder: Image.new("RGB", (8, 8)).save(first(folder)), "another kind or size"),
    "16 bits": (lambda folder: Image.new("I;16", (8, 8)).save(first(folder)), "another kind or size"),
    "other pixels": (lambda folder: Image.new("L", (8, 8), 255).save(first(folder)), "further than its eps"),
}


def test_a_spoiled_folder_is_one_line(attacked: Callable[..., None], inside: Run, r: Path, tmp_path: Path) -> None:
    import shutil

    attacked("--eps", "0.1")
    for name, (spoil, words) in SPOILED.items():
        folder = tmp_path / name
        shutil.copytree(tmp_path / "png" / "adv", folder)
        spoil(folder)
        assert words in one_line(inside("transfer-matrix", r, *DATA, "--adversarial", folder)), name
    assert "not in the 20 images that --limit takes of digits" in one_line(
        inside("transfer-matrix", r, *DATA[:3], "20", "--adversarial", "png/adv")
    )
