"""What the shapes of trained weights say: how many classes, how many channels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from advkit.files.errors import InputError
from advkit.models import build
from advkit.models.config import ModelConfig, ModelOverrides, Size

PROBE_CLASSES = 131  # a width that no layer of a known net has by itself
_POSITIONS = ("pos_embed", "pos_embedding")
_DRAWS = (Tensor.normal_, Tensor.uniform_)


class _Undrawn(TorchFunctionMode):
    """Draws nothing into tensors without memory: torch's normal_ for them imports its compiler, which takes seconds."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _DRAWS and args[0].is_meta:
            return args[0]
        return func(*args, **(kwargs or {}))


def meta_init(make: Callable[[], nn.Module]) -> nn.Module:
    """The net that ``make`` builds, without memory or random numbers spent on it where the net allows that."""
    try:
        with torch.device("meta"), _Undrawn():
            return make()
    except InputError:
        raise
    except Exception:  # some constructors compute with the tensors they make, which meta tensors can't
        return build.seeded(make, 0)


def probe(architecture: str, input_size: Size, model_args: Mapping[str, Any] | None = None) -> nn.Module:
    """The outline of ``architecture`` with a class count that is easily found again."""
    return meta_init(lambda: build.construct(architecture, PROBE_CLASSES, input_size, dict(model_args or {})))


def infer_from_state_dict(net: nn.Module, tensors: Mapping[str, Tensor], default: ModelConfig) -> ModelConfig:
    """``default`` with the classes, channels and size of ``tensors``, for which ``net`` is a :func:`probe`.

    Where the weights don't have the net's layers the default stays: the misfit is named later.
    """
    layers = [(name, m) for name, m in net.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    classes, channels = default.num_classes, default.input_size[0]
    first = next(((name, m) for name, m in layers if isinstance(m, nn.Conv2d)), None)
    offset = getattr(net, "label_offset", None)  # of a detector, whose head has so many outputs at each anchor
    for name, layer in layers:
        weight = tensors.get(f"{name}.weight")
        anchors, rest = divmod(layer.weight.shape[0], PROBE_CLASSES + (offset or 0))
        of_classes = anchors == 1 if offset is None else anchors > 0 and "cls" in name
        if of_classes and not rest and weight is not None and weight.dim() > 0:
            classes = weight.shape[0] // anchors - (offset or 0)
    if first is not None:
        weight = tensors.get(f"{first[0]}.weight")
        if weight is not None and weight.dim() == 4:
            channels = weight.shape[1] * first[1].groups
    size = (default.input_size[0], *(_trained_size(net, tensors) or default.input_size[1:]))
    found = replace(default, num_classes=classes, labels=_fitting(default.labels, classes), input_size=size)
    return with_channels(found, channels)


def is_positional(names: Iterable[str]) -> bool:
    """Whether weights of these ``names`` hold for one size of images: embeddings of positions are among them."""
    return any(name.endswith(_POSITIONS) for name in names)


def _trained_size(net: nn.Module, tensors: Mapping[str, Tensor]) -> tuple[int, int] | None:
    """(H, W) of the square grid of patches whose position embeddings ``tensors`` hold; None for other nets."""
    embed, ours, theirs = getattr(net, "patch_embed", None), getattr(net, "pos_embed", None), tensors.get("pos_embed")
    grid, patch = getattr(embed, "grid_size", None), getattr(embed, "patch_size", None)
    if not isinstance(ours, Tensor) or theirs is None or grid is None or patch is None:
        return None
    if ours.dim() != 3 or theirs.dim() != 3:
        return None
    places = theirs.shape[1] - (ours.shape[1] - grid[0] * grid[1])  # without those of class tokens
    side = math.isqrt(max(0, places))
    return (side * int(patch[0]), side * int(patch[1])) if side > 0 and side * side == places else None


def infer_from_module(net: nn.Module, wish: ModelOverrides) -> ModelConfig:
    """What a net of unknown making looks like: classes of its last linear layer or of the wish, channels of its first
    convolution, 32x32 pixels unless wished otherwise; mean 0 and std 1, for it may normalise by itself.
    """
    linear = [m for m in net.modules() if isinstance(m, nn.Linear)]
    first = next((m for m in net.modules() if isinstance(m, nn.Conv2d)), None)
    size = wish.input_size or (first.in_channels if first is not None else 3, 32, 32)
    classes = linear[-1].out_features if linear else wish.num_classes or 10
    return ModelConfig(classes, size, (0.0,) * size[0], (1.0,) * size[0])


def with_channels(config: ModelConfig, channels: int) -> ModelConfig:
    """``said`` for another number of channels, with the usual statistics of that number."""
    if channels == config.input_size[0]:
        return config
    mean, std = build.default_statistics(channels)
    return replace(config, input_size=(channels, *config.input_size[1:]), mean=mean, std=std)


def _fitting(labels: tuple[str, ...], classes: int) -> tuple[str, ...]:
    return labels if len(labels) == classes else ()
