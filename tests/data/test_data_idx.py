"""idx files: names, gzip, headers that lie."""

from __future__ import annotations

import gzip
import struct
import tracemalloc

import numpy as np
import pytest
import torch

from advkit.data.reference import load

PIXELS = np.random.default_rng(2).integers(0, 256, (3, 5, 4), np.uint8)


def images(pixels=PIXELS, shape=None) -> bytes:
    return struct.pack(">4I", 0x803, *(shape or pixels.shape)) + pixels.tobytes()


def labels(*values) -> bytes:
    return struct.pack(">2I", 0x801, len(values)) + bytes(values)


@pytest.mark.parametrize("packed", ["", "images", "labels", "images labels"])
@pytest.mark.parametrize("mark", ["-idx3-ubyte", ".idx3-ubyte", ""])
def test_usual_names_packed_or_not(packed, mark, tmp_path):
    for kind, text in (("images", images()), ("labels", labels(7, 0, 9))):
        name = f"train-{kind}{mark.replace('3', '1' if kind == 'labels' else '3')}"
        if kind in packed:
            (tmp_path / f"{name}.gz").write_bytes(gzip.compress(text))
        else:
            (tmp_path / name).write_bytes(text)
    found = load(str(tmp_path))
    assert (found.split, found.targets.tolist(), found.num_classes) == ("train", [7, 0, 9], 10)
    assert torch.equal(found.batch(slice(None))[0][:, 0], torch.tensor(PIXELS) / 255.0)


def test_one_file_and_unpacked_files_beside_packed_ones(tmp_path):
    for name, text in (("t10k-images-idx3-ubyte", images()), ("t10k-labels-idx1-ubyte", labels(1, 2, 3))):
        (tmp_path / name).write_bytes(text)
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(text))
    assert load(str(tmp_path)).fingerprint == load(str(tmp_path / "t10k-images-idx3-ubyte.gz")).fingerprint


def test_several_sets_in_one_directory_keep_their_names(tmp_path, refused):
    for name, label in (("letters", 26), ("digits", 3)):
        for split in ("train", "test"):
            (tmp_path / f"emnist-{name}-{split}-images-idx3-ubyte").write_bytes(images())
            (tmp_path / f"emnist-{name}-{split}-labels-idx1-ubyte").write_bytes(labels(label, 1, 2))
    refused(tmp_path, "#emnist-letters-test")
    letters, digits = (load(f"{tmp_path}#emnist-{name}-test") for name in ("letters", "digits"))
    assert (letters.targets.tolist(), letters.num_classes) == ([26, 1, 2], 27)
    assert (digits.targets.tolist(), digits.num_classes) == ([3, 1, 2], 10)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (images()[:10], "not an idx file"),
        (images()[:-1], "59 of the 60 bytes"),
        (images() + b"x", "more than the 60 bytes"),
        (images(shape=(3, 5, 5)), "60 of the 75 bytes"),
        (images(shape=(2**32 - 1,) * 3), "its header asks for"),
        (images(shape=(2**20, 64, 64)), "1048576 images but 3 labels"),
        (images(shape=(3, 2**15, 2**15)), "60 of"),
        (struct.pack(">4I", 0x803, 2**32 - 1, 2**32 - 1, 0), "shape [4294967295, 1, 4294967295, 0]"),
        (images(shape=(3, 0, 4))[:16], "shape [3, 1, 0, 4]"),
        (images(PIXELS[:0]), "no images"),
        (images(PIXELS[:2]), "2 images but 3 labels"),
        (b"\0\0\x0d\x03" + images()[4:], "not an idx file"),
        (labels(1, 2, 3), "not an idx file"),
        (b"", "not an idx file"),
    ],
)
def test_images_that_are_none(text, words, tmp_path, refused):
    (tmp_path / "test-labels-idx1-ubyte").write_bytes(labels(*([] if words == "no images" else [1, 2, 3])))
    (tmp_path / "test-images-idx3-ubyte").write_bytes(text)
    refused(tmp_path, words)


def test_labels_missing(tmp_path, refused):
    (tmp_path / "test-images-idx3-ubyte").write_bytes(images())
    refused(tmp_path, "test-labels-idx1-ubyte is missing")


@pytest.mark.parametrize("spoil", [lambda t: t[:-9], lambda t: t[:5], lambda t: t[:20] + b"\xff" * 9 + t[29:]])
def test_damaged_gzip(spoil, tmp_path, refused):
    (tmp_path / "test-labels-idx1-ubyte").write_bytes(labels(1, 2, 3))
    (tmp_path / "test-images-idx3-ubyte.gz").write_bytes(spoil(gzip.compress(images())))
    refused(tmp_path, "test-images-idx3-ubyte.gz", "copy it again")


def test_a_gzip_bomb_is_left_at_the_announced_size(tmp_path, refused):
    (tmp_path / "test-labels-idx1-ubyte").write_bytes(labels(1, 2, 3))
    (tmp_path / "test-images-idx3-ubyte.gz").write_bytes(gzip.compress(images() + bytes(200_000_000), 1))
    tracemalloc.start()
    refused(tmp_path, "more than the 60 bytes")
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


def peak_of(call) -> int:
    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_labels_are_counted_before_pixels_are_read(tmp_path, refused):
    (tmp_path / "test-labels-idx1-ubyte").write_bytes(labels(1, 2, 3))
    with gzip.open(tmp_path / "test-images-idx3-ubyte.gz", "wb", 1) as file:
        file.write(struct.pack(">4I", 0x803, 40_000, 28, 28) + bytes(40_000 * 784))
    assert peak_of(lambda: refused(tmp_path, "40000 images but 3 labels")) < 3_000_000


def test_pixels_are_held_once(tmp_path):
    count = 40_000
    with gzip.open(tmp_path / "test-images-idx3-ubyte.gz", "wb", 1) as file:
        file.write(struct.pack(">4I", 0x803, count, 28, 28) + bytes(count * 784))
    (tmp_path / "test-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 0x801, count) + bytes(count))
    assert peak_of(lambda: load(str(tmp_path))) < 1.4 * count * 784
