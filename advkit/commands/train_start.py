"""The network that a training starts from: a fresh one, weights to go on from, or foreign weights to pack.

Imported late: it needs torch.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from advkit.commands.checks import statistics
from advkit.commands.loading import is_fresh
from advkit.commands.train_config import TrainingConfig
from advkit.data.images import ImageSet
from advkit.data.statistics import mean_and_std
from advkit.files.errors import InputError
from advkit.models import build
from advkit.models import reference as model_reference
from advkit.models.config import Size
from advkit.models.heads import with_classes
from advkit.models.native_size import native_size
from advkit.models.network import Network


def weights_ref(config: TrainingConfig) -> str:
    """The MODEL whose weights a training starts from, be it for the backbone alone; empty without weights."""
    if _has_weights(config.arch):
        return config.arch
    return config.init or (config.backbone if "@" in config.backbone else "")


def _has_weights(arch: str) -> bool:
    return "@" in arch or ".py:" in arch


def open_network(config: TrainingConfig, images: ImageSet | None, train: Tensor, device: str) -> Network:
    """The network to train: a fresh one, weights to start from, or foreign weights to pack."""
    mean, std = statistics(config.mean, config.std)
    arch, start = config.arch, weights_ref(config)
    if config.init and _has_weights(arch):
        raise InputError("--arch with weights and --init both say where to start; give one")
    if not arch or _has_weights(arch):
        return load_start(start, images, mean, std, device, config.seed, anew=config.epochs > 0)
    if images is None:
        raise InputError("--epochs 0 packs weights: give --arch ARCH@FILE, or --data for a fresh network")
    other, (backbone, _, weights) = None, config.backbone.partition("@")
    if weights and config.init:
        raise InputError("--backbone with weights and --init both say where to start; give one")
    if start:
        other = load_start(start, images, None, None, device, config.seed, anew=config.epochs > 0)
        mean, std = mean or other.spec.mean, std or other.spec.std  # under which its weights were trained
        if (mean, std) != (other.spec.mean, other.spec.std):
            raise InputError(f"--init {start}: has its own mean and std; leave --mean and --std out")
    elif mean is None or std is None:
        found = mean_and_std(images, train)
        mean, std = mean or found[0], std or found[1]
    network = build.create(
        arch,
        num_classes=images.num_classes,
        input_size=_input_size(arch, images, config.size),
        mean=mean,
        std=std,
        labels=images.class_names,
        seed=config.seed,
        model_args={"backbone": backbone} if backbone else None,
    ).to(device)
    if other is not None:
        _start_from(network, other, start)
    return network


def _input_size(architecture: str, images: ImageSet, side: int | None) -> Size:
    """(C, H, W): the images' own, unless the network scales them inside to ``side`` or its usual size."""
    native = native_size(architecture)
    if native is None or not native.scales:
        return images.size
    return images.size[0], side or native.height, side or native.width


def load_start(
    ref: str,
    images: ImageSet | None,
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
    device: str,
    seed: int,
    *,
    anew: bool = False,
) -> Network:
    """The weights to start from; ``anew`` makes their head anew where it is for other classes than those of ``images``.

    Raises:
        InputError: weights for other classes or another size than those of ``images``.
    """
    if images is None:
        return model_reference.load(ref, mean=mean, std=std, device=device, seed=seed)
    native, size = native_size(ref), images.size
    if native is not None and images.task != native.task:  # a classifier to see with
        return model_reference.load(ref, mean=mean, std=std, device=device)
    if native is not None and native.scales:
        size = (size[0], native.height, native.width)
    elif native is not None and native.fixed and (native.height, native.width) != size[1:]:
        channels, height, width = size
        own, found = f"{native.channels or channels}x{native.height}x{native.width}", f"{channels}x{height}x{width}"
        raise InputError(
            f"{ref}: its weights are for images of {own}, {images.ref} has {found}; give --size {native.height}"
        )
    settings: dict[str, Any] = {"input_size": size, "mean": mean, "std": std, "device": device, "seed": seed}
    if not anew or ".py:" in ref or is_fresh(ref):  # a factory makes its own head
        return model_reference.load(ref, num_classes=images.num_classes, labels=images.class_names, **settings)
    return with_classes(model_reference.load(ref, **settings), images.class_names, seed)


def try_out(network: Network, images: ImageSet, train: Tensor) -> None:
    """Show a copy of ``network`` two training images as training would, before a loop over all of them starts.

    Raises:
        InputError: it can't take them; names a size that it can.
    """
    copied = copy.deepcopy(network).train()
    pixels = images.batch(train[:2])[0].to(network.mean.device)
    if len(pixels) < 2:
        return  # too few to train on, which the loop says
    try:
        with torch.random.fork_rng([pixels.device] if pixels.is_cuda else []), torch.no_grad():
            problem = build.wrong_output(copied, copied(pixels), 2)
    except Exception as error:
        size, why = "x".join(map(str, images.size[1:])), f"{type(error).__name__}: {str(error)[:160]}"
        raise InputError(
            f"{network.spec.ref}: can't be trained on images of {size} ({why}); {_other_size(network)}"
        ) from error
    if problem:
        raise InputError(f"{network.spec.ref}: gives {problem}")


def _other_size(network: Network) -> str:
    """What to do where ``network`` can't take the images' size."""
    architecture = network.spec.architecture
    known = architecture.partition("/")[0] in ("timm", "torchvision")
    side = build.defaults(architecture).input_size[1] if known else None
    return f"give --size {side}" if side is not None else "give --size PIXELS, or choose another --arch"


def _start_from(network: Network, other: Network, ref: str) -> None:
    """Copy the weights of ``other``, or those of its backbone, into ``network``."""
    if other.spec.task != network.spec.task:
        from advkit.models.detectors import backbones  # torchvision takes its time

        backbones.load_features(ref, network.net, other.net.state_dict())
        network.spec = replace(network.spec, notes=other.spec.notes)
        return
    own, theirs = network.net.state_dict(), other.net.state_dict()
    if {name: t.shape for name, t in own.items()} != {name: t.shape for name, t in theirs.items()}:
        raise InputError(
            f"--init {ref}: is {other.spec.architecture}, whose weights don't fit {network.spec.architecture}"
        )
    network.net.load_state_dict(theirs)
    network.spec = replace(network.spec, notes=other.spec.notes)
