"""Architecture name to network with fresh weights."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import nn

from advkit.files.errors import InputError
from advkit.files.tensors import fingerprint
from advkit.models import libraries
from advkit.models.config import ModelConfig, Size, check
from advkit.models.detectors import build as detectors
from advkit.models.genome import loading
from advkit.models.nets import MIN_SIDE, NETS
from advkit.models.network import ModelSpec, Network

T = TypeVar("T")
Builder = Callable[[str, int, Size, Mapping[str, Any]], nn.Module]

# Model arguments come from checkpoints, which come from strangers: none of these may fetch or read another file.
_FORBIDDEN_ARGS = ("pretrained", "checkpoint", "weights", "cache_dir", "num_classes", "in_chans", "features_only")


def create(
    architecture: str,
    *,
    num_classes: int,
    input_size: Size,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    labels: Sequence[str] = (),
    seed: int = 0,
    model_args: Mapping[str, Any] | None = None,
) -> Network:
    """A network with fresh weights: same arguments, same bytes; the global random state is left alone.

    Args:
        architecture: ``advkit/NAME``, ``timm/NAME`` or ``torchvision/NAME``, or as :func:`split` takes it.
        num_classes: how many classes.
        input_size: (C, H, W); of a detector, that to which it scales images inside.
        mean: per channel, in pixels of [0, 1]; None for :func:`default_statistics`.
        std: likewise.
        labels: names of the classes, or none.
        seed: of the weights.
        model_args: further keyword arguments of a timm or torchvision architecture; ``genome`` of advkit/genome;
            ``backbone`` of advkit/ssd and advkit/fcos.

    Raises:
        InputError: unknown architecture, arguments that don't fit it or each other.
    """
    architecture, said_args = split(architecture)
    args = dict(**said_args, **(model_args or {}))
    usual_mean, usual_std = default_statistics(input_size[0])
    mean, std = tuple(map(float, mean or usual_mean)), tuple(map(float, std or usual_std))
    config = ModelConfig(num_classes, input_size, mean, std, tuple(labels))
    check(architecture, config)
    net = seeded(lambda: construct(architecture, num_classes, input_size, args), seed)
    return assemble(net, architecture, architecture, config, args)


def assemble(
    net: nn.Module,
    ref: str,
    architecture: str,
    config: ModelConfig,
    model_args: Mapping[str, Any],
    notes: Sequence[str] = (),
) -> Network:
    """``net`` and its description as a :class:`Network`; the identity is computed from the weights as they are."""
    tensors = {name: value for name, value in net.state_dict().items() if isinstance(value, torch.Tensor)}
    spec = ModelSpec(
        ref=ref,
        sha256=fingerprint(tensors),
        architecture=architecture,
        model_args=dict(model_args),
        num_classes=config.num_classes,
        labels=config.labels,
        input_size=config.input_size,
        mean=config.mean,
        std=config.std,
        task=task_name(architecture),
        notes=tuple(notes),
        crop=config.crop,
    )
    return Network(net, spec)


def task_name(architecture: str) -> str:
    """What networks of ``architecture`` are for, a name in :data:`advkit.tasks.task.TASKS`."""
    return "detection" if detectors.is_detector(architecture) else "classification"


def split(architecture: str) -> tuple[str, dict[str, Any]]:
    """Architecture and model arguments: ``advkit/genome:NAME`` and ``advkit/genome:FILE.json`` name one of each.

    Raises:
        InputError: no such genome, or a file that holds none.
    """
    base, colon, name = architecture.partition(":")
    if base == "advkit/genome" and colon:
        return base, {"genome": loading.read(name)}
    return architecture, {}


def construct(architecture: str, num_classes: int, input_size: Size, model_args: dict[str, Any]) -> nn.Module:
    """The bare net, its weights drawn from the global random state.

    Raises:
        InputError: unknown architecture; arguments or an image size that it can't take.
    """
    require_known(architecture)
    for name in model_args:
        if name.startswith(_FORBIDDEN_ARGS):
            raise InputError(f"{architecture}: model argument {name!r} is not allowed; leave it out")
    library, _, name = architecture.partition("/")
    builders = detectors.BUILDERS if detectors.is_detector(architecture) else _BUILDERS
    return builders[library](name, num_classes, input_size, model_args)


def require_known(architecture: str) -> None:
    """Raise InputError, with the nearest known names, when there is no such architecture."""
    library, _, name = architecture.partition("/")
    if library in _NAMES and name:
        known = _NAMES[library]()
        if name not in known and (library != "timm" or name.partition(".")[0] not in known):
            near = difflib.get_close_matches(name, known, 3, 0.5) or sorted(known)[:5]
            raise unknown(architecture, [f"{library}/{n}" for n in near])
        return
    near = difflib.get_close_matches(architecture.rpartition("/")[2], [*NETS, *detectors.ADVKIT], 3, 0.5)
    raise unknown(architecture, [f"advkit/{n}" for n in near] or ["advkit/NAME", "timm/NAME", "torchvision/NAME"])


def unknown(architecture: str, near: Sequence[str]) -> InputError:
    """The one line for an architecture that does not exist."""
    return InputError(f"{architecture}: no such file or architecture; try {', '.join(near)}")


def seeded(make: Callable[[], T], seed: int) -> T:
    """What ``make`` gives with the CPU's global random state at ``seed``; that state is put back afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed & (2**63 - 1))
        return make()


