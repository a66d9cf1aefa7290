"""Genomes from the command line: trained by name or from a file, then taken by the other tools."""

from __future__ import annotations

import json
from pathlib import Path

from executable import Run, one_line

from advkit.files.checkpoint import read_checkpoint
from advkit.models.genome.canonical import canonical
from advkit.models.genome.genes import to_json
from advkit.models.genome.presets import named


def test_train_and_evaluate(inside: Run, tmp_path: Path) -> None:
    file, out = tmp_path / "g.json", tmp_path / "e.safetensors"
    file.write_text(json.dumps(to_json(named("patch"))))
    options = ["--data", "digits", "--limit", "200", "--epochs", "1"]
    assert inside("train", "--arch", f"advkit/genome:{file}", *options, "-o", out).returncode == 0
    meta = read_checkpoint(out).meta
    assert meta["architecture"] == "advkit/genome"
    assert meta["model_args"] == {"genome": to_json(canonical(named("patch")))}
    again = inside("train", "--arch", "advkit/genome:patch", *options, "-o", tmp_path / "b.safetensors")
    assert again.returncode == 0
    assert (tmp_path / "b.safetensors").read_bytes() == out.read_bytes()
    found = inside("evaluate", out, "--data", "digits", "--limit", "50", "--json")
    assert found.returncode == 0
    assert json.loads(found.stdout)["status"] == "done"


def test_another_genome_of_the_same_weights_is_another_run(inside: Run, tmp_path: Path) -> None:
    file, out = tmp_path / "g.json", tmp_path / "e.safetensors"
    options = ["--data", "digits", "--limit", "200", "--epochs", "1", "-o", out]
    assert inside("train", "--arch", "advkit/genome:patch", *options).returncode == 0
    file.write_text(json.dumps({**to_json(named("patch")), "head": {"pool": "max", "hidden": 0}}))
    assert "another run" in one_line(inside("train", "--arch", f"advkit/genome:{file}", *options))


def test_an_image_that_is_too_small_is_one_line(inside: Run, tmp_path: Path) -> None:
    options = ["--data", "digits", "--limit", "100", "-o", tmp_path / "e.safetensors"]
    refused = inside("train", "--arch", "advkit/genome:stem7", *options)
    assert refused.returncode == 2
    assert "less than a 2x2 map of 8x8 images" in one_line(refused)
