"""Weights under other names than the net's: prefixes of wrappers, heads and losses that only training needs, the
wrapper's own normalisation, and layers that another implementation calls otherwise.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from advkit.files.errors import InputError
from advkit.models.config import ModelConfig, ModelOverrides
from advkit.models.infer import PROBE_CLASSES
from advkit.models.weights import COUNTER, Weights, listed

_PREFIXES = ("module.", "_orig_mod.", "model.", "net.")
_USUAL = re.compile(r"(module\.|_orig_mod\.|model\.|net\.)+")
_AUXILIARY = re.compile(r"(aux(iliary)?([_-]?(head|classifier|logits|fc))?s?\d*)\.", re.IGNORECASE)
_TRAINING_ONLY = re.compile(
    r"(criterion\w*|loss|loss_\w+|losses|\w+_loss|metrics?|(train|val|valid|test)_(acc\w*|loss|metrics?))\.|n_averaged$"
    r"|(.*\.)?total_(ops|params)$"  # a profiler's counts
)
_MEAN = ("mean", "mu", "new_mean", "_mean", "image_mean", "pixel_mean")
_STD = ("std", "sigma", "new_std", "_std", "image_std", "pixel_std")
Statistics = tuple[tuple[float, ...], tuple[float, ...]]


class NamedWeights(NamedTuple):
    """Weights under the names of a net.

    Attributes:
        tensors: by the net's names, where they could be told; a misfit is left to be named by the check of the fit.
        notes: what was done, in words.
        statistics: mean and std per channel of a wrapper's normalisation, in pixels of [0, 1]; None without one.
    """

    tensors: dict[str, Tensor]
    notes: tuple[str, ...]
    statistics: Statistics | None


def match_names(what: str, net: nn.Module, read: Weights) -> NamedWeights:
    """``read`` with the names of ``net`` (which may be a probe on the meta device).

    Raises:
        InputError: two different sets of weights that fit.
    """
    shapes = {name: value.shape for name, value in net.state_dict().items() if isinstance(value, Tensor)}
    needed = [name for name in shapes if not name.endswith(COUNTER)]
    notes = list(read.notes)
    prefix = _exact_prefix(what, read.tensors, needed)
    if prefix is None:
        kept, outside = without_prefix(read.tensors, shapes), {}
    else:
        kept = {name[len(prefix) :]: tensor for name, tensor in read.tensors.items() if name.startswith(prefix)}
        outside = {name: tensor for name, tensor in read.tensors.items() if not name.startswith(prefix)}
    extra = {name: tensor for name, tensor in kept.items() if name not in shapes}
    statistics, used = _statistics({**outside, **extra})
    auxiliary = {name for name in extra if _AUXILIARY.match(name)}
    training = {name for name in extra if _TRAINING_ONLY.match(name)}
    for kind, names in (("auxiliary heads", auxiliary), ("what only training needs", training)):
        if names := names - used:
            notes.append(f"{kind} ignored: {listed(sorted(names))}")
    if unused := sorted(set(outside) - used):
        notes.append(f"weights outside {prefix!r} ignored: {listed(unused)}")
    kept = {name: tensor for name, tensor in kept.items() if name not in used | auxiliary | training}
    if read.ordered and prefix is None and (renamed := _renamed(kept, {name: shapes[name] for name in needed})):
        pairs = [f"{theirs} as {ours}" for theirs, ours in renamed.items() if theirs != ours]
        kept = {renamed[name]: tensor for name, tensor in kept.items() if name in renamed}
        notes.append(f"layers called otherwise, taken by order and shape: {listed(pairs)}; check the accuracy")
    return NamedWeights(kept, tuple(notes), statistics)


def own_statistics(
    named: NamedWeights, config: ModelConfig, wish: ModelOverrides
) -> tuple[ModelConfig, tuple[str, ...]]:
    """``config`` with the mean and std that came with the weights, if any, and the notes with a word on that."""
    if named.statistics is None:
        return config, named.notes
    channels = config.input_size[0]
    mean, std = (values * channels if len(values) == 1 else values for values in named.statistics)
    told = f"{' '.join(f'{value:.4g}' for value in mean)} and std {' '.join(f'{value:.4g}' for value in std)}"
    if wish.mean is not None or wish.std is not None:
        return config, (*named.notes, f"the file's own mean {told} not used: others are asked for")
    sane = all(math.isfinite(value) and abs(value) < 1e6 for value in (*mean, *std)) and min(std) > 1e-6
    if len(mean) != channels or not sane:
        return config, (*named.notes, f"the file's own mean {told} not used: they don't fit {channels} channels")
    return replace(config, mean=mean, std=std), (*named.notes, f"mean {told} are the file's own")


def without_prefix(tensors: Mapping[str, Tensor], expected: Iterable[str]) -> dict[str, Tensor]:
    """``tensors`` without the prefix that wrappers (DataParallel, ``torch.compile``) put before every name."""
    expected, result = set(expected), dict(tensors)
    for _ in range(3):
        prefix = next((p for p in _PREFIXES if result and all(name.startswith(p) for name in result)), None)
        if prefix is None or any(name.startswith(prefix) for name in expected):
            break
        result = {name[len(prefix) :]: tensor for name, tensor in result.items()}
    return result


def _exact_prefix(what: str, tensors: Mapping[str, Tensor], needed: Sequence[str]) -> str | None:
    """The prefix under which ``tensors`` has every name of ``needed``; "" if it has them as they are."""
    if not needed or all(name in tensors for name in needed):
        return ""
    longest = max(needed, key=len)
    found = [name[: -len(longest)] for name in tensors if name.endswith(f".{longest}")]
    found = [prefix for prefix in found if all(prefix + name in tensors for name in needed)]
    different = [
        prefix
        for prefix in found[1:]
        if any(not _equal(tensors[prefix + name], tensors[found[0] + name]) for name in needed)
    ]
    if not different:
        return found[0] if found else None
    usual = [prefix for prefix in found if _USUAL.fullmatch(prefix)]
    if len(usual) == 1:
        return usual[0]
    raise InputError(
        f"{what}: two sets of weights fit, under {found[0][:-1]!r} and {different[0][:-1]!r}; "
        "write one of these after a # behind the file"
    )


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one, other)


def _statistics(tensors: Mapping[str, Tensor]) -> tuple[Statistics | None, set[str]]:
    """Mean and std of a normalisation before the net, as wrappers keep them, and the names that held them."""
    found: list[Statistics] = []
    used = set[str]()
    for name, mean in tensors.items():
        parent, dot, leaf = name.rpartition(".")
        if leaf not in _MEAN or not mean.is_floating_point():
            continue
        partner = f"{parent}{dot}{_STD[_MEAN.index(leaf)]}"
        std = tensors.get(partner)
        if std is None or std.shape != mean.shape or not 1 <= mean.numel() <= 4 or not std.is_floating_point():
            continue
        pair = [tuple(map(float, tensor.flatten().tolist())) for tensor in (mean, std)]
        if max(pair[0]) > 2:  # for pixels of 0..255, as detectors count them
            pair = [tuple(value / 255 for value in values) for values in pair]
        found.append((pair[0], pair[1]))
        used |= {name, partner}
    if not found or any(pair != found[0] for pair in found):
        return None, set()
    return found[0], used


def _renamed(tensors: Mapping[str, Tensor], needed: Mapping[str, Sequence[int]]) -> dict[str, str] | None:
    """The file's names to the net's, where order, shapes, leaves (weight, bias) and nesting leave one reading."""
    names = [name for name in tensors if not name.endswith(COUNTER)]
    if len(names) != len(needed) or set(names) == set(needed):
        return None
    if not all(_alike(tensors[name].shape, shape) for name, shape in zip(names, needed.values(), strict=True)):
        return None
    layers: dict[str, str] = {}
    for theirs, ours in zip(names, needed, strict=True):
        (layer, _, leaf), (own, _, own_leaf) = theirs.rpartition("."), ours.rpartition(".")
        if leaf != own_leaf or layers.setdefault(layer, own) != own:
            return None
    if len(set(layers.values())) < len(layers):
        return None
    siblings: dict[str, set[str]] = {}
    for own in layers.values():
        above, _, last = own.rpartition(".")
        siblings.setdefault(above, set()).add(last)
    for layer, own in layers.items():  # k, v, q where the net has q, k, v: order and names contradict each other
        last, (above, _, own_last) = layer.rpartition(".")[2], own.rpartition(".")
        if last != own_last and last in siblings[above] and not last.isdigit():
            return None
    return dict(zip(names, needed, strict=True))


def _alike(found: Sequence[int], needed: Sequence[int]) -> bool:
    """Equal shapes, but for the number of classes of a probe and the channels of the images."""
    channels = len(needed) == 4 and needed[1] == 3 and found[1:2] in ([1], (1,))
    return len(found) == len(needed) and all(
        theirs == ours or ours == PROBE_CLASSES or (place == 1 and channels)
        for place, (theirs, ours) in enumerate(zip(found, needed, strict=True))
    )
