"""Weights files known by their first bytes; what torch.save writes, read without running anything in it."""

from __future__ import annotations

import re
import warnings
import zipfile
from pathlib import Path

import torch
from torch import Tensor

from advkit.files.errors import InputError

SAFE_TORCH = (2, 6)  # before it, weights_only could be made to run code: CVE-2025-32434
_START = 1024  # bytes that tell every kind apart
_SCANNED = 1 << 20  # bytes of a pickle that are searched for the names of classes
_REPEATED = 1 << 20  # numbers that a tensor may have by repeating others: a small file must not ask for a huge net
_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"
_LFS = b"version https://git-lfs.github.com/spec/"
_GLOBAL = re.compile(r"unsupported (?:global: )?GLOBAL (\S+)", re.IGNORECASE)


def is_torch_file(path: Path) -> bool:
    """Whether ``path`` is of torch.save (else of safetensors), by its first bytes: suffixes say little.

    Raises:
        InputError: unreadable, or of another kind: a Git LFS pointer, a web page, an HDF5 file, something unknown.
    """
    try:
        with path.open("rb") as file:
            start = file.read(_START)
    except OSError as error:
        raise InputError(f"{path}: cannot read: {error.strerror or error}") from error
    if start.startswith(_LFS):
        raise InputError(f"{path}: a Git LFS pointer, not the weights themselves; fetch them with git lfs pull")
    if start.lstrip(b"\xef\xbb\xbf \t\r\n")[:14].lower().startswith((b"<!doctype html", b"<html")):
        raise InputError(f"{path}: a web page, not weights; download the file itself (its raw or resolve link)")
    if start.startswith(b"\x89HDF"):
        raise InputError(f"{path}: an HDF5 file, as Keras writes; only safetensors and torch state dicts are read")
    if not start:
        raise InputError(f"{path}: an empty file; fetch or write it again")
    if start[8:9] == b"{" and not any(start[4:8]):  # a safetensors header may be 128 bytes long, as a pickle begins
        return False
    if start.startswith((_ZIP, _PICKLE)):
        return True
    if path.suffix != ".safetensors":  # whose reader says what is wrong with it
        raise InputError(f"{path}: begins with {start[:8]!r}: neither a safetensors file nor one that torch.save wrote")
    return False


def unpickle(path: Path) -> object:
    """The object in ``path``, of tensors and plain containers alone.

    Raises:
        InputError: damaged, unreadable, or holds what would run code; a torch too old to refuse such files.
    """
    _require_safe_torch(path)
    try:
        with warnings.catch_warnings(), path.open("rb") as file:  # by its path, torch would go by its suffix
            warnings.simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(f"{path}: cannot read: {error.strerror or error}") from error
    except Exception as error:  # a damaged pickle can raise anything
        raise InputError(f"{path}: not a plain state dict: {_why(path, str(error))}") from error


def _require_safe_torch(path: Path) -> None:
    numbers = re.match(r"(\d+)\.(\d+)", torch.__version__)
    if numbers is None or tuple(map(int, numbers.groups())) < SAFE_TORCH:
        raise InputError(
            f"{path}: torch {torch.__version__} could run code hidden in it (CVE-2025-32434); "
            "install torch 2.6 or later, or give a safetensors file"
        )


def _why(path: Path, message: str) -> str:
    """Why ``path`` can't be read, and what to do."""
    names, pickled = _contents(path)
    if any(name.endswith("/constants.pkl") for name in names):
        return "a TorchScript archive, which is code; where the model was made, save its state_dict()"
    found = _GLOBAL.search(message)
    if found is None:
        return "damaged, or holds more than tensors, which could run code; save it again as safetensors"
    kind = ascii(found[1])[1:81].rstrip("'")
    if b"torch.nn.modules." in pickled:
        return f"holds a whole pickled module ({kind}), which only its code can open; save its state_dict() instead"
    if kind == "argparse.Namespace":
        return "holds the options of its training (argparse.Namespace), an object; save the state dict alone"
    return f"holds an object ({kind}), which could run code; save the state dict alone, or as safetensors"


def _contents(path: Path) -> tuple[list[str], bytes]:
    """Names of the members of an archive, and the first part of its pickle, or of a file that is no archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            pickles = [name for name in names if name.endswith("/data.pkl")]
            if not pickles:
                return names, b""
            with archive.open(pickles[0]) as file:
                return names, file.read(_SCANNED)
    except Exception:  # a hostile archive can raise anything; then it is a pickle or nothing
        with path.open("rb") as plain:
            return [], plain.read(_SCANNED)


def refuse_unusual(path: Path, name: str, tensor: Tensor) -> None:
    """Raise InputError where ``tensor`` is no plain array of numbers with values."""
    if tensor.is_meta:
        unusual = "is on the meta device: it has a shape but no values; save it after its values are loaded"
    elif tensor.is_nested:
        unusual = "is a nested tensor, which has no shape of its own; save it as a plain tensor"
    elif tensor.layout != torch.strided:
        unusual = f"is sparse ({tensor.layout}); save tensor.to_dense()"
    elif tensor.is_quantized:
        unusual = f"is quantized ({tensor.dtype}); save tensor.dequantize(), or the weights before quantization"
    elif tensor.numel() > max(_REPEATED, tensor.untyped_storage().nbytes() // tensor.itemsize):
        unusual = f"of shape {list(tensor.shape)} repeats few numbers (strides of 0); save tensor.contiguous()"
    else:
        return
    raise InputError(f"{path}: tensor {name[:60]!r} {unusual}")
