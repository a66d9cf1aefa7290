"""Networks and images of the world: what others published is what advkit finds. Skipped where they are not at hand."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
from executable import REPOSITORY, Run

SHARED = REPOSITORY.parent / "shared" / "data"
WEIGHTS = SHARED / "weights" / "cifar10-resnet"
COUNT = 128


@pytest.fixture(scope="module")
def cifar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first CIFAR-10 test images in the official binary form."""
    if not (SHARED / "unpack.py").is_file() or not WEIGHTS.is_dir():
        pytest.skip("CIFAR-10 and its ResNets are not at ../shared/data")
    spec = importlib.util.spec_from_file_location("unpack", SHARED / "unpack.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = tmp_path_factory.mktemp("cifar")
    (folder / "test_batch.bin").write_bytes(bytes(module.records(50, 51))[: COUNT * 3073])
    return folder


@pytest.mark.slow
def test_an_attack_on_one_resnet_fools_its_deeper_sisters(cifar: Path, inside: Run) -> None:
    """PGD-10 at 8/255 on ResNet-20 leaves about 8 % of ResNet-32 and 44, which see 93 % of clean images rightly."""
    names = {"R20": "resnet20-12fca82f", "R32": "resnet32-d509ac18", "R44": "resnet44-014dd654"}
    models = [f"{name}=advkit/{file.partition('-')[0]}@{WEIGHTS / file}.th" for name, file in names.items()]
    command = ["transfer-matrix", *models, "--surrogate", "R20", "--data", cifar, "--no-gradients", "-q"]
    result = json.loads(inside(*command).stdout)["result"]
    assert result["images"] == COUNT
    for found in result["clean"]:
        assert found["accuracy"]["rate"] > 0.88
    pairs = {pair["victim"]: pair for pair in result["pairs"]}
    assert pairs["R20"]["raw"]["rate"] == 1.0
    for victim in ("R32", "R44"):
        assert 0.83 < pairs[victim]["raw"]["rate"] < 0.98
        assert pairs[victim]["cond"]["rate"] > 0.8
        assert pairs[victim]["noise"]["rate"] < 0.3
        assert pairs[victim]["flipped"]["rate"] < 0.3


@pytest.mark.skipif(not (SHARED / "usps").is_dir(), reason="MNIST and USPS are not at ../shared/data")
def test_another_post_office_lies_further_than_the_other_part_of_mnist(inside: Run) -> None:
    sets = [f"A={SHARED / 'mnist'}#test", f"B={SHARED / 'mnist'}#train", f"C={SHARED / 'usps'}#test"]
    found = inside("domain-distance", *sets, "--limit", "200", "--size", "16", "--advise", "-q")
    result = json.loads(found.stdout)["result"]
    same, other = result["targets"]
    assert same["distances"]["frechet"]["ratio"] < 1.4 < 5 < other["distances"]["frechet"]["ratio"]
    assert same["permutation_test"]["p_value"] > 0.01 > other["permutation_test"]["p_value"]
    assert same["distances"]["proxy_a"]["value"] < 0.6 < 1.5 < other["distances"]["proxy_a"]["value"]
    assert result["advice"]["order"] == ["B", "C"]
