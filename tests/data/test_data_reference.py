"""What a DATA reference may say, and which split it means."""

from __future__ import annotations

import gzip
import os
import pickle
import struct

import numpy as np
import pytest
import torch
from PIL import Image

from advkit.data.reference import FORMATS, load
from advkit.files.tensors import write_tensors

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 3, 32, 32), np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2])


def _binary(path):
    records = np.concatenate([LABELS.astype(np.uint8)[:, None], PIXELS.reshape(6, -1)], axis=1)
    (path / "test_batch.bin").write_bytes(records.tobytes())


def _python(path):
    batch = {b"data": PIXELS.reshape(6, -1), b"labels": LABELS.tolist()}
    (path / "test_batch").write_bytes(pickle.dumps(batch, protocol=2))


def _idx(path):
    grey = PIXELS[:, 0]
    with gzip.open(path / "t10k-images-idx3-ubyte.gz", "wb") as file:
        file.write(struct.pack(">4I", 0x803, *grey.shape) + grey.tobytes())
    (path / "t10k-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 0x801, 6) + LABELS.astype(np.uint8).tobytes())


def _npz(path):
    np.savez(path / "test.npz", x=PIXELS.transpose(0, 2, 3, 1), y=LABELS)


def _safetensors(path):
    write_tensors(path / "set.safetensors", {"images": torch.tensor(PIXELS), "labels": torch.tensor(LABELS)}, "{}")


def _folder(path):
    for k, (pixels, label) in enumerate(zip(PIXELS, LABELS, strict=True)):
        (path / "test" / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.transpose(1, 2, 0)).save(path / "test" / str(label) / f"{k}.png")


def _csv(path):
    for k, pixels in enumerate(PIXELS):
        Image.fromarray(pixels.transpose(1, 2, 0)).save(path / f"{5 - k}.png")
    rows = [f"{5 - k}.png,{label}" for k, label in enumerate(LABELS)]
    (path / "test.csv").write_text("\n".join(["filename,label", *rows]) + "\n")


BOXES = {"voc", "coco", "yolo"}  # formats of boxes have tests of their own
# kind: how to write it, what to name, and the order in which the images come back
WRITERS = {
    "cifar-binary": (_binary, "", range(6)),
    "cifar-python": (_python, "", range(6)),
    "mnist-idx": (_idx, "", range(6)),
    "npz": (_npz, "", range(6)),
    "safetensors": (_safetensors, "set.safetensors", range(6)),
    "image-folder": (_folder, "", (0, 3, 1, 4, 2, 5)),
    "labels-csv": (_csv, "", range(6)),
}


def test_every_format_is_tested():
    assert WRITERS.keys() | BOXES == FORMATS.keys()


@pytest.mark.parametrize("kind", WRITERS)
def test_every_format_gives_the_pixels_and_labels_that_went_in(kind, tmp_path):
    write, name, order = WRITERS[kind]
    write(tmp_path)
    found = load(str(tmp_path / name))
    images, labels = found.batch(slice(None))
    expected = torch.tensor(PIXELS[list(order)]).float() / 255.0
    if kind == "mnist-idx":
        expected = expected[:, :1]
    assert found.split == ("" if kind in ("safetensors", "labels-csv") else "test")
    assert found.size == tuple(expected.shape[1:])
    assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)
    assert torch.equal(images, expected)
    assert labels.tolist() == LABELS[list(order)].tolist() == found.targets.tolist()
    assert found.indices.tolist() == list(range(6))


@pytest.mark.parametrize("kind", WRITERS)
def test_every_format_reads_any_rows_in_any_order(kind, tmp_path):
    write, name, _ = WRITERS[kind]
    write(tmp_path)
    found = load(str(tmp_path / name))
    images, labels = found.batch(slice(None))
    some = torch.tensor([5, 0, 3])
    assert torch.equal(found.batch(some)[0], images[some])
    assert torch.equal(found.subset(some).batch(torch.tensor([2]))[0], images[3:4])
    assert found.subset(some).batch(slice(1, 3))[1].tolist() == labels[some[1:]].tolist()
    assert found.subset(some).indices.tolist() == [5, 0, 3]
    assert found.batch(slice(0, 0))[0].shape == (0, *found.size)


