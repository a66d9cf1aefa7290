"""What ``domain-distance`` refuses, in one line each: what makes no domain, and options without sense."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from domains import NAMES, measure, pictures
from executable import Run, one_line


def refuse(inside: Run, *arguments: str | Path) -> str:
    return one_line(inside("domain-distance", *arguments, "-q"))


def test_too_few_images_are_told_before_any_work(inside: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("advkit.distance.features.write_features", lambda *_: pytest.fail("work before the check"))
    assert "too few images" in refuse(inside, "digits#train", "digits", "--limit", "6")


def test_features_that_make_no_domain_are_refused(feature_files: Path, inside: Run) -> None:
    np.save("one.npy", np.zeros((1, 6)))
    np.save("other.npy", np.zeros((30, 7)))
    np.save("nan.npy", np.full((30, 6), np.nan))
    assert "one.npy has 1: too few" in refuse(inside, "a.npy", "one.npy")
    assert "one.npy has 1, and half of them are the floor's" in refuse(inside, "one.npy", "a.npy")
    assert "other.npy: 7 features of each image, a.npy has 6" in refuse(inside, "a.npy", "other.npy")
    assert "nan.npy: the features of image 0 hold NaN" in refuse(inside, "a.npy", "nan.npy")
    assert "digits: a.npy holds ready features and this does not" in refuse(inside, "a.npy", "digits")
    assert "--subsample 40: far.npy has 24" in refuse(inside, "a.npy", "far.npy", "--subsample", "40")


def test_images_that_make_no_domain_are_refused(tmp_path: Path, r: Path, inside: Run) -> None:
    pictures(tmp_path / "set", NAMES)
    assert "has 1: too few images" in refuse(inside, "digits", f"{tmp_path / 'set'}#:03")
    assert "no name matches x*" in refuse(inside, "digits", f"{tmp_path / 'set'}#:x*")
    assert "nowhere: no such data" in refuse(inside, "digits", "nowhere")
    (tmp_path / "set/a/00.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert "00.png" in refuse(inside, "digits", tmp_path / "set")
    colour = tmp_path / "colour.npz"
    np.savez(colour, images=np.zeros((20, 8, 8, 3), np.uint8), labels=np.arange(20) % 2)
    assert "channel" in refuse(inside, "digits", colour, "--features", r)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["digits"], "name the source"),
        (["digits", "digits"], "two domains are called digits"),
        (["digits#train", "digits", "--calibration", "c.json"], "--calibration: does nothing without --advise"),
        (["digits#train", "digits", "--mean", "0.5"], "--mean: does nothing with pixels"),
        (["digits#train", "digits", "--fail-above", "-1"], "--fail-above -1: a ratio"),
        (["digits#train", "digits", "--fail-below", "inf"], "--fail-below inf: a ratio"),
        (["digits#train", "digits", "--figure", "x.gif"], "x.gif"),
        (["digits#train", "digits", "--size", "5000"], "--size"),
        (["digits#train", "digits", "--repeats", "0"], "--repeats"),
        (["digits#train", "digits", "--features", "nowhere"], "nowhere"),
        (["digits#train", "digits", "--features", "advkit/cmn"], "advkit/cmn: no such file or architecture; try"),
        (["digits#train", "digits", "--features", "advkit/cnn:"], "nothing after the colon"),
        (["digits#train", "digits", "--features", "advkit/cnn:stem"], "no layer 'stem'"),
        (["a.npy", "far.npy", "--size", "8"], "--size: does nothing with ready features"),
        (["a.npy", "far.npy", "--limit", "8"], "--limit: does nothing with ready features"),
        (["a.npy", "far.npy", "--features", "pixels"], "--features: does nothing with ready features"),
        (["a.npy", "far.npy", "--advise", "--calibration", "far.npy"], "far.npy"),
        (["a.npy", "far.npy", "--report", "far.npy"], "the run reads far.npy"),
    ],
)
def test_what_makes_no_sense_is_one_line(arguments: list[str], word: str, feature_files: Path, inside: Run) -> None:
    before = {path.name: path.read_bytes() for path in feature_files.iterdir()}
    assert word in refuse(inside, *arguments)
    assert {path.name: path.read_bytes() for path in feature_files.iterdir()} == before


def test_a_model_that_brings_its_statistics_takes_no_others(r: Path, inside: Run) -> None:
    assert "brings its own" in refuse(inside, "digits#train", "digits", "--features", r, "--mean", "0.5")


FACTORY = """from torch import nn
def net():
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 4), nn.Linear(4, 3))
"""


def test_a_factory_is_given_a_size_and_keeps_its_colon(tmp_path: Path, inside: Run) -> None:
    (tmp_path / "mine.py").write_text(FACTORY)
    model = f"{tmp_path / 'mine.py'}:net"
    assert "give --size" in refuse(inside, "digits#train", "digits", "--features", model)
    np.savez(tmp_path / "c.npz", images=np.random.default_rng(0).random((20, 8, 8, 3)), labels=np.arange(20) % 2)
    found = [
        measure(inside, tmp_path / "c.npz", "digits", "--features", f"{model}{layer}", "--size", "8")["result"]
        for layer in ("", ":1", ":0")
    ]
    assert [(one["features"]["layer"], one["features"]["d"]) for one in found] == [
        ("input of 2", 4),
        ("1", 4),
        ("0", 192),
    ]
    assert found[0]["targets"] == found[1]["targets"]
