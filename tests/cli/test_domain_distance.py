"""``domain-distance`` from the command line: domains in any form, floor, gates, advice, figure, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from executable import Run, done, one_line, settled
from PIL import Image
from safetensors.torch import save_file
from terminal import on_terminal

from advkit.reports.domain_distance import DomainDistanceResult
from advkit.reports.domain_distance_table import table

FEW = ("--repeats", "2", "--permutations", "50", "-q")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Feature files: ``a`` and ``near`` of one distribution, ``mid`` and ``far`` shifted."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    for name, count, shift in (("a", 60, 0.0), ("near", 25, 0.0), ("mid", 24, 0.6), ("far", 24, 2.0)):
        np.save(tmp_path / f"{name}.npy", (generator.normal(size=(count, 6)) + shift).astype(np.float32))
    return tmp_path


def measure(inside: Run, *arguments: str | Path) -> dict[str, Any]:
    found = inside("domain-distance", *arguments, *FEW)
    assert found.returncode == 0, found.stderr
    report: dict[str, Any] = json.loads(found.stdout)
    return report


def ratios(report: dict[str, Any]) -> list[float]:
    return [one["distances"]["frechet"]["ratio"] for one in report["result"]["targets"]]


def test_ready_features_are_compared_as_they_are(folder: Path, inside: Run) -> None:
    report = measure(inside, "a.npy", "near.npy", "mid.npy", "M=far.npy")
    result = report["result"]
    assert [one["target"] for one in result["targets"]] == ["near.npy", "mid.npy", "M"]
    assert (result["source"], result["n"], result["repeats"], result["images"]) == ("a.npy", 24, 2, 60)
    assert (result["features"]["kind"], result["features"]["d"], result["features"]["dtype"]) == ("file", 6, "float32")
    near, mid, far = ratios(report)
    assert near < 2 < mid < far
    p_values = [one["permutation_test"]["p_value"] for one in result["targets"]]
    assert p_values[0] > 0.05 > p_values[1]
    assert p_values[2] == pytest.approx(1 / 51)
    assert [one["images"] for one in report["inputs"]] == [60, 25, 24, 24]
    rows = torch.from_numpy(np.load("far.npy"))
    save_file({"features": rows}, "far.safetensors")
    again = measure(inside, "a.npy", "M=far.safetensors")
    assert again["result"]["targets"] == result["targets"][2:], "whatever the file, and whatever lies beside it"
    assert again["inputs"][1]["sha256"] == report["inputs"][3]["sha256"]


def test_the_same_seed_gives_the_same_report_and_figure(folder: Path) -> None:
    command = ("domain-distance", "a.npy", "far.npy", "mid.npy", *FEW, "--advise", "--figure")
    reports = []
    for name in ("1.svg", "2.svg"):
        report = settled(json.loads(done(*command, name, cwd=folder).stdout))
        assert report["result"].pop("figure") == name
        reports.append({**report, "command": [], "params": []})
    assert reports[0] == reports[1]
    assert (folder / "1.svg").read_bytes() == (folder / "2.svg").read_bytes()
    assert sum(reports[0]["result"]["figure_variance"]) > 0.5


def pictures(folder: Path, names: list[str], dark: bool = False) -> None:
    """Colour noise of many sizes and kinds of file in two classes."""
    generator = np.random.default_rng(len(names[0]))
    for number, name in enumerate(names):
        pixels = generator.integers(0, 128 if dark else 256, (20 + number % 5, 24, 3), dtype=np.uint8)
        file = folder / "ab"[number % 2] / name
        file.parent.mkdir(parents=True, exist_ok=True)
        mode = {"gif": "P", "tiff": "CMYK", "bmp": "L"}.get(name.rpartition(".")[2], "RGB")
        Image.fromarray(pixels).convert(mode).save(file)


NAMES = [f"{k:02}.{('png', 'gif', 'tiff', 'bmp')[k % 4]}" for k in range(16)]


def test_pictures_of_any_kind_and_size_against_arrays(tmp_path: Path, inside: Run) -> None:
    pictures(tmp_path / "light", NAMES)
    pictures(tmp_path / "dark", NAMES, dark=True)
    (tmp_path / "dark/a/notes.txt").write_text("no picture")
    report = measure(inside, tmp_path / "light", tmp_path / "dark", "digits", "--limit", "16", "--size", "8")
    assert report["result"]["n"] == 8
    assert report["result"]["features"] == {
        "kind": "pixels", "layer": "pixels", "ref": None, "sha256": None, "size": [8, 8], "channels": 3, "d": 192,
        "crop_pct": 1.0, "interpolation": "bilinear", "dtype": "float32",
    }  # fmt: skip
    assert ratios(report)[0] > 1.5
    assert sum("notes.txt" in flag for flag in report["flags"]) == 1
    assert sum("grey images" in flag for flag in report["flags"]) == 1
    assert [one["name"] for one in report["inputs"]] == ["light", "dark", "digits"]


def test_the_order_of_files_and_the_batch_change_nothing(tmp_path: Path, inside: Run) -> None:
    pictures(tmp_path / "one", NAMES)
    (tmp_path / "two/a").mkdir(parents=True), (tmp_path / "two/b").mkdir()
    for file in (tmp_path / "one").rglob("*.*"):
        shutil.copy(file, tmp_path / "two" / file.parent.name / f"{90 - int(file.stem)}{file.suffix}")
    model = ("--features", "advkit/cnn", "--size", "12")
    found = [
        measure(inside, f"X={tmp_path / name}", "digits", *model, "--batch-size", batch)["result"]
        for name, batch in (("one", "16"), ("two", "16"), ("two", "3"))
    ]
    assert found[0] == found[1]
    for kept, batched in zip(found[1]["targets"], found[2]["targets"], strict=True):
        for name, one in kept["distances"].items():
            assert batched["distances"][name]["draws"] == pytest.approx(one["draws"], rel=1e-4, abs=1e-6)
        assert batched["permutation_test"] == kept["permutation_test"]


@pytest.mark.parametrize("seed", ["-1", "99999999999999999999"])
def test_any_whole_number_seeds_a_distance(seed: str, folder: Path, inside: Run) -> None:
    calibration(folder)
    more = ("--seed", seed, "--advise", "--calibration", "c.json", "--figure", "x.png")
    assert measure(inside, "a.npy", "far.npy", *more)["seed"] == int(seed)
    assert measure(inside, "digits#train", "digits", "--limit", "20", "--features", "advkit/cnn", "--seed", seed)


def test_too_few_images_are_told_before_any_work(inside: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("advkit.distance.features.write_features", lambda *_: pytest.fail("work before the check"))
    assert "too few images" in refuse(inside, "digits#train", "digits", "--limit", "6")


def test_features_of_a_classifier_and_of_one_of_its_layers(r: Path, inside: Run) -> None:
    report = measure(inside, "digits#train", "digits#test", "--limit", "40", "--features", r)
    features = report["result"]["features"]
    assert (features["layer"], features["d"], features["size"]) == ("input of classifier", 128, [8, 8])
    assert features["sha256"] == report["inputs"][0]["sha256"]
    assert 0.5 < ratios(report)[0] < 2.5
    layer = measure(inside, "digits#train", "digits#test", "--limit", "40", "--features", f"{r}:features.0")
    assert (layer["result"]["features"]["layer"], layer["result"]["features"]["d"]) == ("features.0", 32)
    large = measure(inside, "digits#train", "digits#test", "--limit", "40", "--features", r, "--size", "16")
    assert (large["result"]["features"]["size"], large["inputs"][0]["resized_to"]) == ([16, 16], [8, 8])


def test_a_detectors_backbone_tells_scenes_apart(inside: Run) -> None:
    detector = ("--features", "advkit/tiny-ssd", "--limit", "12", "--size", "96")
    report = measure(inside, "scenes/photo", "scenes/sketch", *detector)
    features = report["result"]["features"]
    assert (features["layer"], features["d"]) == ("backbone", 96 + 3 * 128)
    assert ratios(report)[0] > 1.5
    assert any("fresh weights" in flag for flag in report["flags"])


def test_images_that_are_in_both_domains_are_told(inside: Run) -> None:
    report = measure(inside, "A=digits", "B=digits", "--limit", "30")
    assert report["result"]["targets"][0]["shared"] == 30
    assert "B: 30 of its images are in A too; distances are too small" in report["flags"]


def test_a_target_of_less_variety_is_told(folder: Path, inside: Run) -> None:
    generator = np.random.default_rng(0)
    for name, count, scale in (("bright", 40, 1.0), ("other", 20, 1.0), ("dull", 20, 0.6)):
        np.save(f"{name}.npy", scale * generator.normal(size=(count, 200)))
    report = measure(inside, "bright.npy", "dull.npy", "other.npy")
    (told,) = [flag for flag in report["flags"] if "less varied" in flag]
    assert told.startswith("dull.npy: less varied than bright.npy")


def test_a_bound_on_the_ratio_is_the_exit_status(folder: Path, inside: Run) -> None:
    def status(*bound: str) -> int:
        found = inside("domain-distance", "a.npy", "near.npy", "far.npy", *FEW, *bound)
        assert ("gate failed: Fréchet ratio a.npy -> far.npy" in found.stderr) == (found.returncode == 1)
        assert json.loads(found.stdout)["status"] == ("gate-failed" if found.returncode else "done")
        return found.returncode

    assert [status("--fail-above", "1000"), status("--fail-above", "3"), status("--fail-below", "0.1")] == [0, 1, 0]


def test_a_ratio_to_a_floor_of_nothing_keeps_no_bound(folder: Path, inside: Run) -> None:
    np.save("flat.npy", np.ones((40, 6)))
    for bound in ("--fail-above", "--fail-below"):
        found = inside("domain-distance", "flat.npy", "far.npy", *FEW, bound, "1")
        assert (found.returncode, json.loads(found.stdout)["status"]) == (1, "gate-failed")
        assert "far.npy is undefined (halves of flat.npy are at distance 0)" in found.stderr
        assert "no images" not in found.stderr


def test_fewer_images_than_features_are_told_once(folder: Path, inside: Run) -> None:
    def told(n: int) -> list[str]:
        flags = measure(inside, "a.npy", "far.npy", "mid.npy", "--subsample", str(n))["flags"]
        return [flag for flag in flags if "singular" in flag]

    (flag,) = told(6)
    assert flag.startswith("6 images of each and 6 features: covariances are singular")
    assert told(7) == []


def test_the_table_names_the_target_that_keeps_draws_small(folder: Path, inside: Run) -> None:
    def lines(*more: str) -> list[str]:
        found = DomainDistanceResult.model_validate(measure(inside, "a.npy", "far.npy", "few.npy", *more)["result"])
        return [line for line in table(found) if "has no more than" in line]

    np.save("few.npy", np.load("far.npy")[:8])
    assert lines() == ["few.npy has no more than 8 images"]
    assert lines("--subsample", "6") == []


def test_advice_is_monotone_and_names_no_threshold(folder: Path, inside: Run) -> None:
    advice = measure(inside, "a.npy", "far.npy", "near.npy", "mid.npy", "--advise")["result"]["advice"]
    assert advice["order"] == ["near.npy", "mid.npy", "far.npy"]
    assert advice["calibration"] is None
    assert "larger the ratio" in advice["text"]
    assert "No threshold is known" in advice["text"]
    assert measure(inside, "a.npy", "far.npy")["result"]["advice"] is None


def test_the_order_says_where_intervals_overlap(folder: Path, inside: Run) -> None:
    result = measure(inside, "a.npy", "far.npy", "near.npy", "mid.npy", "--advise")["result"]

    def order(*intervals: tuple[float, float]) -> str:
        for one, ends in zip(result["targets"], intervals, strict=True):
            one["distances"]["frechet"]["ratio_interval"] = ends
        return table(DomainDistanceResult.model_validate(result))[-1]

    assert order((3, 4), (1, 1.5), (2, 2.5)) == "Order: near.npy < mid.npy < far.npy"
    told = order((2.4, 4), (1, 1.5), (2, 2.5))
    assert told == "Order: near.npy < mid.npy ~ far.npy (~: their intervals overlap)"
    assert order((2.4, 4), (1, 2.1), (2, 2.3)).startswith("Order: near.npy ~ mid.npy < far.npy (~")


def calibration(folder: Path, **more: Any) -> None:
    pairs = [
        {"source": "photo", "target": f"t{k}", "ratio": ratio, "gain": gain, "interval": [gain - 2, gain + 2]}
        for k, (ratio, gain) in enumerate([(1.0, -3.2), (1.5, -1.0), (2.0, 0.5), (4.0, 3.0), (8.0, 6.4), (3.0, 2.0)])
    ]
    document = {"spec": "advkit/calibration/1", "gain": "mAP@.5, points", "pairs": pairs} | more
    (folder / "c.json").write_text(json.dumps(document))


def test_a_calibration_foretells_gains_with_intervals(folder: Path, inside: Run) -> None:
    calibration(folder, images=24, features={"sha256": None, "layer": None, "size": None})
    report = measure(inside, "a.npy", "near.npy", "far.npy", "--advise", "--calibration", "c.json")
    near, far = (one["forecast"] for one in report["result"]["targets"])
    assert near["gain"] < 0 < far["gain"]
    for one in (near, far):
        assert one["pair_interval"][0] <= one["interval"][0] <= one["gain"] <= one["interval"][1]
        assert one["interval"][1] <= one["pair_interval"][1]
    assert near["chance"] < 0.5 < far["chance"]
    summary = report["result"]["advice"]["calibration"]
    assert (summary["pairs"], summary["signs"]["total"], summary["commoner_sign"]["successes"]) == (6, 6, 4)
    assert summary["signs"]["successes"] >= 5
    assert summary["per_doubling"] > 2
    assert summary["residual_spread"] > 0
    assert "threshold" not in report["result"]["advice"]["text"]
    assert not [flag for flag in report["flags"] if "calibration" in flag]


def test_a_calibration_of_other_features_is_told(folder: Path, inside: Run) -> None:
    calibration(folder, images=50, features={"layer": "backbone", "size": None})
    report = measure(inside, "a.npy", "far.npy", "--advise", "--calibration", "c.json")
    assert [flag for flag in report["flags"] if "calibration" in flag] == [
        "calibration: its ratios are of features with another layer (backbone, here None)",
        "calibration: its ratios are at n 50, here at 24; give --subsample 50",
    ]
    calibration(folder)
    report = measure(inside, "a.npy", "far.npy", "--advise", "--calibration", "c.json")
    assert "calibration: does not say of which features its ratios are" in report["flags"]


def test_the_table_has_every_domain(folder: Path) -> None:
    calibration(folder)
    long, longest = "A name too long for a column", "L" * 90 + "ast"
    words = ("domain-distance", "a.npy", "far.npy", f"{long}=mid.npy", f"{longest}=near.npy")
    status, table, _ = on_terminal(*words, *FEW, "--advise", "--calibration", "c.json", cwd=folder)
    assert status == 0
    lines = table.splitlines()
    assert max(map(len, lines)) <= 80
    assert len([line for line in lines if line.startswith(("floor  ", "far.npy  "))]) == 2
    for name in (long, "LLast"):  # a line of its own, above its row and above its forecast
        above = [number for number, line in enumerate(lines) if line.strip().endswith(name)]
        assert [len(lines[number + 1].split()) for number in above] == [8, 3]
        assert all(lines[number + 1].startswith(" " * 17) for number in above)
    assert "sign foretold, leaving one out" in table
    assert "a.npy: 60 images" in table


def refuse(inside: Run, *arguments: str | Path) -> str:
    return one_line(inside("domain-distance", *arguments, "-q"))


def test_features_that_make_no_domain_are_refused(folder: Path, inside: Run) -> None:
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
def test_what_makes_no_sense_is_one_line(arguments: list[str], word: str, folder: Path, inside: Run) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert word in refuse(inside, *arguments)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


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
