"""State dicts from files, without ever running what they say."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from advkit.files.errors import InputError
from advkit.files.tensors import first_not_finite, read_tensors

_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "ema")


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The state dict in a ``.safetensors`` or torch file; wrappers and ``module.`` prefixes are taken off.

    Raises:
        InputError: no or damaged file, a pickle that wants to run code, no tensors, weights that are not finite.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; give weights as .safetensors, .pt, .pth or .th")
    raw = read_tensors(path)[0] if path.suffix == ".safetensors" else _torch_file(path)
    for wrapper in _WRAPPERS:
        inner = raw.get(wrapper) if isinstance(raw, Mapping) else None
        if isinstance(inner, Mapping):
            raw = inner
            break
    if not isinstance(raw, Mapping) or not raw or not all(isinstance(v, Tensor) for v in raw.values()):
        raise InputError(f"{path}: holds no state dict (names to tensors); save model.state_dict()")
    state = {str(name).removeprefix("module.").removeprefix("_orig_mod."): v for name, v in raw.items()}
    bad = first_not_finite(state)
    if bad:
        raise InputError(f"{path}: tensor {bad!r} holds NaN or infinity; the training that wrote it diverged")
    return state


def _torch_file(path: Path) -> object:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Unsupported" in str(error) or "GLOBAL" in str(error) or "weights_only" in str(error).lower():
            raise InputError(
                f"{path}: damaged, or a pickle of more than tensors, which advkit never runs; save model.state_dict()"
            ) from error
        raise InputError(f"{path}: damaged torch file; write or copy it again") from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise InputError(f"{path}: damaged or not a torch file; write or copy it again") from error
    except (zipfile.BadZipFile, AssertionError, MemoryError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: damaged torch file; write or copy it again") from error


def fill(net: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """Load ``state`` into ``net``; every tensor must fit.

    Raises:
        InputError: missing or unexpected names, shapes, dtypes that are not those of the network.
    """
    own = net.state_dict()
    optional = {name for name in own if name.endswith("num_batches_tracked")}
    missing = [name for name in own if name not in state and name not in optional]
    unexpected = [name for name in state if name not in own]
    if missing or unexpected:
        raise InputError(f"{where}: weights don't fit: {_some('missing', missing)}{_some('unexpected', unexpected)}")
    for name, tensor in state.items():
        if tensor.shape != own[name].shape:
            shapes = f"{list(tensor.shape)}, the network has {list(own[name].shape)}"
            raise InputError(f"{where}: weights don't fit: {name} is {shapes}; check architecture and class count")
        if tensor.is_floating_point() != own[name].is_floating_point():
            raise InputError(f"{where}: weights don't fit: {name} is {tensor.dtype}, the network has {own[name].dtype}")
    net.load_state_dict({**{name: own[name] for name in optional}, **state})


def _some(what: str, names: list[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{what} {', '.join(names[:3])}{more}; "
