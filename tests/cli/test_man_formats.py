"""advkit-formats.5 against the code: networks, genomes and data sets, limits, and the keys of what is written."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from executable import REPOSITORY, Run
from safetensors import safe_open

from advkit.data.builtin import BUILT_IN
from advkit.data.reference import load
from advkit.data.scenes import CLASSES, SIZES
from advkit.data.torchvision_datasets import NAMES
from advkit.files.checkpoint import read_checkpoint
from advkit.models.genome.genes import MAX_CHANNELS, MAX_DEPTH, MAX_HIDDEN, MAX_NODES
from advkit.models.genome.presets import PRESETS
from advkit.models.nets import NETS
from advkit.reports.envelope import TOOLS


@pytest.fixture(scope="module")
def page() -> str:
    """The page as running text, without macros."""
    text = (REPOSITORY / "man" / "advkit-formats.5").read_text()
    return " ".join(re.sub(r"^\.(?:[A-Z][a-z]) ?", "", text, flags=re.M).split())


def listed(page: str, start: str, end: str) -> set[str]:
    """Names with commas between, from behind ``start`` up to ``end``; what stands in brackets is left out."""
    between = page[page.index(start) + len(start) :]
    between = re.sub(r" ?\([^()]*\)", "", between[: between.index(end)])
    return {name.strip() for name in re.split(r",| and ", between) if name.strip()}


def test_listed() -> None:
    assert listed("The: a, b (of 2, or 3), and c, which", "The:", ", which") == {"a", "b", "c"}


def test_networks_genomes_and_data_sets_are_those_that_there_are(page: str) -> None:
    assert listed(page, "The advkit networks:", ", which is nothing") == {*NETS, "genome"}
    assert listed(page, "Genomes made by hand go by a NAME:", ". In a checkpoint") == set(PRESETS)
    assert listed(page, "NAME:DIR ", " through torchvision") == set(NAMES)


def test_built_in_data_are_those_that_there_are(page: str) -> None:
    listing = page[page.index("DATA REFERENCES") :]
    whole = listed(listing, "CC BY 4.0). Cm ", " built in, for detection:")
    crops = {f"scenes/{name}/crops" for name in listed(listing, "so too of ", " Pa PATH") | {"photo"}}
    assert {"digits"} | whole | crops == set(BUILT_IN)
    assert listed(listing, "Classes: ", ". Image i") == set(CLASSES)
    for part, size in SIZES.items():
        assert f"{size:,} {part}" in listing
        assert f"{len(load(f'scenes/photo/crops#{part}')):,} {part}" in listing


def test_limits_of_a_genome_are_those_that_are_checked(page: str) -> None:
    assert f"At most {MAX_NODES} nodes" in page
    assert f"channels (to {MAX_CHANNELS})" in page
    assert f"(1 to {MAX_DEPTH} convolutions)" in page
    assert f"(width of a linear layer, to {MAX_HIDDEN}, or 0)" in page


def test_keys_of_a_checkpoint(page: str, r: Path) -> None:
    assert listed(page, "holds sorted compact JSON:", "; packed ones") == {"spec", *read_checkpoint(r).meta}


@pytest.mark.parametrize("tool", TOOLS)
def test_keys_of_a_report(page: str, tool: str) -> None:
    schema = json.loads((REPOSITORY / "advkit/reports/schemas" / f"{tool}.json").read_text())
    assert listed(page, "no NaN:", ". Status is") == set(schema["properties"])


def test_times_in_a_report_are_those_that_advkit_1_excepts() -> None:
    text = " ".join((REPOSITORY / "man" / "advkit.1").read_text().split())
    schemas = "".join(path.read_text() for path in (REPOSITORY / "advkit/reports/schemas").iterdir())
    times = set(re.findall(r'"(started|\w*seconds)":', schemas))
    assert listed(text, "but for the times in them (", ")") == times


def test_keys_of_an_adversarial_set(page: str, r: Path, inside: Run, tmp_path: Path) -> None:
    out = tmp_path / "a.safetensors"
    assert inside("attack", r, "--data", "digits", "--limit", "10", "--steps", "1", "-o", out).returncode == 0
    with safe_open(out, "pt") as found:
        assert listed(page, "Tensors:", ". Made on detectors") - {""} == set(found.keys())
        metadata = json.loads(found.metadata()["advkit"])
    assert listed(page, "Its metadata:", ". Tensors:") | {"spec"} == set(metadata)
