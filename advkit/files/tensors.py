"""safetensors, read with suspicion and written the same way twice.

Headers are checked here before any tensor is made, so that a damaged or hostile file is one clear line. Files carry
one metadata key, ``advkit``: with several, the library writes them in random order and equal runs differ in bytes.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, TypeGuard

import numpy as np
import torch
from torch import Tensor

from advkit.files.atomic import atomic_write
from advkit.files.errors import InputError

METADATA_KEY = "advkit"
_MAX_HEADER = 100_000_000  # bytes; the format's own limit
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


def _raw_header(path: Path) -> tuple[dict[str, object], int, int]:
    """JSON header, where the data starts, size of the file."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(8)
            if len(start) < 8:
                raise _damaged(path, f"only {size} bytes long")
            (length,) = struct.unpack("<Q", start)
            if length > min(_MAX_HEADER, size - 8):
                raise _damaged(path, f"header says {length} bytes, the file has {size - 8} after it")
            text = file.read(length)
    except OSError as error:
        raise InputError(f"{path}: cannot read: {error.strerror or error}") from error
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, "header is not JSON") from error
    if not isinstance(header, dict):
        raise _damaged(path, "header is not a JSON object")
    return header, 8 + length, size


def _whole_numbers(value: object) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 2**40 for n in value)


def _entry(path: Path, name: str, value: object, room: int) -> tuple[str, tuple[int, ...], int, int]:
    if not isinstance(value, dict):
        raise _damaged(path, f"entry {name!r} is not an object")
    dtype, shape, offsets = value.get("dtype"), value.get("shape"), value.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise _damaged(path, f"tensor {name!r} has unsupported dtype {str(dtype)[:20]!r}")
    if not _whole_numbers(shape) or not _whole_numbers(offsets) or len(offsets) != 2:
        raise _damaged(path, f"tensor {name!r} has a malformed shape or offsets")
    begin, end = offsets
    count = 1
    for n in shape:
        count *= n
    if not 0 <= begin <= end <= room:
        raise _damaged(path, f"cut short: tensor {name!r} ends at byte {end} of {room}")
    if end - begin != count * DTYPES[dtype].itemsize:
        raise _damaged(path, f"tensor {name!r} has {end - begin} bytes, its shape {shape} needs another number")
    return dtype, tuple(shape), begin, end


def _checked(path: Path) -> tuple[dict[str, tuple[str, tuple[int, ...], int, int]], dict[str, str], int]:
    raw, start, size = _raw_header(path)
    metadata = raw.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise _damaged(path, "metadata is not a map of strings")
    entries = {name: _entry(path, name, value, size - start) for name, value in raw.items()}
    position = 0
    for _, _, begin, end in sorted(entries.values(), key=lambda entry: entry[2:]):
        if begin != position:
            raise _damaged(path, "tensors overlap or leave holes")
        position = end
    if position != size - start:
        raise _damaged(path, f"{size - start - position} bytes after the last tensor")
    return entries, metadata, start


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


def _tensor(path: Path, data: bytes, dtype: str, shape: tuple[int, ...]) -> Tensor:
    if not data:
        return torch.empty(shape, dtype=DTYPES[dtype])
    flat = torch.frombuffer(bytearray(data), dtype=torch.uint8)
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

    def __len__(self) -> int:
        return self.shape[0]

    def mapped(self) -> np.ndarray:
        """The whole tensor, left on the disk until it is looked at; read-only."""
        kind = np.dtype(_NUMPY[self._name])
        return np.memmap(self._path, dtype=kind, mode="r", offset=self._offset, shape=self.shape)

    def rows(self, start: int, stop: int) -> Tensor:
        """Rows ``start`` to ``stop``, in memory of their own."""
        stop = min(stop, len(self))
        with self._path.open("rb") as file:
            file.seek(self._offset + start * self._row)
            data = file.read(max(stop - start, 0) * self._row)
        return _tensor(self._path, data, self._name, (max(stop - start, 0), *self.shape[1:]))


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
