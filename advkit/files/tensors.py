"""safetensors, read with suspicion and written the same way twice.

Headers are checked before any tensor is made, so that a damaged or hostile file is one clear line. Files carry
one metadata key, ``advkit``: with several, the library writes them in random order and equal runs differ in bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from advkit.files.atomic import atomic_write
from advkit.files.errors import InputError

METADATA_KEY = "advkit"
_MOST_AXES = 32  # NumPy's limit before version 2
DTYPES: dict[str, torch.dtype] = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
}
_NUMPY = {"U8": "u1", "I64": "<i8", "F16": "<f2", "F32": "<f4", "F64": "<f8"}  # what is ever mapped
_NAMES = {dtype: name for name, dtype in DTYPES.items()}

Header = dict[str, tuple[str, tuple[int, ...]]]


def _damaged(path: Path, why: str) -> InputError:
    return InputError(f"{path}: damaged or not a safetensors file: {why}; write or copy it again")


def _checked(path: Path) -> tuple[dict[str, tuple[str, tuple[int, ...], int, int]], dict[str, str], int]:
    """Dtype, shape, begin and end of each tensor; metadata; where the data starts.

    The library refuses what is damaged: headers over 100 MB, entries of the wrong kind, tensors that overlap, leave
    holes or don't have the bytes of their shape, files that end early or late. It doesn't tell where a tensor lies.
    """
    try:
        with path.open("rb") as file:
            with safe_open(path, framework="np") as checked:
                metadata = dict(checked.metadata() or {})
            (length,) = struct.unpack("<Q", file.read(8))
            raw: dict[str, dict[str, Any]] = json.loads(file.read(length))
    except OSError as error:
        raise InputError(f"{path}: cannot read: {error.strerror or error}") from error
    except SafetensorError as error:
        raise _damaged(path, _why(str(error))) from error
    except (struct.error, ValueError) as error:
        raise _damaged(path, "the file changed while it was read") from error
    raw.pop("__metadata__", None)
    for name, entry in raw.items():
        if entry["dtype"] not in DTYPES:
            raise _damaged(path, f"tensor {name!r} has unsupported dtype {entry['dtype'][:20]!r}")
        if len(entry["shape"]) > _MOST_AXES or any(n >= 2**40 for n in entry["shape"]):  # empty ones pass the library
            raise _damaged(path, f"tensor {name!r} has an impossible shape")
    entries = {name: (e["dtype"], tuple(e["shape"]), *map(int, e["data_offsets"])) for name, e in raw.items()}
    return entries, metadata, 8 + length


def _why(message: str) -> str:
    """The library's reason in words, fit for a terminal."""
    if "ncomplete" in message:  # MetadataIncompleteBuffer in older versions
        return "cut short, or bytes follow the last tensor"
    if "nvalid offset" in message or "InvalidOffset" in message:
        return "tensors overlap or leave holes"
    reason = message.removeprefix("Error while deserializing header: ")
    return "".join(c if c.isprintable() else "?" for c in reason[:200])


def read_header(path: Path) -> tuple[Header, dict[str, str]]:
    """Names, dtypes and shapes of the tensors in ``path``, and its metadata, without reading a tensor.

    Raises:
        InputError: unreadable, truncated, hostile or damaged file.
    """
    entries, metadata, _ = _checked(Path(path))
    return {name: (dtype, shape) for name, (dtype, shape, _, _) in entries.items()}, metadata


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors of ``path`` in memory of their own, and its metadata.

    Raises:
        InputError: as :func:`read_header`.
    """
    path = Path(path)
    entries, metadata, start = _checked(path)
    tensors: dict[str, Tensor] = {}
    try:
        with path.open("rb") as file:
            for name, (dtype, shape, begin, end) in entries.items():
                file.seek(start + begin)
                tensors[name] = _tensor(path, file.read(end - begin), dtype, shape)
    except OSError as error:
        raise InputError(f"{path}: cannot read: {error.strerror or error}") from error
    return tensors, metadata


def _tensor(path: Path, data: bytes | bytearray, dtype: str, shape: tuple[int, ...]) -> Tensor:
    if not data:
        return torch.empty(shape, dtype=DTYPES[dtype])
    flat = torch.frombuffer(data if isinstance(data, bytearray) else bytearray(data), dtype=torch.uint8)
    try:
        return flat.view(DTYPES[dtype]).view(shape)
    except RuntimeError as error:
        raise _damaged(path, "the file changed while it was read") from error


def _bytes(tensor: Tensor) -> bytes:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return bytes(flat.view(torch.uint8).numpy().tobytes()) if flat.numel() else b""


def _header_bytes(shapes: Mapping[str, tuple[torch.dtype, tuple[int, ...]]], metadata: str) -> bytes:
    header: dict[str, object] = {"__metadata__": {METADATA_KEY: metadata}}
    position = 0
    for name in sorted(shapes):
        dtype, shape = shapes[name]
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        header[name] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [position, position + size]}
        position += size
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: str) -> None:
    """Write ``tensors`` (sorted by name) and the one metadata string to ``path``, atomically and reproducibly."""
    shapes = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        file.write(_header_bytes(shapes, metadata))
        for name in sorted(tensors):
            file.write(_bytes(tensors[name]))


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """sha256 over the sorted (name, dtype, shape, bytes): the identity of a model, whatever file it came in."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name}\0{_NAMES[tensor.dtype]}\0{list(tensor.shape)}\0".encode())
        digest.update(_bytes(tensor))
    return digest.hexdigest()


