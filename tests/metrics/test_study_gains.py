"""The study's analysis by styles: its average precision is the metric's; planted gains are found."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from advkit.metrics.mean_average_precision import MeanAveragePrecision

SCRIPT = Path(__file__).parents[1] / "studies/adaptation/gains.py"


@pytest.fixture(scope="module")
def gains() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gains", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def some_detections(images: int, seed: int) -> tuple[MeanAveragePrecision, dict[str, np.ndarray]]:
    """Boxes near objects and elsewhere, as the metric has them and as styles.py writes them."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.zeros(images, 2, 6)
    targets[..., :2] = 60 * torch.rand(images, 2, 2, generator=generator)
    targets[..., 2:4] = targets[..., :2] + 20
    predictions = torch.zeros(images, 6, 6)
    predictions[..., :4] = targets[:, [0, 1] * 3, :4] + 9 * torch.randn(images, 6, 4, generator=generator)
    predictions[..., 2:4] = torch.maximum(predictions[..., 2:4], predictions[..., :2] + 1)
    predictions[..., 4] = torch.rand(images, 6, generator=generator)
    count = MeanAveragePrecision(1)
    count.update(predictions, targets)
    found = count.matched
    return count, {
        "image": found.image,
        "score": found.score,
        "hit": found.hit[:, 0],
        "neutral": found.neutral[:, 0],
        "objects": found.objects[:, 0],
    }


def test_average_precision_of_some_images_is_that_of_these_alone(gains: ModuleType) -> None:
    whole, found = some_detections(30, 0)
    every = np.ones((1, 30), dtype=np.int32)
    assert gains.ap(found, np.arange(30), every)[0] == pytest.approx(whole.compute()["map50"])
    some = np.array([3, 8, 9, 21])
    part = MeanAveragePrecision(1)
    for k in some:
        part.update(whole._predictions[k][None], whole._targets[k][None])
    assert gains.ap(found, some, every[:, :4])[0] == pytest.approx(part.compute()["map50"])


def planted(folder: Path, name: str, right: dict[str, float], seed: int) -> Path:
    """Forty images a style with an object each, found in the share that is given, and a false box in each."""
    styles = sorted(right)
    found = np.tile(np.arange(40), len(styles)) < 40 * np.repeat([right[style] for style in styles], 40)
    images = len(found)
    path = folder / f"{name}-{seed}.npz"
    np.savez(
        path,
        image=np.repeat(np.arange(images), 2),
        score=np.tile([0.9, 0.3], images).astype(np.float32),
        hit=np.stack([found, np.zeros(images, dtype=bool)], 1).ravel(),
        neutral=np.zeros(2 * images, dtype=bool),
        objects=np.ones(images, dtype=np.int16),
        style=np.repeat(styles, 40),
    )
    return path


def test_planted_gains_are_found_and_ordered(
    gains: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gains, "RESAMPLES", 200)
    kid = {f"s{k}": float(k) for k in range(15)}
    plain = dict.fromkeys(kid, 0.5)
    hardened = {style: 0.05 + 0.065 * far for style, far in kid.items()}  # loses near, gains far
    files = [(planted(tmp_path, "p", plain, k), planted(tmp_path, "h", hardened, 10 + k)) for k in range(3)]
    found: dict[str, Any] = gains.gains_by_style(files, kid | {"absent": 3.0})
    near, far = found["gain"]["near"], found["gain"]["far"]
    assert near["interval"][0] < near["value"] < 0 < far["interval"][0] < far["value"] < far["interval"][1]
    assert found["spearman"]["interval"][0] > 0.3
    assert found["sign_rate"] > found["commoner_sign"]
    assert (found["seeds"], found["styles"]) == (3, 15)
    few = gains.gains_by_style(files[:1], kid)["gain"]["all"]["interval"]
    assert few[0] < few[1]


def test_images_styles_and_seeds_are_all_drawn_anew(
    gains: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where only one of them varies the interval still has a width, and none where nothing does."""
    monkeypatch.setattr(gains, "RESAMPLES", 200)

    def width(plain: list[dict[str, float]], hardened: list[dict[str, float]]) -> float:
        files = [
            (planted(tmp_path, "p", one, k), planted(tmp_path, "h", other, k))
            for k, (one, other) in enumerate(zip(plain, hardened, strict=True))
        ]
        low, high = gains.gains_by_style(files, {"a": 0.0, "b": 1.0, "c": 2.0})["gain"]["all"]["interval"]
        return float(high - low)

    none, all_right, half = (dict.fromkeys("abc", chance) for chance in (0.0, 1.0, 0.5))
    one_style = none | {"a": 1.0}
    assert width([none] * 2, [none] * 2) == 0.0
    assert width([none] * 2, [half] * 2) > 0.05, "images"
    assert width([none] * 2, [one_style] * 2) > 0.3, "styles"
    assert width([none] * 2, [none, all_right]) > 0.9, "seeds"


def test_the_source_alone_chooses_the_primary_eps(gains: ModuleType, tmp_path: Path) -> None:
    held = {
        "1": [((0.60, 0.2), (0.58, 0.4)), ((0.58, 0.2), (0.56, 0.4))],
        "2": [((0.60, 0.2), (0.56, 0.5)), ((0.58, 0.2), (0.54, 0.5))],
        "4": [((0.60, 0.2), (0.54, 0.6)), ((0.58, 0.2), (0.52, 0.6))],  # robust, and 6 points lost
    }
    assert gains.primary_eps(held) == "2"
    assert gains.primary_eps({"4": held["4"]}) is None
    epochs = [{"validation_map50": 0.1, "robust_map50": 0.1}, {"validation_map50": 0.5, "robust_map50": 0.3}]
    (tmp_path / "x-seed0.json").write_text(json.dumps({"result": {"epochs": epochs}}))
    assert gains.held_out(tmp_path / "x-seed0-art.npz") == (0.5, 0.3)
