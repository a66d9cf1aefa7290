"""Files of strangers can't ask for nets that are never finished, nor for classes and names that don't fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from advkit.files.errors import InputError
from advkit.models import infer, limits, reference


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A timm directory of test_resnet without config.json."""
    save_file(timm.create_model("test_resnet", num_classes=2).state_dict(), tmp_path / "model.safetensors")
    return tmp_path


def written(folder: Path, text: str | None = None, **said: Any) -> str:
    pretrained = {"input_size": said.pop("input_size", [3, 64, 64]), "num_classes": 2}
    config = {"architecture": "test_resnet", "num_classes": 2, "pretrained_cfg": pretrained} | said
    (folder / "config.json").write_text(json.dumps(config).replace('"TEXT"', text or ""))
    return str(folder)


def test_the_directory_itself_loads(folder: Path) -> None:
    assert reference.load(written(folder, label_names=["a", "b"])).spec.labels == ("a", "b")


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ({"architecture": "vit_tiny_patch16_224", "model_args": {"depth": 10**9}}, "argument is 1e+09"),
        ({"architecture": "vit_tiny_patch16_224", "model_args": {"depth": 10_000}}, "over 300 modules"),
        ({"architecture": "resnet18", "model_args": {"layers": [2, 2, 10**7, 2]}}, "argument is 1e+07"),
        ({"architecture": "resnet18", "model_args": {"layers": [2, 2, 9_000, 2]}}, "over 300 modules"),
        ({"architecture": "efficientnet_b0", "model_args": {"depth_multiplier": 1e6}}, "argument is 1e+06"),
        ({"model_args": {"block_args": [[[[[[[[[[1]]]]]]]]]]}}, "nested"),
        ({"num_classes": 10**12}, "1000000000000 classes; give 1 to 1,000,000"),
        ({"num_classes": -1}, "-1 classes"),
        ({"input_size": [3, 20000, 20000]}, "3x20000x20000 are over the limit"),
        ({"input_size": [3, 0, 64]}, "must be positive"),
        ({"label_names": ["a", "b", "c"]}, "3 label_names for 2 classes"),
        ({"label_names": ["a"]}, "1 label_names for 2 classes"),
    ],
)
def test_directories_that_ask_for_too_much(
    folder: Path, said: dict[str, Any], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MOST_MODULES", 300)
    with pytest.raises(InputError) as caught:
        reference.load(written(folder, **said))
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", ["Infinity", "-Infinity", "NaN", "1e400"])
@pytest.mark.parametrize("key", ["num_classes", "depth"])
def test_numbers_that_are_none(folder: Path, key: str, value: str) -> None:
    said: dict[str, Any] = {"num_classes": "TEXT"} if key == "num_classes" else {"model_args": {"depth": "TEXT"}}
    with pytest.raises(InputError):
        reference.load(written(folder, text=value, **said))


def test_a_checkpoint_asks_for_too_much(tmp_path: Path) -> None:
    from advkit.files.checkpoint import Checkpoint, write_checkpoint

    meta = {
        "architecture": "torchvision/vgg11", "model_args": {"dropout": 1e30}, "num_classes": 2, "labels": [],
        "input_size": [3, 32, 32], "mean": [0.5] * 3, "std": [0.5] * 3,
    }  # fmt: skip
    write_checkpoint(tmp_path / "c.safetensors", Checkpoint({"weight": torch.zeros(1)}, meta))
    with pytest.raises(InputError, match=r"argument is 1e\+30"):
        reference.load(str(tmp_path / "c.safetensors"))


def test_the_limit_ends_with_its_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST_MODULES", 300)

    def many(count: int) -> torch.nn.Module:
        return torch.nn.Sequential(*(torch.nn.Identity() for _ in range(count)))

    with limits.few_modules("x"):
        many(limits.MOST_MODULES)
    with pytest.raises(InputError, match="x: asks for a net of over"), limits.few_modules("x"):
        infer.meta_init(lambda: many(limits.MOST_MODULES + 1))
    many(limits.MOST_MODULES + 1)
