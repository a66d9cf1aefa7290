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
from advkit.models.nets import MIN_SIDE, NETS
from advkit.models.network import ModelSpec, Network

T = TypeVar("T")
Size = tuple[int, int, int]
Builder = Callable[[str, int, Size, dict[str, Any]], nn.Module]

# Model arguments come from checkpoints, which come from strangers: none of these may fetch or read another file.
_FORBIDDEN_ARGS = ("pretrained", "checkpoint", "weights", "cache_dir", "num_classes", "in_chans", "features_only")


def create(
    architecture: str,
    *,
    num_classes: int,
    input_size: Size,
    mean: Sequence[float],
    std: Sequence[float],
    labels: Sequence[str] = (),
    seed: int = 0,
    model_args: Mapping[str, Any] | None = None,
) -> Network:
    """A network with fresh weights: same arguments, same bytes; the global random state is left alone.

    Args:
        architecture: ``advkit/NAME``, ``timm/NAME`` or ``torchvision/NAME``.
        num_classes: how many logits.
        input_size: (C, H, W).
        mean: per channel, in pixels of [0, 1].
        std: per channel, in pixels of [0, 1].
        labels: names of the classes, or none.
        seed: of the weights.
        model_args: further keyword arguments of a timm or torchvision architecture.

    Raises:
        InputError: unknown architecture, arguments that don't fit it or each other.
    """
    args = dict(model_args or {})
    check_description(architecture, num_classes, input_size, mean, std, labels)
    net = seeded(lambda: construct(architecture, num_classes, input_size, args), seed)
    return assemble(net, architecture, architecture, num_classes, input_size, mean, std, labels, args)


def assemble(
    net: nn.Module,
    ref: str,
    architecture: str,
    num_classes: int,
    input_size: Size,
    mean: Sequence[float],
    std: Sequence[float],
    labels: Sequence[str],
    model_args: Mapping[str, Any],
) -> Network:
    """``net`` and its description as a :class:`Network`; the identity is computed from the weights as they are."""
    tensors = {name: value for name, value in net.state_dict().items() if isinstance(value, torch.Tensor)}
    spec = ModelSpec(
        ref=ref,
        sha256=fingerprint(tensors),
        architecture=architecture,
        model_args=dict(model_args),
        num_classes=num_classes,
        labels=tuple(labels),
        input_size=input_size,
        mean=tuple(float(value) for value in mean),
        std=tuple(float(value) for value in std),
    )
    return Network(net, spec)


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
    return _BUILDERS[library](name, num_classes, input_size, model_args)


def require_known(architecture: str) -> None:
    """Raise InputError, with the nearest known names, when there is no such architecture."""
    library, _, name = architecture.partition("/")
    if library in _NAMES and name:
        known = _NAMES[library]()
        if name not in known and (library != "timm" or name.partition(".")[0] not in known):
            near = difflib.get_close_matches(name, known, 3, 0.5) or sorted(known)[:5]
            raise unknown(architecture, [f"{library}/{n}" for n in near])
        return
    near = difflib.get_close_matches(architecture.rpartition("/")[2], list(NETS), 3, 0.5)
    raise unknown(architecture, [f"advkit/{n}" for n in near] or ["advkit/NAME", "timm/NAME", "torchvision/NAME"])


def unknown(architecture: str, near: Sequence[str]) -> InputError:
    """The one line for an architecture that does not exist."""
    return InputError(f"{architecture}: no such file or architecture; try {', '.join(near)}")


def seeded(make: Callable[[], T], seed: int) -> T:
    """What ``make`` gives with the CPU's global random state at ``seed``; that state is put back afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return make()


def check_description(
    what: str, num_classes: int, input_size: Size, mean: Sequence[float], std: Sequence[float], labels: Sequence[str]
) -> None:
    """Raise InputError unless classes, labels, size, mean and std fit each other."""
    if num_classes < 1 or min(input_size) < 1:
        raise InputError(f"{what}: {num_classes} classes of images {input_size} make no sense; both must be positive")
    channels = input_size[0]
    if len(mean) != channels or len(std) != channels or not all(value > 0 for value in std):
        raise InputError(f"{what}: mean and std need one number for each of {channels} channels, std above 0")
    if labels and len(labels) != num_classes:
        raise InputError(f"{what}: {len(labels)} labels for {num_classes} classes; give one each")


def _build_advkit(name: str, num_classes: int, input_size: Size, model_args: dict[str, Any]) -> nn.Module:
    if model_args:
        raise InputError(f"advkit/{name}: takes no model arguments, {', '.join(sorted(model_args))} given")
    if min(input_size[1:]) < MIN_SIDE:
        raise InputError(
            f"advkit/{name}: images of {input_size[1]}x{input_size[2]} are too small; it needs {MIN_SIDE}x{MIN_SIDE}"
        )
    return NETS[name](num_classes, input_size[0])


_BUILDERS: dict[str, Builder] = {
    "advkit": _build_advkit,
    "timm": libraries.build_timm,
    "torchvision": libraries.build_torchvision,
}
_NAMES: dict[str, Callable[[], Sequence[str]]] = {
    "advkit": lambda: list(NETS),
    "timm": libraries.timm_names,
    "torchvision": libraries.torchvision_names,
}
