"""Weights of other people: read without running anything in them, and fitted into a net with every misfit named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from advkit.files.errors import InputError
from advkit.files.tensors import read_tensors
from advkit.models.torch_file import is_torch_file, refuse_unusual, unpickle

SUFFIXES = (".safetensors", ".pt", ".pth", ".th", ".bin", ".ckpt", ".tar")  # by which a file that is not there is known
_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network", "weights", "params", "module", "shadow")
_EMA = (
    "ema_state_dict", "state_dict_ema", "model_ema", "model_ema_state_dict", "ema_model", "ema_model_state_dict",
    "net_ema", "ema_net", "params_ema", "ema_params", "ema_weights", "ema",
)  # fmt: skip
COUNTER = "num_batches_tracked"  # batch-norm's counter of steps, which older state dicts lack; nothing reads it here


class Weights(NamedTuple):
    """What a weights file holds.

    Attributes:
        tensors: name to tensor.
        metadata: of a safetensors file.
        notes: what a user should know of how they were read.
        ordered: whether they come in the order in which the net made them (safetensors files are sorted).
    """

    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    notes: tuple[str, ...] = ()
    ordered: bool = False


def read_weights(path: Path) -> Weights:
    """The tensors of a safetensors file or of a state dict that torch.save wrote.

    The kind of the file is known by its content. Wrappers such as ``{"state_dict": ...}`` are taken off; names are
    left as they are. A pickle is read with ``weights_only``: what would run code is refused.

    Args:
        path: ``FILE``, or ``FILE#KEY`` for the weights under one key (or one prefix of names) of several; KEY ``ema``
            is whatever the file calls its averaged weights. A file whose name has a ``#`` is that file.

    Raises:
        InputError: no such file or key, damaged, of another kind, not a state dict.
    """
    path, key = split_key(Path(path))
    if not path.is_file():
        raise InputError(f"{path}: no such weights file; check the path after @")
    if not is_torch_file(path):
        tensors, metadata = read_tensors(path)
        return Weights(_under(path, tensors, key) if key else tensors, metadata)
    return _state_dict(path, unpickle(path), key)


def split_key(path: Path) -> tuple[Path, str]:
    """File and key of ``FILE#KEY``; the key is empty without one."""
    if path.exists():
        return path, ""
    file, mark, key = str(path).rpartition("#")
    return (Path(file), key) if file and mark else (path, "")


def _state_dict(path: Path, found: object, key: str) -> Weights:
    notes = []
    for _ in range(3):  # wrappers come nested at times; a hostile file may nest them without end
        if not isinstance(found, Mapping):
            break
        usual, averaged = ([name for name in names if _filled(found, name)] for names in (_WRAPPERS, _EMA))
        wanted = [key] if key and _filled(found, key) else averaged if key == "ema" else []
        taken = next(iter([*wanted, *usual, *averaged]), None)
        if taken is None:
            break
        if left := [name for name in [*usual, *averaged] if name != taken]:
            hint = "" if wanted else f"; #{left[0]} after the file's name takes others"
            notes.append(f"the weights under {taken!r} are taken, not {', '.join(map(repr, left))}{hint}")
        elif taken in averaged and not wanted:
            notes.append(f"the averaged weights under {taken!r} are taken; there are no others")
        found, key = found[taken], "" if wanted else key
    tensors = _tensors(path, found)
    return Weights(_under(path, tensors, key) if key else tensors, {}, tuple(notes), ordered=True)


def _filled(found: Mapping[Any, object], key: str) -> bool:
    value = found.get(key)
    return isinstance(value, Mapping) and any(isinstance(inner, Tensor | Mapping) for inner in value.values())


def _tensors(path: Path, found: object) -> dict[str, Tensor]:
    if not isinstance(found, Mapping):
        raise InputError(f"{path}: holds a {type(found).__name__}, not a state dict; save net.state_dict()")
    tensors = {name: value for name, value in found.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if not tensors or len(tensors) != len(found):
        other = next((str(name) for name, value in found.items() if not isinstance(value, Tensor)), "nothing")
        keys = [ascii(key[:40]) for key in found if isinstance(key, str) and _filled(found, key) and _plain(found[key])]
        if keys:
            raise InputError(f"{path}: holds weights under {', '.join(keys[:5])}; write FILE#KEY for those of one")
        raise InputError(f"{path}: not a state dict: holds {other[:40]!r} beside tensors; save net.state_dict()")
    for name, tensor in tensors.items():
        refuse_unusual(path, name, tensor)
    return tensors


def _plain(found: Mapping[Any, object]) -> bool:
    return all(isinstance(name, str) and isinstance(value, Tensor) for name, value in found.items())


def _under(path: Path, tensors: Mapping[str, Tensor], key: str) -> dict[str, Tensor]:
    """Those of ``tensors`` whose names have the prefix ``key``, without it."""
    for prefix in (f"{name}." for name in [key, *(_EMA if key == "ema" else ())]):
        found = {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        if found:
            return found
    raise InputError(f"{path}: no weights under {key[:60]!r}; leave #{key[:60]} out, or name a key or prefix in it")


def check_fit(what: str, net: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Compare names, shapes and kinds with those of ``net`` (which may be on the meta device).

    Raises:
        InputError: names the first misfits, with a count.
    """
    state = {name: value for name, value in net.state_dict().items() if isinstance(value, Tensor)}
    missing = sorted(name for name in state if name not in tensors and not name.endswith(COUNTER))
    unexpected = sorted(name for name in tensors if name not in state)
    if missing or unexpected:
        both = (("missing", missing), ("unexpected", unexpected))
        parts = [listed(names).replace(" ", f" {word} ", 1) for word, names in both if names]
        raise InputError(f"{what}: weights don't fit the architecture: {'; '.join(parts)}; name the right architecture")
    for name, tensor in tensors.items():
        if tensor.shape != state[name].shape:
            found, wanted = list(tensor.shape), list(state[name].shape)
            raise InputError(f"{what}: tensor {name!r} has shape {found}, the architecture needs {wanted}")
        if _kind(tensor) != _kind(state[name]):
            raise InputError(f"{what}: tensor {name!r} is {tensor.dtype}, the architecture needs {state[name].dtype}")


def fill(what: str, net: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Copy ``tensors`` into ``net``, in the dtypes of ``net``.

    Raises:
        InputError: as :func:`check_fit`; a tensor with a NaN or an infinity.
    """
    check_fit(what, net, tensors)
    state = net.state_dict()
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor.to(state[name].dtype)).all()):
            raise InputError(f"{what}: tensor {name!r} holds NaN or infinity; use weights that are finite")
    try:
        net.load_state_dict({**state, **tensors})
    except RuntimeError as error:  # numbers of 4 bits and other kinds that torch holds and can't convert
        raise InputError(f"{what}: can't copy the weights: {str(error)[:200]}; save them as float32") from error


def listed(names: Sequence[str], most: int = 3) -> str:
    """The first few of ``names``, fit for a terminal, and how many there are."""
    told = ["".join(c if c.isprintable() else "?" for c in name[:60]) for name in names[:most]]
    return f"{len(names)} ({', '.join(told)}{', ...' if len(names) > most else ''})"


def _kind(tensor: Tensor) -> str:
    return "float" if tensor.is_floating_point() else "complex" if tensor.is_complex() else "whole"
