"""timm and torchvision: their classifiers by name, and what they say about their own pretrained weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

from torch import nn

from advkit.files.errors import InputError
from advkit.models.config import INTERPOLATIONS, Crop, ModelConfig, Size

# Mean and standard deviation over ImageNet's training images, in pixels of [0, 1].
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def timm_names() -> Sequence[str]:
    """Every architecture of the installed timm, without pretrained tags."""
    import timm

    names: list[str] = timm.list_models()
    return names


def torchvision_names() -> Sequence[str]:
    """Every classifier of the installed torchvision."""
    import torchvision

    return cast("list[str]", torchvision.models.list_models(module=torchvision.models))


def timm_defaults(name: str) -> ModelConfig:
    """From the pretrained configuration of timm's ``name``; ImageNet's where it has none."""
    import timm

    config = timm.get_pretrained_cfg(name)
    return timm_description(vars(config) if config is not None else {})


def timm_description(config: Mapping[str, Any]) -> ModelConfig:
    """From a ``pretrained_cfg``, as timm also writes it into ``config.json``.

    Raises:
        ValueError, TypeError: values of the wrong kind.
    """
    channels, height, width = (int(n) for n in config.get("input_size") or (3, 224, 224))
    mean = tuple(float(value) for value in config.get("mean") or IMAGENET_MEAN)
    std = tuple(float(value) for value in config.get("std") or IMAGENET_STD)
    labels = tuple(str(label) for label in config.get("label_names") or ())
    classes = int(config.get("num_classes") or 1000)
    return ModelConfig(classes, (channels, height, width), mean, std, labels, _crop(config))


def _crop(config: Mapping[str, Any]) -> Crop | None:
    """What a ``pretrained_cfg`` says of the preparation of pictures; where it says half, the rest is timm's default.

    Raises:
        ValueError, TypeError: a crop_pct outside [0.1, 1], values of the wrong kind.
    """
    if not any(config.get(key) for key in ("crop_pct", "interpolation")):
        return None
    crop_pct = float(config.get("crop_pct") or 0.875)
    if not 0.1 <= crop_pct <= 1.0:
        raise ValueError(f"crop_pct {crop_pct:g} outside [0.1, 1]")
    interpolation, mode = str(config.get("interpolation") or "bicubic"), str(config.get("crop_mode") or "center")
    notes = []
    if interpolation not in INTERPOLATIONS:
        notes.append(f"pictures are scaled by bicubic interpolation, not {interpolation[:20]!r}, which advkit lacks")
        interpolation = "bicubic"
    if mode != "center":
        notes.append(f"pictures are cut from the centre: its crop_mode {mode[:20]!r} is not done here")
    return Crop(crop_pct, interpolation, tuple(notes))


def torchvision_defaults(name: str) -> ModelConfig:
    """From the preprocessing of torchvision's default weights for ``name``."""
    import torchvision

    weights = torchvision.models.get_model_weights(name).DEFAULT
    preset = weights.transforms()
    side = int(preset.crop_size[0])
    labels = tuple(weights.meta.get("categories", ()))
    kind = str(getattr(preset.interpolation, "value", "bilinear"))
    crop = _crop({"crop_pct": _fraction(side, int(preset.resize_size[0])), "interpolation": kind})
    return ModelConfig(len(labels) or 1000, (3, side, side), tuple(preset.mean), tuple(preset.std), labels, crop)


def _fraction(side: int, scaled: int) -> float:
    """The crop_pct by which ``side`` is cut from ``scaled`` pixels, though quotients round and sides are floored."""
    crop_pct = min(1.0, side / scaled)
    return math.nextafter(crop_pct, 0.0) if int(side / crop_pct) < scaled else crop_pct


def build_timm(name: str, num_classes: int, input_size: Size, model_args: Mapping[str, Any]) -> nn.Module:
    """timm's ``name`` with fresh weights for images of ``input_size``."""
    import timm

    def make(**more: Any) -> nn.Module:
        net: nn.Module = timm.create_model(name, num_classes=num_classes, in_chans=input_size[0], **more)
        return net

    try:
        if "img_size" in model_args or input_size[1:] == timm_defaults(name).input_size[1:]:
            return make(**model_args)
        try:  # transformers must be told the size of the images, convolutional nets can't be
            return make(img_size=input_size[1:], **model_args)
        except TypeError:
            return make(**model_args)
    except InputError:
        raise
    except Exception as error:
        raise _refused(f"timm/{name}", input_size, model_args, error) from error


def build_torchvision(name: str, num_classes: int, input_size: Size, model_args: Mapping[str, Any]) -> nn.Module:
    """torchvision's ``name`` with fresh weights."""
    import torchvision

    if input_size[0] != 3:
        raise InputError(f"torchvision/{name}: takes colour images, {input_size[0]} channels given; try timm/{name}")
    if name in ("inception_v3", "googlenet"):  # their auxiliary classifiers would change what the net returns
        model_args = {"aux_logits": False, "init_weights": True, **model_args}
    try:
        return cast(nn.Module, torchvision.models.get_model(name, weights=None, num_classes=num_classes, **model_args))
    except Exception as error:
        raise _refused(f"torchvision/{name}", input_size, model_args, error) from error


def pretrained_timm(name: str) -> nn.Module:
    """timm's ``name`` with the weights that timm downloads (or finds in its cache)."""
    import timm

    try:
        net: nn.Module = timm.create_model(name, pretrained=True)
    except Exception as error:
        raise no_download(f"timm/{name}", error) from error
    return net


def pretrained_torchvision(name: str) -> nn.Module:
    """torchvision's ``name`` with its default weights, downloaded (or found in the cache)."""
    import torchvision

    try:
        return cast(nn.Module, torchvision.models.get_model(name, weights="DEFAULT"))
    except Exception as error:
        raise no_download(f"torchvision/{name}", error) from error


def _refused(what: str, input_size: Size, model_args: Mapping[str, Any], error: Exception) -> InputError:
    given = f" with {', '.join(sorted(model_args))}" if model_args else ""
    size = "x".join(map(str, input_size))
    return InputError(f"{what}: can't be built for {size} images{given}: {type(error).__name__}: {str(error)[:200]}")


def no_download(what: str, error: Exception) -> InputError:
    """The one line for weights that a library would have to fetch and can't."""
    why = f"{type(error).__name__}: {str(error)[:160]}"
    return InputError(f"{what}@pretrained: no pretrained weights to be had: {why}; give {what}@FILE instead")
