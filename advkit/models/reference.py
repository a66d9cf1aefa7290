"""MODEL reference to network: the one way in which every command gets its models."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from advkit.files.checkpoint import is_checkpoint, read_checkpoint
from advkit.files.errors import InputError
from advkit.models import build, weights
from advkit.models.infer import Shape, bare, infer
from advkit.models.network import Network

Size = tuple[int, int, int]
_FACTORY = re.compile(r"(?P<file>.+\.py):(?P<name>[A-Za-z_]\w*)(?:@(?P<weights>.+))?")


@dataclass(frozen=True)
class Wanted:
    """What the caller knows about the model it asks for; None where it leaves the choice to the reference."""

    num_classes: int | None = None
    input_size: Size | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    labels: tuple[str, ...] | None = None
    seed: int = 0


def load(
    ref: str,
    *,
    num_classes: int | None = None,
    input_size: Size | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    labels: Sequence[str] | None = None,
    device: str | torch.device = "cpu",
    seed: int = 0,
) -> Network:
    """The model that ``ref`` names, in evaluation mode and frozen.

    Forms of ``ref``: ``FILE.safetensors`` (an advkit checkpoint); ``ARCH`` (fresh weights from ``seed``);
    ``ARCH@FILE`` with a safetensors file or a ``.pt``, ``.pth``, ``.th`` state dict; ``ARCH@pretrained``; a directory
    with timm's ``config.json`` and ``model.safetensors``; ``FILE.py:FACTORY[@FILE]``, which alone runs foreign code.

    What the reference says of itself must agree with what is asked for. Where neither says it: classes and channels
    come from the shapes of the weights; images are 32x32 for ``advkit/`` nets; mean and std are ImageNet's
    (0.485 0.456 0.406, 0.229 0.224 0.225) for colour ``advkit/`` nets, as in the CIFAR weights in wide circulation,
    0.5 otherwise, the pretrained configuration's for timm and torchvision, 0 and 1 for a factory.

    Args:
        ref: the MODEL reference.
        num_classes: how many classes the data has.
        input_size: (C, H, W) of the images.
        mean: per channel, in pixels of [0, 1].
        std: per channel, in pixels of [0, 1].
        labels: names of the classes.
        device: where to put it.
        seed: of fresh weights.

    Raises:
        InputError: whatever is wrong with it.
    """
    wanted = Wanted(
        num_classes,
        input_size,
        None if mean is None else tuple(float(value) for value in mean),
        None if std is None else tuple(float(value) for value in std),
        None if labels is None else tuple(labels),
        seed,
    )
    network = _resolve(ref, wanted)
    return network.to(device).eval().requires_grad_(False)


def _resolve(ref: str, wanted: Wanted) -> Network:
    path = Path(ref)
    if path.is_dir():
        from advkit.models.directory import load_directory

        return load_directory(ref, wanted)
    if path.is_file() and path.suffix in weights.PICKLES:
        raise InputError(f"{ref}: a state dict alone names no architecture; write ARCH@{ref}")
    if path.is_file() and path.suffix != ".py":
        return _load_checkpoint(ref, wanted)
    factory = _FACTORY.fullmatch(ref)
    if factory:
        from advkit.models.factory import load_factory

        return load_factory(ref, Path(factory["file"]), factory["name"], factory["weights"], wanted)
    if path.suffix in (".safetensors", *weights.PICKLES) and "@" not in ref:
        raise InputError(f"{ref}: no such file; check the path")
    if path.suffix == ".py":
        raise InputError(f"{ref}: name the function that makes the model; write {ref}:FACTORY")
    architecture, at, source = ref.partition("@")
    build.require_known(architecture)
    if at and source == "pretrained":
        return _load_pretrained(ref, architecture, wanted)
    return _load_architecture(ref, architecture, source if at else None, wanted)


def _load_checkpoint(ref: str, wanted: Wanted) -> Network:
    checkpoint = read_checkpoint(Path(ref))
    meta = checkpoint.meta
    if ".py:" in meta["architecture"]:
        source = meta["architecture"]
        raise InputError(
            f"{ref}: made by the foreign code of {source}, which is run only on demand; write {source}@{ref}"
        )
    said = described(ref, meta, wanted)
    shape = Shape(meta["architecture"], said.num_classes, said.input_size, meta["model_args"])
    return finish(ref, shape, said, checkpoint.tensors, wanted)


def _load_architecture(ref: str, architecture: str, source: str | None, wanted: Wanted) -> Network:
    defaults = architecture_defaults(architecture)
    if source is None:
        said = settle(ref, None, defaults, wanted)
        return finish(ref, Shape(architecture, said.num_classes, said.input_size, {}), said, None, wanted)
    path = Path(source)
    tensors, metadata = weights.read_weights(path)
    if is_checkpoint(metadata):
        meta = read_checkpoint(path).meta
        if meta["architecture"] != architecture:
            raise InputError(f"{ref}: the checkpoint is a {meta['architecture']}; write {source} alone")
        return _renamed(_load_checkpoint(source, wanted), ref)
    parse_other(path, metadata)
    tensors = weights.without_prefix(tensors, bare(architecture, 10, defaults.input_size, {}).state_dict())
    found = infer(architecture, defaults.input_size, tensors)
    said = settle(ref, found, defaults, wanted)
    return finish(ref, Shape(architecture, said.num_classes, said.input_size, {}), said, tensors, wanted)
