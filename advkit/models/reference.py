"""MODEL references: a checkpoint, ARCH[@WEIGHTS], a Hugging Face or timm directory, or the user's own factory."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from advkit.files.checkpoint import is_checkpoint, read_checkpoint
from advkit.files.errors import InputError
from advkit.files.tensors import fingerprint, read_header
from advkit.models import build
from advkit.models.network import ModelSpec, Network
from advkit.models.weights import fill, read_state_dict


@dataclasses.dataclass(frozen=True)
class Wish:
    """What the caller knows of a network that a bare reference does not say; None for don't know.

    Attributes:
        num_classes: K.
        input_size: (C, H, W).
        mean, std: normalisation in pixel units of [0, 1].
        labels: class names.
        seed: of fresh weights.
    """

    num_classes: int | None = None
    input_size: tuple[int, int, int] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    labels: tuple[str, ...] = ()
    seed: int = 0


def load(ref: str, wish: Wish | None = None, *, device: str | torch.device = "cpu") -> Network:
    """The network that ``ref`` names, in eval mode and frozen.

    Args:
        ref: ``x.safetensors`` (a checkpoint); ``ARCH``, ``ARCH@FILE``, ``ARCH@pretrained`` with ARCH one of
            ``advkit/NAME``, ``timm/NAME``, ``torchvision/NAME``; a directory with ``config.json`` and
            ``model.safetensors``; ``FILE.py:FACTORY[@WEIGHTS]``, which runs that file.
        wish: fills in what the reference leaves open; a class count or size that contradicts it is an error.
        device: where the network shall live.

    Raises:
        InputError: anything wrong with it, in one line.
    """
    wish = wish or Wish()
    arch, _, weights = ref.partition("@")
    if arch.partition("/")[0] in build.LIBRARIES and not Path(ref).exists():
        network = _architecture(ref, arch, weights, wish)
    elif ".py:" in arch:
        network = _factory(ref, arch, weights, wish)
    elif Path(ref).is_dir():
        network = _directory(ref, Path(ref))
    elif Path(ref).is_file():
        network = _checkpoint(ref, Path(ref))
    else:
        raise InputError(f"{ref}: no such file, and not an architecture (advkit/NAME, timm/NAME, torchvision/NAME)")
    spec = dataclasses.replace(network.spec, ref=ref, sha256=fingerprint(network.net.state_dict()))
    _check(spec, wish)
    network.spec = spec
    return network.to(device).eval().requires_grad_(False)


def _check(spec: ModelSpec, wish: Wish) -> None:
    if wish.num_classes is not None and spec.num_classes != wish.num_classes:
        raise InputError(f"{spec.ref}: has {spec.num_classes} classes, {wish.num_classes} are needed; use other data")
    if wish.input_size is not None:
        needed = spec.input_size or (len(spec.mean), *wish.input_size[1:])
        if needed != wish.input_size:
            raise InputError(f"{spec.ref}: takes images of {_size(needed)}, not {_size(wish.input_size)}")


def _size(size: tuple[int, int, int]) -> str:
    return "x".join(map(str, size))


def _checkpoint(ref: str, path: Path) -> Network:
    if path.suffix != ".safetensors":
        raise InputError(f"{ref}: bare weights don't say their architecture; write ARCH@{ref}")
    if not is_checkpoint(read_header(path)[1]):
        raise InputError(f"{ref}: not an advkit checkpoint; for bare weights write ARCH@{ref}")
    checkpoint = read_checkpoint(path)
    meta = checkpoint.meta
    channels, height, width = meta["input_size"]
    network = build.create(
        str(meta["architecture"]),
        num_classes=meta["num_classes"],
        input_size=(channels, height, width),
        mean=tuple(meta["mean"]),
        std=tuple(meta["std"]),
        labels=tuple(map(str, meta["labels"])),
        model_args=meta["model_args"],
    )
    fill(network.net, checkpoint.tensors, ref)
    return network


def _architecture(ref: str, arch: str, weights: str, wish: Wish) -> Network:
    if weights == "pretrained":
        return _pretrained(ref, arch)
    if not weights:
        return build.create(
            arch,
            num_classes=wish.num_classes or 10,
            input_size=wish.input_size,
            mean=wish.mean,
            std=wish.std,
            labels=wish.labels,
            seed=wish.seed,
        )
    state = read_state_dict(Path(weights))
    channels = next((int(t.shape[1]) for t in state.values() if t.ndim == 4), 3)
    probe = build.make(arch, 10, channels, wish.input_size, {}, 0)
    network = build.create(
        arch,
        num_classes=_class_count(probe, state) or wish.num_classes or 10,
        input_size=wish.input_size if wish.input_size and wish.input_size[0] == channels else None,
        channels=channels,
        mean=wish.mean,
        std=wish.std,
        labels=wish.labels,
    )
    fill(network.net, state, ref)
    return network


def _class_count(probe: nn.Module, state: Mapping[str, Tensor]) -> int | None:
    """Rows of the last linear layer that ``state`` has."""
    names = [name for name, module in probe.named_modules() if isinstance(module, nn.Linear)]
    for name in reversed(names):
        if f"{name}.weight" in state:
            return int(state[f"{name}.weight"].shape[0])
    return None


def _pretrained(ref: str, arch: str) -> Network:
    library, _, name = arch.partition("/")
    if library == "advkit":
        raise InputError(f"{ref}: advkit has no weights to download; write {arch}@FILE")
    try:
        if library == "timm":
            import timm

            net = timm.create_model(name, pretrained=True)
            config = net.pretrained_cfg
            size, mean, std = config["input_size"], config["mean"], config["std"]
            count, labels = net.num_classes, ()
        else:
            import torchvision

            choice = torchvision.models.get_model_weights(name).DEFAULT
            net = torchvision.models.get_model(name, weights=choice)
            crop = choice.transforms()
            side = crop.crop_size[0]
            size, mean, std = (3, side, side), crop.mean, crop.std
            labels = tuple(choice.meta["categories"])
            count = len(labels)
    except Exception as error:  # the libraries raise anything from URLError to RuntimeError
        raise InputError(f"{ref}: no pretrained weights: {error}; check the name and the network connection") from error
    return Network(net, ModelSpec(ref, "", arch, count, tuple(size), tuple(mean), tuple(std), labels))


def _directory(ref: str, path: Path) -> Network:
    config_path, weights = path / "config.json", path / "model.safetensors"
    if not config_path.is_file() or not weights.is_file():
        raise InputError(f"{ref}: a model directory holds config.json and model.safetensors")
    try:
        config = json.loads(config_path.read_text())
        arch = str(config["architecture"])
        kept = config.get("pretrained_cfg", {})
        size = tuple(int(n) for n in kept.get("input_size", (3, 224, 224)))
        count = int(config.get("num_classes", kept.get("num_classes", 1000)))
        mean, std = tuple(map(float, kept.get("mean", ()))), tuple(map(float, kept.get("std", ())))
        labels = tuple(map(str, config.get("label_names", ())))
        model_args = dict(config.get("model_args", {}))
        channels, height, width = size
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{config_path}: not a timm config ({type(error).__name__}: {error})") from error
    network = build.create(
        f"timm/{arch}",
        num_classes=count,
        input_size=(channels, height, width),
        mean=mean or None,
        std=std or None,
        labels=labels,
        model_args=model_args,
    )
    fill(network.net, read_state_dict(weights), ref)
    return network


def _factory(ref: str, arch: str, weights: str, wish: Wish) -> Network:
    file, _, name = arch.rpartition(":")
    factory = _import(ref, Path(file), name)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(wish.seed)
            net = factory()
    except Exception as error:  # foreign code
        raise InputError(f"{ref}: {name}() raised {type(error).__name__}: {error}") from error
    if not isinstance(net, nn.Module):
        raise InputError(f"{ref}: {name}() returned {type(net).__name__}, not a torch.nn.Module")
    if weights:
        fill(net, read_state_dict(Path(weights)), ref)
    channels = wish.input_size[0] if wish.input_size else next((p.shape[1] for p in net.parameters() if p.ndim == 4), 3)
    count = _class_count(net, net.state_dict()) or wish.num_classes or 10
    # The user's own module gets images in [0, 1] as they are, unless mean and std are given.
    mean, std = wish.mean or (0.0,) * channels, wish.std or (1.0,) * channels
    return Network(net, ModelSpec(ref, "", arch, count, wish.input_size, mean, std, wish.labels))


def _import(ref: str, file: Path, name: str) -> Callable[[], Any]:
    if not file.is_file():
        raise InputError(f"{ref}: no such file {file}")
    module_spec = importlib.util.spec_from_file_location(f"advkit_user_{file.stem}", file)
    assert module_spec is not None
    assert module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    try:
        module_spec.loader.exec_module(module)
    except Exception as error:  # foreign code
        raise InputError(f"{file}: raised {type(error).__name__}: {error}") from error
    factory = getattr(module, name, None)
    if not callable(factory):
        raise InputError(f"{ref}: {file} has no function {name!r}")
    return factory  # type: ignore[no-any-return]
