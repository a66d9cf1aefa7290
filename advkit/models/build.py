"""Networks from architecture names, with fresh weights from a seed."""

from __future__ import annotations

import difflib
from typing import Any

import torch
from torch import nn

from advkit.files.errors import InputError
from advkit.models.nets import NETS
from advkit.models.network import ModelSpec, Network

LIBRARIES = ("advkit", "timm", "torchvision")
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def default_statistics(channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std when nobody says: those of ImageNet for colour (as the CIFAR weights in circulation use), else 0.5."""
    if channels == 3:
        return IMAGENET_MEAN, IMAGENET_STD
    return (0.5,) * channels, (0.5,) * channels


def create(
    architecture: str,
    *,
    num_classes: int,
    input_size: tuple[int, int, int] | None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    labels: tuple[str, ...] = (),
    seed: int = 0,
    model_args: dict[str, Any] | None = None,
    channels: int = 3,
) -> Network:
    """A fresh network: same seed, same weights; torch's global randomness is left alone.

    Args:
        architecture: ``advkit/NAME``, ``timm/NAME`` or ``torchvision/NAME``.
        num_classes: K.
        input_size: (C, H, W), or None where any size will do; ``channels`` then says C.
        mean, std: normalisation in pixel units; see :func:`default_statistics`.
        labels: class names.
        seed: of the weights.
        model_args: further arguments of the library's factory.
        channels: C without an input size.

    Raises:
        InputError: unknown architecture (close names are suggested), arguments that the factory refuses.
    """
    channels = input_size[0] if input_size else channels
    default_mean, default_std = default_statistics(channels)
    net = make(architecture, num_classes, channels, input_size, model_args or {}, seed)
    spec = ModelSpec(
        ref=architecture,
        sha256="",
        architecture=architecture,
        num_classes=num_classes,
        input_size=input_size,
        mean=mean or default_mean,
        std=std or default_std,
        labels=labels,
        model_args=model_args or {},
    )
    return Network(net, spec)


def make(
    architecture: str,
    num_classes: int,
    channels: int,
    input_size: tuple[int, int, int] | None,
    model_args: dict[str, Any],
    seed: int,
) -> nn.Module:
    """The bare module behind :func:`create`."""
    library, _, name = architecture.partition("/")
    makers = {"advkit": _advkit, "timm": _timm, "torchvision": _torchvision}
    if library not in makers or not name:
        raise InputError(f"{architecture}: not an architecture; write advkit/NAME, timm/NAME or torchvision/NAME")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            return makers[library](name, num_classes, channels, input_size, model_args)
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"{architecture}: cannot be built: {error}") from error


def _unknown(architecture: str, names: list[str]) -> InputError:
    close = difflib.get_close_matches(architecture.partition("/")[2], names, n=4, cutoff=0.4)
    library = architecture.partition("/")[0]
    hint = ", ".join(f"{library}/{name}" for name in close or sorted(names)[:12])
    return InputError(f"{architecture}: no such architecture; did you mean {hint}?")


def _advkit(name: str, num_classes: int, channels: int, size: object, model_args: dict[str, Any]) -> nn.Module:
    if name not in NETS:
        raise _unknown(f"advkit/{name}", list(NETS))
    net = NETS[name](num_classes=num_classes, in_channels=channels, **model_args)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):  # He et al. 2015
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return net


def _timm(
    name: str, num_classes: int, channels: int, size: tuple[int, int, int] | None, model_args: dict[str, Any]
) -> nn.Module:
    import timm

    if name.partition(".")[0] not in timm.list_models():
        raise _unknown(f"timm/{name}", timm.list_models())
    fixed = (timm.get_pretrained_cfg(name) or timm.get_pretrained_cfg(name.partition(".")[0])).fixed_input_size
    if fixed and size and "img_size" not in model_args:
        model_args = {**model_args, "img_size": size[1:]}
    net: nn.Module = timm.create_model(name, pretrained=False, num_classes=num_classes, in_chans=channels, **model_args)
    return net


def _torchvision(name: str, num_classes: int, channels: int, size: object, model_args: dict[str, Any]) -> nn.Module:
    import torchvision

    names = torchvision.models.list_models(module=torchvision.models)
    if name not in names:
        raise _unknown(f"torchvision/{name}", names)
    if channels != 3:
        raise InputError(f"torchvision/{name}: takes images of 3 channels, not {channels}; use an advkit or timm net")
    net: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=num_classes, **model_args)
    return net
