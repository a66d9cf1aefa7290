"""ImageSet: reading on demand, and its fingerprint."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch

from advkit.data import images as module
from advkit.data.images import ImageSet, array_reader
from advkit.data.reference import load
from advkit.files.errors import InputError
from advkit.files.tensors import TensorWriter


def make(pixels: torch.Tensor, labels: torch.Tensor, scale: float = 255.0) -> ImageSet:
    rows = torch.arange(len(pixels))
    size = (pixels.shape[1], pixels.shape[2], pixels.shape[3])
    return ImageSet("made", "", ("a", "b"), size, labels, rows, rows, array_reader(lambda p: pixels[p], scale))


@pytest.fixture
def pixels():
    return torch.randint(0, 256, (1100, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def labels():
    return torch.arange(1100) % 2


@pytest.mark.parametrize("count", [1, 7, 511, 512, 5000])
def test_fingerprint_does_not_depend_on_how_many_are_read_at_once(count, pixels, labels, monkeypatch):
    expected = make(pixels, labels).fingerprint
    monkeypatch.setattr(module, "_READ", count * 4 * 16)
    assert module.images_per_read((1, 4, 4)) == count
    assert make(pixels, labels).fingerprint == expected


@pytest.mark.parametrize("place", [0, 511, 512, 1099])
def test_fingerprint_sees_one_pixel_and_one_label(place, pixels, labels):
    before = make(pixels, labels).fingerprint
    brighter, relabelled = pixels.clone(), labels.clone()
    brighter[place, 0, 2, 3] ^= 1
    relabelled[place] ^= 1
    assert len({before, make(brighter, labels).fingerprint, make(pixels, relabelled).fingerprint}) == 3


def test_fingerprint_sees_order_number_and_shape(pixels, labels):
    whole = make(pixels, labels)
    back = whole.subset(torch.arange(1099, -1, -1))
    wide = make(pixels.view(1100, 1, 2, 8), labels)
    fewer = whole.subset(torch.arange(1099))
    assert len({found.fingerprint for found in (whole, back, wide, fewer)}) == 4


def test_fingerprint_is_of_the_images_not_of_the_file(pixels, labels, tmp_path):
    np.savez(tmp_path / "a.npz", x=pixels.numpy(), y=labels.numpy())
    np.savez_compressed(tmp_path / "b.npz", images=(pixels.float() / 255.0).numpy(), labels=labels.int().numpy())
    assert load(str(tmp_path / "a.npz")).fingerprint == load(str(tmp_path / "b.npz")).fingerprint


def test_subsets_of_subsets(pixels, labels):
    part = make(pixels, labels).subset(torch.arange(100, 200)).subset(torch.tensor([3, 1]))
    assert part.indices.tolist() == [103, 101]
    assert torch.equal(part.batch(slice(None))[0], pixels[[103, 101]].float() / 255.0)


def test_a_file_that_vanishes_is_one_line(tmp_path):
    file = tmp_path / "s.safetensors"
    with TensorWriter(file, {"images": (torch.uint8, (2, 1, 4, 4)), "labels": (torch.int64, (2,))}, "{}") as out:
        out.append({"images": torch.zeros(2, 1, 4, 4, dtype=torch.uint8), "labels": torch.tensor([0, 1])})
    found = load(str(file))
    file.unlink()
    with pytest.raises(InputError, match="cannot read"):
        found.batch(slice(None))


def test_safetensors_are_not_held_in_memory(tmp_path):
    file, count = tmp_path / "big.safetensors", 400
    shapes = {"images": (torch.float32, (count, 3, 64, 64)), "labels": (torch.int64, (count,))}
    with TensorWriter(file, shapes, "{}") as out:
        for start in range(0, count, 50):
            rows = torch.full((50, 3, 64, 64), start / count)
            out.append({"images": rows, "labels": torch.arange(start, start + 50) % 3})
    assert file.stat().st_size > 19_000_000
    tracemalloc.start()
    found = load(str(file))
    images, _ = found.batch(slice(100, 104))
    _, peak = tracemalloc.get_traced_memory()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert images.unique().tolist() == [0.25]
    assert held < 1_000_000  # Python's own; file.read makes the bytes that it sees
    assert peak < 2.2 * 16_777_216 + 1_000_000
