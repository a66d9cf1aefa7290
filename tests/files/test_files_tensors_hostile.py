"""Headers of safetensors files that no writer makes: each is one line, and no tensor is made of it."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from advkit.files.errors import InputError
from advkit.files.tensors import open_tensor, read_header, read_tensors

GOOD = {"dtype": "F32", "shape": [2, 1], "data_offsets": [0, 8]}
READERS: dict[str, Callable[[Path], object]] = {
    "header": read_header,
    "tensors": read_tensors,
    "rows": lambda path: open_tensor(path, "w"),
}


def written(path: Path, header: object, data: bytes = bytes(8)) -> Path:
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


@pytest.fixture(params=READERS)
def refused(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., None]:
    """That a header is one line that says ``words``, whichever way the file is read."""

    def call(words: str, header: object, data: bytes = bytes(8)) -> None:
        with pytest.raises(InputError, match=words) as caught:
            READERS[request.param](written(tmp_path / "w.safetensors", header, data))
        assert str(caught.value).startswith(f"{tmp_path}/w.safetensors: damaged or not a safetensors file: ")

    return call


def test_the_good_one_is_read(tmp_path: Path) -> None:
    tensors, metadata = read_tensors(written(tmp_path / "w.safetensors", {"w": GOOD}, struct.pack("<2f", 1, 2)))
    assert tensors["w"].tolist() == [[1.0], [2.0]]
    assert metadata == {}
    assert torch.equal(safetensors.torch.load_file(tmp_path / "w.safetensors")["w"], tensors["w"])


@pytest.mark.parametrize("dtype", [[], {}, None, 3, True, ["F32"], "F31", "", "f32", "x" * 999], ids=str)
def test_dtypes(refused: Callable[..., None], dtype: Any) -> None:
    refused("'w' has unsupported dtype", {"w": {**GOOD, "dtype": dtype}})


@pytest.mark.parametrize("shape", [None, 2, "2", [2.0, 1], [-2, 1], [True, 2], [[2], 1], {"2": 1}, [2**40, 1]], ids=str)
def test_shapes(refused: Callable[..., None], shape: Any) -> None:
    refused("malformed shape", {"w": {**GOOD, "shape": shape}})


@pytest.mark.parametrize("offsets", [None, 8, [8], [0, 8, 8], [0, 8.0], [-8, 8], [False, 8], "08"], ids=str)
def test_offsets(refused: Callable[..., None], offsets: Any) -> None:
    refused("malformed shape or offsets", {"w": {**GOOD, "data_offsets": offsets}})


@pytest.mark.parametrize("entry", [None, 3, [], "F32"], ids=str)
def test_entries(refused: Callable[..., None], entry: Any) -> None:
    refused("'w' is not an object", {"w": entry})


@pytest.mark.parametrize("metadata", [None, 3, [], {"a": 1}, {"a": None}, {"a": {}}], ids=str)
def test_metadata(refused: Callable[..., None], metadata: Any) -> None:
    refused("metadata is not a map of strings", {"__metadata__": metadata, "w": GOOD})


@pytest.mark.parametrize("header", [None, 3, [], "w"], ids=str)
def test_headers(refused: Callable[..., None], header: Any) -> None:
    refused("not a JSON object", header)


def test_places(refused: Callable[..., None]) -> None:
    later = {**GOOD, "data_offsets": [8, 16]}
    refused("cut short", {"w": later})
    refused("1 bytes after the last tensor", {"w": GOOD}, bytes(9))
    refused("overlap or leave holes", {"w": later}, bytes(16))
    refused("overlap or leave holes", {"w": GOOD, "v": GOOD}, bytes(16))
    refused("its shape .* needs another number", {"w": {**GOOD, "shape": [3, 1]}})
    refused("its shape .* needs another number", {"w": {**GOOD, "shape": [2**39, 2**39, 2**39]}})
