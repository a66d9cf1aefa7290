"""From the options of ``train`` to data, a network to start from and the settings of the run.

Imported late: it needs torch.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from advkit.commands.checks import statistics
from advkit.commands.loading import is_fresh, load_for, model_notes
from advkit.commands.train_config import TrainingConfig
from advkit.data import reference as data_reference
from advkit.data.images import ImageSet
from advkit.data.statistics import mean_and_std
from advkit.files.errors import InputError
from advkit.files.tensors import fingerprint
from advkit.models import build
from advkit.models import reference as model_reference
from advkit.models.heads import with_classes
from advkit.models.native_size import native_size
from advkit.models.network import Network
from advkit.tasks.sampling import hold_out, limited
from advkit.tasks.task import task_of
from advkit.training.params import TrainParams


@dataclass(frozen=True)
class TrainSetup:
    """Everything opened, each once.

    Attributes:
        images: training images; None when weights are packed without any.
        train, validation: positions in them.
        network: to train.
        references: that it is turned away from.
        params: how to train it.
    """

    images: ImageSet | None
    train: Tensor
    validation: Tensor
    network: Network
    references: list[Network]
    params: TrainParams

    def settings(self, config: TrainingConfig, processes: int) -> dict[str, Any]:
        """All that decides the bytes of the checkpoint, as JSON values; file names and reports do not."""
        spec = self.network.spec
        return {
            "params": self.params.to_json() | {"validation": config.validation, "limit": config.limit},
            "architecture": spec.architecture,
            **({"model_args": spec.model_args} if spec.model_args else {}),
            "start": fingerprint(self.network.net.state_dict()),
            "mean": list(spec.mean),
            "std": list(spec.std),
            "data": self.images.fingerprint if self.images is not None else None,
            "references": [reference.spec.sha256 for reference in self.references],
            "processes": processes,
        }

    def notes(self) -> list[str]:
        """What the loading of the weights to start from and of the references had to say."""
        return [note for network in (self.network, *self.references) for note in model_notes(network)]


def open_setup(
    config: TrainingConfig,
    device: str,
    params: Callable[[ImageSet | None], TrainParams],
    references: Sequence[str] = (),
) -> TrainSetup:
    """From the command's options to everything that a run needs.

    Args:
        config: the options.
        device: where to put networks.
        params: the settings, given the images.
        references: models that the network is turned away from.

    Raises:
        InputError: anything that can't be opened or doesn't fit.
    """
    images = _open_images(config)
    if images is not None and config.epochs and images.num_classes < 2:
        raise InputError(f"{images.ref}: one class, {images.class_names[0]}, and no other; at least two are needed")
    train, validation = torch.empty(2, 0, dtype=torch.int64)
    opened = []
    if images is not None:
        train, validation = hold_out(task_of(()), images, config.validation, config.seed)
    network = _open_network(config, images, train, device)
    if images is not None and config.epochs:
        _try_out(network, images, train)
    if images is not None:
        opened = [load_for(ref, images, device, native=native_size(ref)) for ref in references]
    return TrainSetup(images, train, validation, network, opened, params(images))


def _open_images(config: TrainingConfig) -> ImageSet | None:
    if not config.data:
        return None
    images = data_reference.load(
        config.data,
        role="train",
        size=(config.size, config.size) if config.size else None,
        download=config.download,
    )
    return limited(task_of(()), images, config.limit, config.seed)


def _open_network(config: TrainingConfig, images: ImageSet | None, train: Tensor, device: str) -> Network:
    """The network to train: a fresh one, weights to start from, or foreign weights to pack."""
    mean, std = statistics(config.mean, config.std)
    arch, has_weights = config.arch, "@" in config.arch or ".py:" in config.arch
    if config.init and arch and has_weights:
        raise InputError("--arch with weights and --init both say where to start; give one")
    if has_weights or not arch:
        start = arch if has_weights else config.init
        return _load_start(start, images, mean, std, device, config.seed, anew=config.epochs > 0)
    if images is None:
        raise InputError("--epochs 0 packs weights: give --arch ARCH@FILE, or --data for a fresh network")
    other = None
    if config.init:  # weights go with the normalisation that they were trained under
        other = _load_start(config.init, images, None, None, device, config.seed, anew=config.epochs > 0)
        mean, std = mean or other.spec.mean, std or other.spec.std
        if (mean, std) != (other.spec.mean, other.spec.std):
            raise InputError(f"--init {config.init}: has its own mean and std; leave --mean and --std out")
    elif mean is None or std is None:
        found = mean_and_std(images, train)
        mean, std = mean or found[0], std or found[1]
    network = build.create(
        arch,
        num_classes=images.num_classes,
        input_size=images.size,
        mean=mean,
        std=std,
        labels=images.class_names,
        seed=config.seed,
    ).to(device)
    if other is not None:
        _start_from(network, other, config.init)
    return network


def _load_start(
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
    known: dict[str, Any] = {}
    native = native_size(ref) if images is not None else None
    if images is not None and native is not None and native.fixed and (native.height, native.width) != images.size[1:]:
        channels, height, width = images.size
        own, found = f"{native.channels or channels}x{native.height}x{native.width}", f"{channels}x{height}x{width}"
        hint = f"give --size {native.height}" if images.resize is not None else "arrays are never resized, use others"
        raise InputError(f"{ref}: its weights are for images of {own}, {images.ref} has {found}; {hint}")
    if images is not None:
        known = {"num_classes": images.num_classes, "input_size": images.size, "labels": images.class_names}
    if not anew or images is None or ".py:" in ref or is_fresh(ref):  # a factory makes its own head
        return model_reference.load(ref, **known, mean=mean, std=std, device=device, seed=seed)
    network = model_reference.load(ref, input_size=images.size, mean=mean, std=std, device=device, seed=seed)
    return with_classes(network, images.class_names, seed)


def _try_out(network: Network, images: ImageSet, train: Tensor) -> None:
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
            logits = copied(pixels)
    except Exception as error:
        size, why = "x".join(map(str, images.size[1:])), f"{type(error).__name__}: {str(error)[:160]}"
        raise InputError(
            f"{network.spec.ref}: can't be trained on images of {size} ({why}); {_other_size(network, images)}"
        ) from error
    shape = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if shape != [2, network.spec.num_classes]:
        raise InputError(
            f"{network.spec.ref}: gives {shape} for two training images, not [2, {network.spec.num_classes}] logits"
        )


def _other_size(network: Network, images: ImageSet) -> str:
    """What to do where ``network`` can't take the images' size."""
    architecture = network.spec.architecture
    known = architecture.partition("/")[0] in ("timm", "torchvision")
    side = build.defaults(architecture).input_size[1] if known else None
    wanted = f"--size {side}" if side is not None else "--size PIXELS"
    if images.resize is not None:
        return f"give {wanted}"
    return f"{wanted} would resize pictures in folders, but arrays stay as they are: choose another --arch"


def _start_from(network: Network, other: Network, ref: str) -> None:
    own, theirs = network.net.state_dict(), other.net.state_dict()
    if {name: t.shape for name, t in own.items()} != {name: t.shape for name, t in theirs.items()}:
        raise InputError(
            f"--init {ref}: is {other.spec.architecture}, whose weights don't fit {network.spec.architecture}"
        )
    network.net.load_state_dict(theirs)
    network.spec = replace(network.spec, notes=other.spec.notes)
