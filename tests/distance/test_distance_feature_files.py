"""Ready features from .npy and .safetensors files, and what is refused in them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from advkit.distance.feature_files import is_feature_file, read_feature_file
from advkit.files.errors import InputError

FEATURES = np.random.default_rng(0).normal(size=(9, 4))


def by_value(rows: torch.Tensor) -> list[tuple[float, ...]]:
    return sorted(map(tuple, rows.tolist()))


@pytest.mark.parametrize("layout", ["<f8", ">f8", "<f4", "<f2", "fortran"])
def test_numpy_features_of_any_layout(layout: str, tmp_path: Path) -> None:
    array = np.asfortranarray(FEATURES) if layout == "fortran" else FEATURES.astype(layout)
    np.save(tmp_path / "x.npy", array)
    assert is_feature_file(tmp_path / "x.npy")
    table, sha256 = read_feature_file(tmp_path / "x.npy")
    assert by_value(table.rows(torch.arange(9))) == by_value(torch.from_numpy(array.astype(np.float64)))
    assert str(table.dtype) == ("float32" if layout in ("<f4", "<f2") else "float64")
    assert (sha256 == read_feature_file_of(FEATURES, tmp_path)[1]) == (layout in ("<f8", ">f8", "fortran"))


def read_feature_file_of(array: np.ndarray, folder: Path) -> tuple[object, str]:
    np.save(folder / "again.npy", array)
    return read_feature_file(folder / "again.npy")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_safetensors_features(dtype: torch.dtype, tmp_path: Path) -> None:
    tensor = torch.from_numpy(FEATURES).to(dtype)
    save_file({"features": tensor, "more": torch.zeros(1)}, tmp_path / "x.safetensors")
    assert is_feature_file(tmp_path / "x.safetensors")
    table, _ = read_feature_file(tmp_path / "x.safetensors")
    assert by_value(table.rows(torch.arange(9))) == by_value(tensor.double())


def test_other_files_hold_no_features(tmp_path: Path) -> None:
    save_file({"images": torch.zeros(1)}, tmp_path / "x.safetensors")
    (tmp_path / "x.npz").write_bytes(b"")
    assert not any(is_feature_file(tmp_path / name) for name in ("x.safetensors", "x.npz", "missing.npy", "."))


@pytest.mark.parametrize(
    ("array", "word"),
    [
        (np.zeros((3, 4), np.int64), "int64"),
        (np.zeros(3), "shape [3]"),
        (np.zeros((3, 4, 5)), "shape [3, 4, 5]"),
        (np.zeros((0, 4)), "shape [0, 4]"),
        (np.zeros((3, 0)), "shape [3, 0]"),
        (np.array([[1.0, np.nan]]), "image 0 hold NaN"),
        (np.array([[1.0], [-np.inf]]), "image 1 hold NaN"),
        (np.array([["a"]]), "shape [1, 1]"),
    ],
)
def test_what_is_no_table_of_numbers_is_refused(array: np.ndarray, word: str, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(InputError) as error:
        read_feature_file(tmp_path / "x.npy")
    assert word in str(error.value)
    assert "x.npy" in str(error.value)


def test_damaged_files_and_objects_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, FEATURES)
    whole = path.read_bytes()
    for kept in (0, 5, 40, len(whole) - 1):
        path.write_bytes(whole[:kept])
        with pytest.raises(InputError, match=r"x\.npy"):
            read_feature_file(path)
    np.save(path, np.array([[{}]]), allow_pickle=True)
    with pytest.raises(InputError, match="never unpickled"):
        read_feature_file(path)
    save_file({"features": torch.zeros(3)}, tmp_path / "x.safetensors")
    with pytest.raises(InputError, match=r"shape \[3\]"):
        read_feature_file(tmp_path / "x.safetensors")
