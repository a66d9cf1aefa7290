"""``adapt`` with detectors."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from adapting import voc
from executable import Run, done, one_line
from safetensors.torch import load_file

from advkit.reports.adapt import AdaptResult, table


@pytest.mark.parametrize("method", ["local-global", "mean-teacher"])
def test_a_detector_is_adapted_without_the_targets_boxes(
    method: str, inside: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a process: its boxes are garbled, then deleted."""
    monkeypatch.chdir(tmp_path)
    voc(Path("source"), 0), voc(Path("target"), 1), voc(Path("test"), 2, 4)
    short = ["--epochs", "1", "--batch-size", "4", "--optimizer", "adamw", "--lr", "0.001", "--validation", "0", "-q"]
    own = ["--threshold", "0.05"] if method == "mean-teacher" else ["--adversarial", "--eps", "4/255"]
    command = ["adapt", "advkit/tiny-ssd", "--source", "source", "--target", "target", "--method", method, *own, *short]
    found = []
    for k in range(3):
        if k == 1:
            for file in Path("target/Annotations").iterdir():
                file.write_text("garbled")
        elif k == 2:
            shutil.rmtree("target/Annotations")
        compare = ["--compare", "test"] if k == 0 else []
        run = done if k == 0 else inside
        told = run(*command, *compare, "-o", f"{k}.safetensors", "--json")
        assert told.returncode == 0, told.stderr
        found.append((Path(f"{k}.safetensors").read_bytes(), json.loads(told.stdout)["result"]["epochs"]))
        if k == 0:
            result = json.loads(told.stdout)["result"]
    assert found[1] == found[2]
    assert found[0][1] == found[1][1]
    tensors = [load_file(f"{k}.safetensors") for k in range(2)]
    assert all((tensors[0][key] == tensors[1][key]).all() for key in tensors[0])
    (record,) = result["epochs"]
    if method == "mean-teacher":
        assert record["target_images"] == 8
        assert record["pseudo_boxes"] >= record["pseudo_images"]
    else:
        assert 0.0 <= record["local_domain_accuracy"] <= 1.0
        assert 0.0 <= record["global_domain_accuracy"] <= 1.0
        assert record["forwards_per_image"] == 2.0
        head, row, legend = table(AdaptResult.model_validate(result))[1:4]
        assert legend.startswith("im, snd, bnm: ")
        told = f"{100 * record['local_domain_accuracy']:.1f}/{100 * record['global_domain_accuracy']:.1f}"
        assert row[: head.index("  held-out")].endswith(f" {told}")
    comparison = result["comparison"]
    assert [model["objects"] for model in comparison["models"]] == [4, 4]
    (gain,) = comparison["gains"]
    rates = [model["map50"] for model in comparison["models"]]
    assert gain["map50"] == pytest.approx(rates[1] - rates[0])
    assert gain["accuracy"] is None


def test_what_a_detector_has_not_is_refused_before_data_are_read(inside: Run, tmp_path: Path) -> None:
    command = [
        "adapt",
        "advkit/tiny-ssd",
        "--source",
        "MISSING",
        "--target",
        "MISSING",
        "-o",
        tmp_path / "x.safetensors",
    ]
    for options, words in (
        ("--method dann", ("--method dann: is not for detection", "local-global")),
        ("--adversarial --objective ce", ("--objective ce",)),
        ("--label-smoothing 0.1", ("--label-smoothing", "detection")),
    ):
        line = one_line(inside(*command, *options.split()))
        assert all(word in line for word in words), line
