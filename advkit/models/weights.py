"""Weights of other people: read without running anything in them, and fitted into a net with every misfit named."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from advkit.files.errors import InputError
from advkit.files.tensors import read_tensors
from advkit.models.torch_file import is_torch_file, refuse_unusual, unpickle

SUFFIXES = (".safetensors", ".pt", ".pth", ".th", ".bin", ".ckpt", ".tar")  # by which a file that is not there is known
_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "weights")
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.")
_COUNTER = "num_batches_tracked"  # batch-norm's counter of steps, which older state dicts lack; nothing reads it here


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Name to tensor from a safetensors file or a state dict that torch.save wrote, and its metadata.

    The kind of the file is known by its content. Wrappers such as ``{"state_dict": ...}`` are taken off; names are
    left as they are. A pickle is read with ``weights_only``: what would run code is refused.

    Raises:
        InputError: no such file, damaged, of another kind, not a state dict.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such weights file; check the path after @")
    if not is_torch_file(path):
        return read_tensors(path)
    return _state_dict(path, unpickle(path)), {}


def _state_dict(path: Path, found: object) -> dict[str, Tensor]:
    for _ in range(3):  # wrappers come nested at times; a hostile file may nest them without end
        inner = [found[key] for key in _WRAPPERS if isinstance(found, Mapping) and isinstance(found.get(key), Mapping)]
        if not inner:
            break
        found = inner[0]
    if not isinstance(found, Mapping):
        raise InputError(f"{path}: holds a {type(found).__name__}, not a state dict; save net.state_dict()")
    tensors = {name: value for name, value in found.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if not tensors or len(tensors) != len(found):
        other = next((str(name) for name, value in found.items() if not isinstance(value, Tensor)), "nothing")
        raise InputError(f"{path}: not a state dict: holds {other[:40]!r} beside tensors; save net.state_dict()")
    for name, tensor in tensors.items():
        refuse_unusual(path, name, tensor)
    return tensors


def without_prefix(tensors: Mapping[str, Tensor], expected: Iterable[str]) -> dict[str, Tensor]:
    """``tensors`` without the prefix that wrappers (DataParallel, ``torch.compile``) put before every name."""
    expected, result = set(expected), dict(tensors)
    for _ in range(3):
        prefix = next((p for p in _PREFIXES if result and all(name.startswith(p) for name in result)), None)
        if prefix is None or any(name.startswith(prefix) for name in expected):
            break
        result = {name[len(prefix) :]: tensor for name, tensor in result.items()}
    return result


def check_fit(what: str, net: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Compare names, shapes and kinds with those of ``net`` (which may be on the meta device).

    Raises:
        InputError: names the first misfits, with a count.
    """
    state = {name: value for name, value in net.state_dict().items() if isinstance(value, Tensor)}
    missing = sorted(name for name in state if name not in tensors and not name.endswith(_COUNTER))
    unexpected = sorted(name for name in tensors if name not in state)
    if missing or unexpected:
        parts = [part for part in (_some("missing", missing), _some("unexpected", unexpected)) if part]
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


def _some(word: str, names: list[str], most: int = 3) -> str:
    if not names:
        return ""
    more = ", ..." if len(names) > most else ""
    return f"{len(names)} {word} ({', '.join(name[:60] for name in names[:most])}{more})"


def _kind(tensor: Tensor) -> str:
    return "float" if tensor.is_floating_point() else "complex" if tensor.is_complex() else "whole"