def _build_advkit(name: str, num_classes: int, input_size: Size, model_args: Mapping[str, Any]) -> nn.Module:
    if name == "genome":
        return loading.build(num_classes, input_size, model_args)
    if model_args:
        raise InputError(f"advkit/{name}: takes no model arguments, {', '.join(sorted(model_args))} given")
    if min(input_size[1:]) < MIN_SIDE:
        raise InputError(
            f"advkit/{name}: images of {input_size[1]}x{input_size[2]} are too small; it needs {MIN_SIDE}x{MIN_SIDE}"
        )
    return NETS[name](num_classes, input_size[0])


def default_statistics(channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std when nobody says: ImageNet's for colour (as in the CIFAR weights in circulation), 0.5 otherwise."""
    if channels == len(libraries.IMAGENET_MEAN):
        return libraries.IMAGENET_MEAN, libraries.IMAGENET_STD
    return (0.5,) * channels, (0.5,) * channels


def smoke_test(network: Network) -> None:
    """Raise InputError unless ``network`` turns one image of its size into what its task reads."""
    spec, training = network.spec, network.training
    try:
        with torch.no_grad():
            found = network.eval()(torch.full((1, *spec.input_size), 0.5))
            problem = wrong_output(network, found, 1)
    except Exception as error:
        size = "x".join(map(str, spec.input_size))
        raise InputError(f"{spec.ref}: fails on {size} images: {type(error).__name__}: {str(error)[:200]}") from error
    finally:
        network.train(training)
    if problem:
        raise InputError(f"{spec.ref}: gives {problem}; check the model")


def wrong_output(network: Network, found: object, images: int) -> str:
    """What is wrong with ``found``, which ``network`` gave for so many ``images``; empty if nothing is."""
    spec, wanted = network.spec, f"[{images}, {network.spec.num_classes}] logits"
    shape = list(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
    if spec.task == "detection":
        scores = getattr(found, "scores", None)
        if scores is not None and scores().shape == (images, spec.num_classes):
            return ""
        wanted = "the output of a detector of its classes"
    elif shape == [images, spec.num_classes]:
        return ""
    return f"{shape} for {images} image{'s' if images > 1 else ''}, not {wanted}"


def defaults(architecture: str) -> ModelConfig:
    """What ``architecture`` expects when nothing else is said (see :func:`advkit.models.reference.load`).

    Raises:
        InputError: unknown architecture.
    """
    require_known(architecture)
    library, _, name = architecture.partition("/")
    if detectors.is_detector(architecture):
        return detectors.defaults(architecture)
    if library == "advkit":
        return ModelConfig(10, (3, 32, 32), *default_statistics(3))
    return libraries.timm_defaults(name) if library == "timm" else libraries.torchvision_defaults(name)


_BUILDERS: dict[str, Builder] = {
    "advkit": _build_advkit,
    "timm": libraries.build_timm,
    "torchvision": libraries.build_torchvision,
}
_NAMES: dict[str, Callable[[], Sequence[str]]] = {
    "advkit": lambda: [*NETS, "genome", *detectors.ADVKIT],
    "timm": libraries.timm_names,
    "torchvision": lambda: [*libraries.torchvision_names(), *detectors.torchvision_detectors()],
}
