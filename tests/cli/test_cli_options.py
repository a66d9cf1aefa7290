"""Every option of every command does what it is there for: flipped, it changes the result, or by contract it doesn't.

An option without a row in flips.py fails here.
"""

from __future__ import annotations

import functools
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from executable import Run
from flips import FLIPS, MODELS, OWN, Elsewhere, Flip
from PIL import Image
from safetensors.torch import load_file

from advkit.commands.adapt_config import AdaptConfig
from advkit.commands.adv_pretrain_config import AdvPretrainConfig
from advkit.commands.attack_options import AttackConfig
from advkit.commands.config import Config, option_fields
from advkit.commands.domain_distance_config import DistanceConfig
from advkit.commands.evaluate import EvaluateConfig
from advkit.commands.matrix_config import MatrixConfig
from advkit.commands.train_config import TrainConfig
from advkit.commands.visualize import AttentionConfig
from advkit.commands.visualize_features import FeaturesConfig

CONFIGS: dict[str, type[Config]] = {
    "train": TrainConfig,
    "adv-pretrain": AdvPretrainConfig,
    "adapt": AdaptConfig,
    "attack": AttackConfig,
    "transfer-matrix": MatrixConfig,
    "domain-distance": DistanceConfig,
    "evaluate": EvaluateConfig,
    "visualize attention": AttentionConfig,
    "visualize features": FeaturesConfig,
}
TESTS = Path(__file__).parents[1]
SPENT = ("attack_seconds",)
# Written somewhere else, a result is the same; only these options are about where.
PLACES = {"out": "output", "figure": "figure"}
CASES = [(name, option) for name, rows in FLIPS.items() for option, row in rows.items() if isinstance(row, Flip)]


@pytest.mark.parametrize("name", CONFIGS)
def test_every_option_has_a_row(name: str) -> None:
    assert set(FLIPS[name]) == {field.name for field in option_fields(CONFIGS[name])}


def test_tests_elsewhere_exist() -> None:
    text = "".join(path.read_text() for path in TESTS.rglob("test_*.py"))
    names = set(re.findall(r"^def (test_\w+)\(", text, re.M))
    wanted = {row.test for rows in FLIPS.values() for row in rows.values() if isinstance(row, Elsewhere)}
    assert wanted <= names


@pytest.fixture(scope="module")
def folder(checkpoints: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two checkpoints, an adversarial set of ``OWN``'s sample, and a folder of colour pictures in two sizes."""
    place = tmp_path_factory.mktemp("flips")
    for name in ("r", "r2"):
        shutil.copy(checkpoints / f"{name}.safetensors", place)
    generator = np.random.default_rng(0)
    for number in range(16):
        file = place / "pictures" / str(number % 2) / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (20 + number, 24, 3), dtype=np.uint8)).save(file)
    return place


@pytest.fixture
def runner(folder: Path, inside: Run, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    monkeypatch.chdir(folder)
    return functools.partial(result_of, inside)


@pytest.fixture(scope="module")
def unflipped() -> dict[tuple[str, ...], dict[str, Any]]:
    """What runs found without the flipped option, by what they were asked."""
    return {}


def result_of(inside: Run, name: str, models: str, data: str, *more: str) -> dict[str, Any]:
    """What a run found: its report's result, and the images or the picture that it wrote."""
    own = OWN[name].format(models=models, data=data).split()
    if name.startswith("visualize") and not {"--count", "--index"} & set(more):
        own += ["--count", "1"]  # the fewest pictures
    forced = ["--force"] if name in ("train", "adv-pretrain", "adapt", "attack") else []
    found = inside(*name.split(), *own, *more, *forced, "-q")
    assert found.returncode == 0, found.stderr
    result: dict[str, Any] = json.loads(found.stdout)["result"]
    if name == "attack" and result["output"].endswith(".safetensors"):
        result["tensors"] = load_file(result["output"])
    return {key: value for key, value in result.items() if key not in SPENT}


def alike(a: Any, b: Any) -> bool:
    """Equal up to the last bits of sums over batches."""
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return a.shape == b.shape and torch.allclose(a.float(), b.float(), atol=1e-5)
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(alike(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(alike(x, y) for x, y in zip(a, b, strict=True))
    return a == pytest.approx(b, rel=1e-6, abs=1e-9) if isinstance(a, float) and isinstance(b, float) else bool(a == b)


@pytest.mark.parametrize(("name", "option"), CASES, ids=[f"{name} {option}" for name, option in CASES])
def test_a_flipped_option_changes_the_result(
    name: str,
    option: str,
    folder: Path,
    runner: Callable[..., dict[str, Any]],
    unflipped: dict[tuple[str, ...], dict[str, Any]],
) -> None:
    row = FLIPS[name][option]
    assert isinstance(row, Flip)
    models = row.models or MODELS.get(name, "r.safetensors")
    data = row.data or "digits"
    if option == "adversarial":
        runner("attack", "r.safetensors", "digits", "-o", "adv.safetensors")
    base = (name, models, data, *row.base.split())
    if base not in unflipped:  # many rows flip an option of the same run
        unflipped[base] = runner(*base)
    before = dict(unflipped[base])
    after = runner(name, row.flip_models or models, row.flip_data or data, *row.base.split(), *row.flip.split())
    for place, key in PLACES.items():
        if option != place:
            before.pop(key, None), after.pop(key, None)
    assert alike(before, after) == row.same
