"""A model directory in timm's Hugging Face layout: ``config.json`` and ``model.safetensors``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from advkit.files.errors import InputError
from advkit.models.config import ModelConfig, check
from advkit.models.libraries import timm_description

_WEIGHTS = ("model.safetensors", "pytorch_model.bin")


def read_directory(path: Path) -> tuple[str, ModelConfig, dict[str, Any], Path]:
    """Architecture, description, model arguments and weights file of a model directory.

    Raises:
        InputError: files missing, a config that is damaged or not timm's.
    """
    config = _read_config(path / "config.json")
    weights = next((path / name for name in _WEIGHTS if (path / name).is_file()), None)
    if weights is None:
        raise InputError(f"{path}: no {_WEIGHTS[0]} beside config.json; copy it there")
    architecture = config.get("architecture")
    if not isinstance(architecture, str):
        raise InputError(f"{path}: its config.json names no timm architecture; only directories in timm's layout load")
    try:
        pretrained = config.get("pretrained_cfg") or {}
        found = timm_description({**config, **pretrained})
        # The config beside the weights knows of a new classifier; pretrained_cfg may still speak of the first one.
        count = int(config.get("num_classes") or found.num_classes)
        own = _labels(config)
        labels = own or _labels(pretrained)
        model_args = dict(config.get("model_args") or {})
    except (TypeError, ValueError, OverflowError, AttributeError) as error:
        raise InputError(f"{path}: its config.json has values of the wrong kind ({error}); write it again") from error
    if own and len(own) != count:
        raise InputError(f"{path}: its config.json has {len(own)} label_names for {count} classes; give one each")
    found = replace(found, num_classes=count, labels=labels if len(labels) == count else ())
    check(str(path), found)
    # timm writes the size of the images into model_args at times; the description holds it already.
    return f"timm/{architecture}", found, {k: v for k, v in model_args.items() if k not in _KNOWN}, weights


_KNOWN = ("num_classes", "in_chans")


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"{path.parent}: a directory without config.json is no model; give a file or a model"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read as JSON ({type(error).__name__}); write it again") from error
    if not isinstance(config, dict):
        raise InputError(f"{path}: is not a JSON object; write it again")
    return config


def _labels(config: Mapping[str, Any]) -> tuple[str, ...]:
    names = config.get("label_names") or config.get("labels") or ()
    return tuple(str(name) for name in names) if isinstance(names, list | tuple) else ()