@pytest.mark.parametrize("kind", WRITERS)
def test_every_format_can_be_wanted_with_three_channels(kind, tmp_path):
    write, name, _ = WRITERS[kind]
    write(tmp_path)
    images, _ = load(str(tmp_path / name), channels=3).batch(slice(None))
    assert images.shape == (6, 3, 32, 32)
    if kind == "mnist-idx":
        assert torch.equal(images[:, 0], images[:, 1])
        assert torch.equal(images[:, 0], torch.tensor(PIXELS[:, 0]) / 255.0)


@pytest.mark.parametrize("kind", [kind for kind in WRITERS if kind not in ("mnist-idx", "image-folder", "labels-csv")])
def test_colour_does_not_become_grey(kind, tmp_path, refused):
    write, name, _ = WRITERS[kind]
    write(tmp_path)
    refused(tmp_path / name, "3 channels", channels=1)


def test_digits_are_the_real_ones():
    datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn is the oracle")
    oracle = datasets.load_digits()
    train, test = load("digits#train"), load("digits")
    assert (len(train), len(test), test.split, test.num_classes, test.size) == (1297, 500, "test", 10, (1, 8, 8))
    images = torch.cat([train.batch(slice(None))[0], test.batch(slice(None))[0]])
    assert (images[:, 0] * 16 - torch.tensor(oracle.images)).abs().max() < 16 * 0.5 / 255 + 1e-6
    assert torch.cat([train.targets, test.targets]).tolist() == oracle.target.tolist()


def test_role_chooses_and_suffix_overrules():
    assert load("digits", role="train").split == "train"
    assert load("digits", role="test").split == "test"
    assert load("digits#train", role="test").split == "train"
    assert load("digits#train").ref == "digits"


def test_the_only_split_serves_any_role(tmp_path):
    np.savez(tmp_path / "train.npz", x=PIXELS, y=LABELS)
    assert load(str(tmp_path), role="test").split == "train"


def test_several_splits_are_named(tmp_path, refused):
    for name in ("train", "val"):
        np.savez(tmp_path / f"{name}.npz", x=PIXELS, y=LABELS)
    refused(tmp_path, f"{tmp_path}#train, #val")
    refused(f"{tmp_path}#tset", "no split 'tset'", "#train, #val")


def test_two_kinds_in_one_directory(tmp_path, refused):
    _binary(tmp_path)
    _npz(tmp_path)
    refused(tmp_path, "cifar-binary or npz")


def test_a_hash_in_a_path(tmp_path):
    odd = tmp_path / "a#b"
    odd.mkdir()
    np.savez(odd / "test.npz", x=PIXELS, y=LABELS)
    assert load(str(odd)).split == "test"
    assert load(f"{odd}#test").ref == str(odd)


@pytest.mark.parametrize(
    ("ref", "words"),
    [
        ("digitz", "did you mean digits"),
        ("nowhere/at/all", "no such data"),
        ("digits#", "nothing after the #"),
        ("#train", "nothing before the #"),
        ("digits#val", "#train, #test"),
        ("digits#:", "nothing after the :"),
        ("digits#test:", "nothing after the :"),
        ("#:a*", "nothing before the #"),
        ("digits#test:a*", "digits holds arrays"),
        ("mnist:", "mnist:DIR"),
        ("x" * 300, "name too long"),
        ("a\0b", "no such data"),
    ],
)
def test_bad_references(ref, words, refused):
    refused(ref, words)


def test_nothing_known_in_it(tmp_path, refused):
    refused(tmp_path, "empty")
    (tmp_path / "notes.txt").write_text("hello")
    refused(tmp_path, "a directory for each class")
    refused(tmp_path / "notes.txt", "no kind of image data")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_unreadable(tmp_path, refused):
    _npz(tmp_path)
    (tmp_path / "test.npz").chmod(0)
    refused(tmp_path, "test.npz")
    tmp_path.chmod(0)
    refused(tmp_path, "cannot read")
    tmp_path.chmod(0o700)