class TensorWriter:
    """A safetensors file written row by row, so that memory stays flat in the number of rows.

    Use as a context manager: the file appears under its name when the block ends with every row written.

    Args:
        path: where the file shall appear.
        shapes: name to (dtype, full shape); the first axis is the row.
        metadata: the one metadata string.
    """

    def __init__(self, path: Path, shapes: Mapping[str, tuple[torch.dtype, tuple[int, ...]]], metadata: str) -> None:
        self._path, self._shapes = Path(path), dict(shapes)
        self._header = _header_bytes(shapes, metadata)
        self._starts: dict[str, int] = {}
        position = len(self._header)
        for name in sorted(shapes):
            dtype, shape = shapes[name]
            self._starts[name] = position
            position += int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        self._size = position
        self._written = dict.fromkeys(shapes, 0)
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        self._replacing = atomic_write(self._path)
        temporary = self._replacing.__enter__()
        self._file = temporary.open("wb")
        self._file.write(self._header)
        return self

    def append(self, rows: Mapping[str, Tensor]) -> None:
        """Write the next rows of each named tensor: dtype and row shape as announced."""
        assert self._file is not None
        for name, tensor in rows.items():
            dtype, shape = self._shapes[name]
            if tensor.dtype != dtype or tuple(tensor.shape[1:]) != shape[1:]:
                raise ValueError(f"{name}: {tensor.dtype} {tuple(tensor.shape)} does not fit {dtype} {shape}")
            data = _bytes(tensor)
            self._file.seek(self._starts[name] + self._written[name])
            self._file.write(data)
            self._written[name] += len(data)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._file is not None
        try:
            self._file.close()
        except OSError as failure:
            kind, error, trace = type(failure), failure, failure.__traceback__
        if error is None and (self._size - len(self._header)) != sum(self._written.values()):
            error = ValueError(f"{self._path}: rows are missing")
            kind = ValueError
        self._replacing.__exit__(kind, error, trace)
        if isinstance(error, ValueError) and trace is None:
            raise error


class LazyTensor:
    """One tensor of a safetensors file, its rows read on demand."""

    def __init__(self, path: Path, name: str) -> None:
        entries, _, start = _checked(Path(path))
        if name not in entries:
            raise InputError(f"{path}: no tensor {name!r}; it has {', '.join(sorted(entries)) or 'none'}")
        dtype, self.shape, begin, _ = entries[name]
        if not self.shape:
            raise InputError(f"{path}: tensor {name!r} is a single number; rows are needed")
        self.dtype = DTYPES[dtype]
        self._path, self._name, self._offset = Path(path), dtype, start + begin
        self._row = int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize
        self._size = start + max(end for *_, end in entries.values())

    def __len__(self) -> int:
        return self.shape[0]

    def mapped(self) -> np.ndarray:
        """The whole tensor, left on the disk until it is looked at; read-only."""
        kind = np.dtype(_NUMPY[self._name])
        return np.memmap(self._path, dtype=kind, mode="r", offset=self._offset, shape=self.shape)

    def rows(self, start: int, stop: int) -> Tensor:
        """Rows ``start`` to ``stop``, in memory of their own.

        Raises:
            InputError: the file is gone, or another than it was.
        """
        return self._read([(start, max(min(stop, len(self)) - start, 0))])

    def at(self, positions: Tensor) -> Tensor:
        """The rows at ``positions`` (M,) in their order, in memory of their own.

        Raises:
            IndexError: no such row.
            InputError: as :meth:`rows`.
        """
        runs: list[tuple[int, int]] = []
        for row in positions.tolist():
            if not 0 <= row < len(self):
                raise IndexError(f"{self._path}: no row {row}, there are {len(self)}")
            start, count = runs[-1] if runs else (row, 0)
            if row == start + count:
                runs[-1:] = [(start, count + 1)]
            else:
                runs.append((row, 1))
        return self._read(runs)

    def _read(self, runs: list[tuple[int, int]]) -> Tensor:
        """Rows of ``runs`` (first row, how many), one after the other; the file is opened once."""
        count = sum(length for _, length in runs)
        data, done = bytearray(count * self._row), 0
        try:
            with self._path.open("rb") as file:
                if file.seek(0, os.SEEK_END) != self._size:
                    raise _damaged(self._path, "the file changed while it was read")
                for start, length in runs:
                    file.seek(self._offset + start * self._row)
                    done += file.readinto(memoryview(data)[done : done + length * self._row])
        except OSError as error:
            raise InputError(f"{self._path}: cannot read: {error.strerror or error}") from error
        return _tensor(self._path, data if done == len(data) else data[:done], self._name, (count, *self.shape[1:]))


def open_tensor(path: Path, name: str) -> LazyTensor:
    """The tensor ``name`` of ``path``, for reading a few rows at a time.

    Raises:
        InputError: as :func:`read_header`; no such tensor; a scalar.
    """
    return LazyTensor(Path(path), name)


def first_not_finite(tensors: Mapping[str, Tensor] | Iterable[tuple[str, Tensor]]) -> str | None:
    """Name of the first floating tensor that holds a NaN or an infinity, None when all are finite."""
    pairs = tensors.items() if isinstance(tensors, Mapping) else tensors
    for name, tensor in pairs:
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            return name
    return None
