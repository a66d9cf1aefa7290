"""MODEL reference to network: the one way in which every command gets its models."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from advkit.files.checkpoint import is_checkpoint, read_checkpoint
from advkit.files.errors import InputError
from advkit.models import black_box, build, factory, infer, libraries, limits, weights
from advkit.models.config import ModelConfig, ModelOverrides, Size, resolve, said_crop
from advkit.models.detectors import build as detectors
from advkit.models.directory import read_directory
from advkit.models.genome import loading as genome
from advkit.models.match_names import match_names, own_statistics
from advkit.models.network import Network
from advkit.models.torch_file import is_torch_file

FACTORY = re.compile(r"(?P<file>.+\.py):(?P<name>[A-Za-z_]\w*)(?:@(?P<weights>.+))?")


def load(
    ref: str,
    wish: ModelOverrides | None = None,
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
    ``ARCH@FILE`` with a safetensors file or a state dict that torch.save wrote, of any suffix; ``ARCH@pretrained``;
    a directory with timm's ``config.json`` and ``model.safetensors``; ``FILE.py:FACTORY[@FILE]``, which runs foreign
    code; ``cmd:PROGRAM`` and ``FILE.onnx``, which can only be asked (:mod:`advkit.models.black_box`). After a FILE of
    weights, ``#KEY`` picks one of several state dicts in it (``#ema``).
    ARCH is ``advkit/NAME``, ``timm/NAME``, ``torchvision/NAME``, ``advkit/genome:NAME`` or ``advkit/genome:FILE.json``.

    What the reference says of itself must agree with what is asked for. Where neither says it: classes and channels
    come from the shapes of the weights; images are 32x32 for ``advkit/`` nets; mean and std are ImageNet's
    (0.485 0.456 0.406, 0.229 0.224 0.225) for colour ``advkit/`` nets, as in the CIFAR weights in wide circulation,
    0.5 otherwise, the pretrained configuration's for timm and torchvision, 0 and 1 for a factory.

    Args:
        ref: the MODEL reference.
        wish: the following in one, instead of them.
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
    wish = wish or ModelOverrides(
        num_classes, input_size, _floats(mean), _floats(std), None if labels is None else tuple(labels), seed
    )
    network = _resolve(ref, wish)
    return network.to(device).eval().requires_grad_(False)


def _floats(values: Sequence[float] | None) -> tuple[float, ...] | None:
    return None if values is None else tuple(float(value) for value in values)


def _resolve(ref: str, wish: ModelOverrides) -> Network:
    if not ref:
        raise InputError("empty model reference; name a checkpoint, an architecture or a directory")
    if black_box.is_black_box(ref):
        return black_box.load(ref, wish)
    path = Path(ref)
    if path.is_dir():
        architecture, config, model_args, file = read_directory(path)
        found = weights.read_weights(file)
        return with_weights(ref, architecture, found.tensors, resolve(ref, config, wish), model_args, found.notes)
    if path.is_file() and path.suffix != ".py":
        if is_torch_file(path):
            raise InputError(f"{ref}: a state dict alone names no architecture; write ARCH@{ref}")
        return _load_checkpoint(ref, wish)
    form = FACTORY.fullmatch(ref)
    if form:
        return _load_factory(ref, form, wish)
    genome = ref.startswith("advkit/genome:")
    if path.suffix in weights.SUFFIXES and "@" not in ref and not genome:
        raise InputError(f"{ref}: no such file; check the path")
    if path.suffix == ".py":
        raise InputError(f"{ref}: name the function that makes the model; write {ref}:FACTORY")
    name, at, source = ref.partition("@")
    architecture, model_args = build.split(name)
    build.require_known(architecture)
    if not at:
        return _load_fresh(ref, architecture, model_args, wish)
    if source == "pretrained":
        return _load_pretrained(ref, architecture, wish)
    return _load_foreign(ref, architecture, model_args, Path(source), wish)


def _load_checkpoint(ref: str, wish: ModelOverrides) -> Network:
    checkpoint = read_checkpoint(Path(ref))
    meta = checkpoint.meta
    architecture = meta["architecture"]
    if ".py:" in architecture:
        raise InputError(f"{ref}: made by foreign code, which runs only on demand; write {architecture}@{ref}")
    config = resolve(ref, checkpoint_description(meta), wish, whole=True)
    return with_weights(ref, architecture, checkpoint.tensors, config, meta["model_args"])


def checkpoint_description(meta: Mapping[str, Any]) -> ModelConfig:
    """What a checkpoint's metadata says of its model."""
    labels = tuple(str(label) for label in meta["labels"])
    channels, height, width = meta["input_size"]
    mean, std = (tuple(float(value) for value in meta[key]) for key in ("mean", "std"))
    return ModelConfig(meta["num_classes"], (channels, height, width), mean, std, labels, said_crop(meta))


