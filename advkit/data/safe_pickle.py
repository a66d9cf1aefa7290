"""Pickles of plain data, read without running anything that they say."""

from __future__ import annotations

import io
import math
import pickle
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from advkit.files.errors import InputError

_NDARRAY = object()  # what the name numpy.ndarray means here: a mark that can't be called


class _Dtype:
    """Stands for numpy.dtype: whole numbers only. Python 2, which wrote the published batches, names them in bytes."""

    def __init__(self, code: str | bytes, *_: object) -> None:
        self.code, self.order = _text(code), "="
        if not re.fullmatch("[iu][1248]", self.code):
            raise pickle.UnpicklingError(f"it holds an array of {self.code[:20]!r}; whole numbers are needed")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = {"<": "<", ">": ">"}.get(_text(state[1]), "=")


class _Array:
    """An array as the pickle describes it; ``found`` is made here, of bytes that are there, and only of numbers."""

    found: np.ndarray | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, data = state
        self.fill(data, dtype, shape, "F" if fortran else "C")

    def fill(self, data: bytes, dtype: _Dtype, shape: tuple[int, ...], order: str) -> None:
        flat = np.frombuffer(bytes(data), np.dtype(dtype.order + dtype.code))
        if not all(type(n) is int and n >= 0 for n in shape) or math.prod(shape) != len(flat):
            raise pickle.UnpicklingError(f"an array of shape {shape} has {len(flat)} numbers")
        self.found = flat.reshape(shape, order="F" if order == "F" else "C")


def _reconstruct(kind: object, *_: object) -> _Array:
    if kind is not _NDARRAY:
        raise pickle.UnpicklingError("it holds an array of a kind of its own")
    return _Array()


def _from_buffer(data: bytes, dtype: _Dtype, shape: tuple[int, ...], order: str) -> _Array:
    array = _Array()
    array.fill(data, dtype, shape, order)
    return array


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it asks for the encoding {str(encoding)[:20]!r}")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """How Python 3 stores empty bytes in the older protocols; the real ``bytes`` would make any number of them."""
    return b""


# The names that pickles of numpy arrays use, and what they mean here. Numpy's own objects can't be handed out:
# ``numpy.ndarray(shape, "O", buffer)`` makes objects of any address, which is as good as running code.
_MEANINGS: dict[tuple[str, str], object] = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _no_bytes,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _reconstruct for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _from_buffer for core in ("core", "_core")},
}


class _Reader(pickle._Unpickler):
    """Python's own unpickler rather than C's: a short file can't make it set gigabytes aside."""

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(pickle._Unpickler.dispatch)

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _MEANINGS:
            raise pickle.UnpicklingError(f"it names {module[:40]}.{name[:40]}")
        return _MEANINGS[module, name]

    def read_bytearray(self) -> None:
        """BYTEARRAY8, which would set aside whatever length the file claims."""
        (length,) = struct.unpack("<Q", self.read(8))  # type: ignore[attr-defined]
        self.append(bytearray(self.read(length)))  # type: ignore[attr-defined]

    dispatch[pickle.BYTEARRAY8[0]] = read_bytearray


def read_dict(file: Path) -> dict[str, Any]:
    """The dict that ``file`` holds: bytes, strings, numbers, lists, dicts, and arrays of whole numbers.

    Raises:
        InputError: unreadable, damaged, no dict, or anything beyond plain data, of which nothing is run.
    """
    try:
        found = _Reader(io.BytesIO(file.read_bytes()), encoding="bytes").load()
    except OSError as error:
        raise InputError(f"{file}: cannot read: {error.strerror or error}") from error
    except MemoryError as error:
        raise InputError(f"{file}: memory ran out as it was read; free memory, or copy it again") from error
    except Exception as error:  # a damaged pickle raises nearly anything
        why = str(error)[:120] or type(error).__name__
        raise InputError(f"{file}: not a CIFAR batch, damaged, or unsafe ({why}); nothing in it was run") from error
    if not isinstance(found, dict):
        raise InputError(f"{file}: not a CIFAR batch (no dict in it); give the files as published")
    return {_text(key): value.found if isinstance(value, _Array) else value for key, value in found.items()}


def _text(key: object) -> str:
    return key.decode(errors="replace") if isinstance(key, bytes) else str(key)
