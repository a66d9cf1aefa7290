"""``domain-distance`` from the command line: domains in any form, floor, gates, advice, figure."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from domains import FEW, NAMES, measure, pictures
from executable import Run, done, settled
from safetensors.torch import save_file
from terminal import on_terminal

from advkit.reports.domain_distance import DomainDistanceResult
from advkit.reports.domain_distance_table import table


def ratios(report: dict[str, Any]) -> list[float]:
    return [one["distances"]["frechet"]["ratio"] for one in report["result"]["targets"]]


def test_ready_features_are_compared_as_they_are(feature_files: Path, inside: Run) -> None:
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


def test_the_same_seed_gives_the_same_report_and_figure(feature_files: Path) -> None:
    command = ("domain-distance", "a.npy", "far.npy", "mid.npy", *FEW, "--advise", "--figure")
    reports = []
    for name in ("1.svg", "2.svg"):
        report = settled(json.loads(done(*command, name, cwd=feature_files).stdout))
        assert report["result"].pop("figure") == name
        reports.append({**report, "command": [], "params": []})
    assert reports[0] == reports[1]
    assert (feature_files / "1.svg").read_bytes() == (feature_files / "2.svg").read_bytes()
    assert sum(reports[0]["result"]["figure_variance"]) > 0.5


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
def test_any_whole_number_seeds_a_distance(seed: str, feature_files: Path, inside: Run) -> None:
    calibration(feature_files)
    more = ("--seed", seed, "--advise", "--calibration", "c.json", "--figure", "x.png")
    assert measure(inside, "a.npy", "far.npy", *more)["seed"] == int(seed)
    assert measure(inside, "digits#train", "digits", "--limit", "20", "--features", "advkit/cnn", "--seed", seed)


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


def test_a_target_of_less_variety_is_told(feature_files: Path, inside: Run) -> None:
    generator = np.random.default_rng(0)
    for name, count, scale in (("bright", 40, 1.0), ("other", 20, 1.0), ("dull", 20, 0.6)):
        np.save(f"{name}.npy", scale * generator.normal(size=(count, 200)))
    report = measure(inside, "bright.npy", "dull.npy", "other.npy")
    (told,) = [flag for flag in report["flags"] if "less varied" in flag]
    assert told.startswith("dull.npy: less varied than bright.npy")


def test_a_bound_on_the_ratio_is_the_exit_status(feature_files: Path, inside: Run) -> None:
    def status(*bound: str) -> int:
        found = inside("domain-distance", "a.npy", "near.npy", "far.npy", *FEW, *bound)
        assert ("gate failed: Fréchet ratio a.npy -> far.npy" in found.stderr) == (found.returncode == 1)
        assert json.loads(found.stdout)["status"] == ("gate-failed" if found.returncode else "done")
        return found.returncode

    assert [status("--fail-above", "1000"), status("--fail-above", "3"), status("--fail-below", "0.1")] == [0, 1, 0]


def test_a_ratio_to_a_floor_of_nothing_keeps_no_bound(feature_files: Path, inside: Run) -> None:
    np.save("flat.npy", np.ones((40, 6)))
    for bound in ("--fail-above", "--fail-below"):
        found = inside("domain-distance", "flat.npy", "far.npy", *FEW, bound, "1")
        assert (found.returncode, json.loads(found.stdout)["status"]) == (1, "gate-failed")
        assert "far.npy is undefined (halves of flat.npy are at distance 0)" in found.stderr
        assert "no images" not in found.stderr


def test_fewer_images_than_features_are_told_once(feature_files: Path, inside: Run) -> None:
    def told(n: int) -> list[str]:
        flags = measure(inside, "a.npy", "far.npy", "mid.npy", "--subsample", str(n))["flags"]
        return [flag for flag in flags if "singular" in flag]

    (flag,) = told(6)
    assert flag.startswith("6 images of each and 6 features: covariances are singular")
    assert told(7) == []


def test_the_table_names_the_target_that_keeps_draws_small(feature_files: Path, inside: Run) -> None:
    def lines(*more: str) -> list[str]:
        found = DomainDistanceResult.model_validate(measure(inside, "a.npy", "far.npy", "few.npy", *more)["result"])
        return [line for line in table(found) if "has no more than" in line]

    np.save("few.npy", np.load("far.npy")[:8])
    assert lines() == ["few.npy has no more than 8 images"]
    assert lines("--subsample", "6") == []


def test_advice_is_monotone_and_names_no_threshold(feature_files: Path, inside: Run) -> None:
    advice = measure(inside, "a.npy", "far.npy", "near.npy", "mid.npy", "--advise")["result"]["advice"]
    assert advice["order"] == ["near.npy", "mid.npy", "far.npy"]
    assert advice["calibration"] is None
    assert "larger the ratio" in advice["text"]
    assert "No threshold is known" in advice["text"]
    assert measure(inside, "a.npy", "far.npy")["result"]["advice"] is None


def test_the_order_says_where_intervals_overlap(feature_files: Path, inside: Run) -> None:
    result = measure(inside, "a.npy", "far.npy", "near.npy", "mid.npy", "--advise")["result"]

    def order(*intervals: tuple[float, float]) -> str:
        for one, ends in zip(result["targets"], intervals, strict=True):
            one["distances"]["frechet"]["ratio_interval"] = ends
        return table(DomainDistanceResult.model_validate(result))[-1]

    assert order((3, 4), (1, 1.5), (2, 2.5)) == "Order: near.npy < mid.npy < far.npy"
    told = order((2.4, 4), (1, 1.5), (2, 2.5))
    assert told == "Order: near.npy < mid.npy ~ far.npy (~: their intervals overlap)"
    assert order((2.4, 4), (1, 2.1), (2, 2.3)).startswith("Order: near.npy ~ mid.npy < far.npy (~")


def calibration(feature_files: Path, **more: Any) -> None:
    pairs = [
        {"source": "photo", "target": f"t{k}", "ratio": ratio, "gain": gain, "interval": [gain - 2, gain + 2]}
        for k, (ratio, gain) in enumerate([(1.0, -3.2), (1.5, -1.0), (2.0, 0.5), (4.0, 3.0), (8.0, 6.4), (3.0, 2.0)])
    ]
    document = {"spec": "advkit/calibration/1", "gain": "mAP@.5, points", "pairs": pairs} | more
    (feature_files / "c.json").write_text(json.dumps(document))


def test_a_calibration_foretells_gains_with_intervals(feature_files: Path, inside: Run) -> None:
    calibration(feature_files, images=24, features={"sha256": None, "layer": None, "size": None})
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


def test_a_calibration_of_other_features_is_told(feature_files: Path, inside: Run) -> None:
    calibration(feature_files, images=50, features={"layer": "backbone", "size": None})
    report = measure(inside, "a.npy", "far.npy", "--advise", "--calibration", "c.json")
    assert [flag for flag in report["flags"] if "calibration" in flag] == [
        "calibration: its ratios are of features with another layer (backbone, here None)",
        "calibration: its ratios are at n 50, here at 24; give --subsample 50",
    ]
    calibration(feature_files)
    report = measure(inside, "a.npy", "far.npy", "--advise", "--calibration", "c.json")
    assert "calibration: does not say of which features its ratios are" in report["flags"]


def test_the_table_has_every_domain(feature_files: Path) -> None:
    calibration(feature_files)
    long, longest = "A name too long for a column", "L" * 90 + "ast"
    words = ("domain-distance", "a.npy", "far.npy", f"{long}=mid.npy", f"{longest}=near.npy")
    status, table, _ = on_terminal(*words, *FEW, "--advise", "--calibration", "c.json", cwd=feature_files)
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
