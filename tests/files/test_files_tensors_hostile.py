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
    refused("JSON", {"w": {**GOOD, "dtype": dtype}})


def test_dtypes_that_torch_or_advkit_lack(refused: Callable[..., None]) -> None:
    refused("'w' has unsupported dtype 'F8_E4M3'", {"w": {"dtype": "F8_E4M3", "shape": [8], "data_offsets": [0, 8]}})
    refused("'w' has unsupported dtype 'C64'", {"w": {"dtype": "C64", "shape": [1], "data_offsets": [0, 8]}})


@pytest.mark.parametrize("shape", [None, 2, "2", [2.0, 1], [-2, 1], [True, 2], [[2], 1], {"2": 1}, [2**64, 1]], ids=str)
def test_shapes(refused: Callable[..., None], shape: Any) -> None:
    refused("JSON", {"w": {**GOOD, "shape": shape}})


@pytest.mark.parametrize("offsets", [None, 8, [8], [0, 8, 8], [0, 8.0], [-8, 8], [False, 8], "08"], ids=str)
def test_offsets(refused: Callable[..., None], offsets: Any) -> None:
    refused("JSON", {"w": {**GOOD, "data_offsets": offsets}})


@pytest.mark.parametrize("entry", [None, 3, [], "F32"], ids=str)
def test_entries(refused: Callable[..., None], entry: Any) -> None:
    refused("JSON", {"w": entry})


@pytest.mark.parametrize("metadata", [3, [], {"a": 1}, {"a": None}, {"a": {}}], ids=str)
def test_metadata(refused: Callable[..., None], metadata: Any) -> None:
    refused("JSON", {"__metadata__": metadata, "w": GOOD})


@pytest.mark.parametrize("header", [None, 3, [], "w"], ids=str)
def test_headers(refused: Callable[..., None], header: Any) -> None:
    refused(".", header)


def test_a_header_of_a_hundred_million_levels_or_bytes(refused: Callable[..., None], tmp_path: Path) -> None:
    refused(".", json.loads("[" * 400 + "]" * 400))
    path = tmp_path / "w.safetensors"
    for length in (100_000_001, 2**63, 2**64 - 1):
        with path.open("wb") as file:  # sparse: takes no disk
            file.write(struct.pack("<Q", length) + b"{")
            file.truncate(100_000_020)
        with pytest.raises(InputError, match="header too large"):
            read_header(path)


def test_places(refused: Callable[..., None]) -> None:
    later = {**GOOD, "data_offsets": [8, 16]}
    refused("cut short", {"w": GOOD}, bytes(7))
    refused("bytes follow the last tensor", {"w": GOOD}, bytes(9))
    refused("overlap or leave holes", {"w": later}, bytes(16))
    refused("overlap or leave holes", {"w": GOOD, "v": GOOD}, bytes(16))
    refused("overlap or leave holes", {"w": GOOD, "v": {**GOOD, "data_offsets": [4, 12]}}, bytes(12))
    refused("shape", {"w": {**GOOD, "shape": [3, 1]}})
    refused("overflow", {"w": {**GOOD, "shape": [2**39, 2**39, 2**39]}})


@pytest.mark.parametrize("shape", [[0, 2**40], [2**63, 0], [0] * 33], ids=["40 bits", "63 bits", "axes"])
def test_shapes_of_nothing(refused: Callable[..., None], shape: list[int]) -> None:
    refused("'w' has an impossible shape", {"w": {"dtype": "F32", "shape": shape, "data_offsets": [0, 0]}}, b"")


def test_names_are_fit_for_a_terminal(tmp_path: Path) -> None:
    path = written(tmp_path / "w.safetensors", {"\x1b[31m": {**GOOD, "shape": [3, 1]}})
    with pytest.raises(InputError) as caught:
        read_header(path)
    assert str(caught.value).isprintable()


def test_rows_lie_where_the_header_says(tmp_path: Path) -> None:
    """Tensors in any order of names and places, rows read alone."""
    data = torch.arange(12, dtype=torch.float32)
    header = {
        "w": {"dtype": "F32", "shape": [3, 2], "data_offsets": [24, 48]},
        "__metadata__": {"a": "b"},
        "v": {"dtype": "F32", "shape": [6, 1], "data_offsets": [0, 24]},
    }
    path = written(tmp_path / "w.safetensors", header, data.numpy().tobytes())
    assert open_tensor(path, "w").rows(1, 3).tolist() == [[8, 9], [10, 11]]
    assert open_tensor(path, "v").rows(5, 9).tolist() == [[5]]
    assert open_tensor(path, "v").rows(8, 9).shape == (0, 1)
    for wanted in ([0, 1, 2], [2, 0], [1, 2, 0, 1], [1, 1, 2], []):
        found = open_tensor(path, "w").at(torch.tensor(wanted, dtype=torch.int64))
        assert torch.equal(found, data[6:].view(3, 2)[wanted])
    for beyond in (-1, 3):
        with pytest.raises(IndexError, match="there are 3"):
            open_tensor(path, "w").at(torch.tensor([0, beyond]))
    assert read_header(path) == ({"w": ("F32", (3, 2)), "v": ("F32", (6, 1))}, {"a": "b"})


def test_rows_are_read_with_the_file_opened_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(
        tmp_path / "w.safetensors", {"w": {"dtype": "F32", "shape": [3, 1], "data_offsets": [0, 12]}}, bytes(12)
    )
    rows, opened, honest = open_tensor(path, "w"), [], Path.open
    monkeypatch.setattr(Path, "open", lambda file, *mode: opened.append(file) or honest(file, *mode))
    assert rows.at(torch.tensor([2, 0, 1])).shape == (3, 1)
    assert opened == [path]


def test_a_file_that_changes_between_two_reads_is_told(tmp_path: Path) -> None:
    header = {"w": {"dtype": "F32", "shape": [3, 1], "data_offsets": [0, 12]}}
    path = written(tmp_path / "w.safetensors", header, bytes(12))
    rows = open_tensor(path, "w")
    path.write_bytes(path.read_bytes()[:-4])
    for read in (lambda: rows.rows(0, 1), lambda: rows.at(torch.tensor([0]))):
        with pytest.raises(InputError, match="changed while it was read"):
            read()
    path.unlink()
    with pytest.raises(InputError, match="cannot read: No such file"):
        rows.at(torch.tensor([0]))