def _load_fresh(ref: str, architecture: str, model_args: dict[str, Any], wish: ModelOverrides) -> Network:
    default = replace(build.defaults(architecture), crop=None)
    if wish.num_classes not in (None, default.num_classes):
        default = replace(default, num_classes=wish.num_classes or 0, labels=())
    if wish.input_size is not None:
        default = infer.with_channels(default, wish.input_size[0])
    config = resolve(ref, default, wish)
    net = build.seeded(
        lambda: build.construct(architecture, config.num_classes, config.input_size, model_args), wish.seed
    )
    return build.assemble(net, ref, architecture, config, model_args)


def _load_foreign(ref: str, architecture: str, model_args: dict[str, Any], path: Path, wish: ModelOverrides) -> Network:
    read = weights.read_weights(path)
    path = weights.split_key(path)[0]
    if is_checkpoint(read.metadata):
        meta = read_checkpoint(path).meta
        found = meta["architecture"]
        if found != architecture or (model_args and not genome.same(model_args, meta["model_args"])):
            other = "another genome" if found == architecture else found
            raise InputError(f"{ref}: {path} is a checkpoint of {other}; write {path} alone")
        network = _load_checkpoint(str(path), wish)
        network.spec = replace(network.spec, ref=ref)
        return network
    default = build.defaults(architecture)
    probe = infer.probe(architecture, wish.input_size or default.input_size, model_args)
    named = match_names(ref, probe, read)
    inferred = replace(infer.infer_from_state_dict(probe, named.tensors, default), crop=None)
    said, notes = own_statistics(named, inferred, wish)
    config = resolve(ref, said, wish)
    if named.statistics is None and (wish.mean is None or wish.std is None):
        notes = (*notes, _assumed(config))
    return with_weights(ref, architecture, named.tensors, config, model_args, notes)


def _assumed(config: ModelConfig) -> str:
    """What is said of bare weights, whose mean and std nobody gave."""
    mean, std = (" ".join(f"{value:.4g}" for value in values) for values in (config.mean, config.std))
    whose = " (ImageNet's)" if (config.mean, config.std) == (libraries.IMAGENET_MEAN, libraries.IMAGENET_STD) else ""
    return f"bare weights, which say no mean and std: {mean} and {std}{whose} are assumed; --mean and --std give others"


def _load_pretrained(ref: str, architecture: str, wish: ModelOverrides) -> Network:
    library, _, name = architecture.partition("/")
    if library == "advkit":
        raise InputError(f"{ref}: advkit offers no weights; train {architecture} or give {architecture}@FILE")
    config = resolve(ref, build.defaults(architecture), wish)
    if detectors.is_detector(architecture):
        net = detectors.pretrained_torchvision(name)
    else:
        net = libraries.pretrained_timm(name) if library == "timm" else libraries.pretrained_torchvision(name)
    network = build.assemble(net, ref, architecture, config, {})
    build.smoke_test(network)
    return network


def _load_factory(ref: str, form: re.Match[str], wish: ModelOverrides) -> Network:
    read = weights.Weights({}, {})
    meta: Mapping[str, Any] | None = None
    if form["weights"]:
        read = weights.read_weights(Path(form["weights"]))
        if is_checkpoint(read.metadata):
            meta = read_checkpoint(weights.split_key(Path(form["weights"]))[0]).meta
    count = meta["num_classes"] if meta else wish.num_classes
    net = factory.make_net(ref, Path(form["file"]), form["name"], count, wish.seed)
    config, notes = checkpoint_description(meta) if meta else infer.infer_from_module(net, wish), read.notes
    if form["weights"]:
        named = match_names(ref, net, read)
        weights.fill(ref, net, named.tensors)
        config, notes = own_statistics(named, config, wish)
    settled = resolve(ref, config, wish, whole=meta is not None)
    network = build.assemble(net, ref, f"{form['file']}:{form['name']}", settled, {}, notes)
    build.smoke_test(network)
    return network


def with_weights(
    ref: str,
    architecture: str,
    tensors: Mapping[str, Tensor],
    config: ModelConfig,
    model_args: dict[str, Any],
    notes: Sequence[str] = (),
) -> Network:
    """The network of ``architecture`` with ``tensors`` in it.

    The fit is checked on an outline first: a file that asks for an absurdly large net costs no memory.

    Raises:
        InputError: weights that don't fit, aren't finite; arguments that the architecture can't take.
    """
    build.require_known(architecture)

    def make() -> torch.nn.Module:
        return build.construct(architecture, config.num_classes, config.input_size, model_args)

    if not architecture.startswith("advkit/"):
        limits.check_args(ref, model_args)
    with limits.few_modules(ref):
        outline = infer.meta_init(make)
    weights.check_fit(ref, outline, tensors)
    net = build.seeded(make, 0)
    weights.fill(ref, net, tensors)
    network = build.assemble(net, ref, architecture, config, model_args, notes)
    if not architecture.startswith("advkit/"):
        build.smoke_test(network)
    return network
