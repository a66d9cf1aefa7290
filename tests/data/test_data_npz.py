"""Numpy archives, right ones and wrong ones."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
import torch

from advkit.data.reference import load
from advkit.files.errors import InputError

RANDOM = np.random.default_rng(5)
GREY = RANDOM.integers(0, 256, (4, 6, 5), np.uint8)
COLOUR = RANDOM.integers(0, 256, (4, 3, 6, 5), np.uint8)
LABELS = np.arange(4)


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (GREY, GREY[:, None]),
        (GREY[:, None], GREY[:, None]),
        (GREY[..., None], GREY[:, None]),
        (COLOUR, COLOUR),
        (COLOUR.transpose(0, 2, 3, 1), COLOUR),
        (COLOUR / 255.0, COLOUR),
        ((COLOUR / 255.0).astype(">f4"), COLOUR),
        (np.asfortranarray(COLOUR), COLOUR),
    ],
)
@pytest.mark.parametrize("names", [("x", "y"), ("images", "labels"), ("data", "targets")])
def test_layouts_types_and_names(pixels, expected, names, tmp_path):
    np.savez(tmp_path / "set.npz", **{names[0]: pixels, names[1]: LABELS})
    found = load(str(tmp_path / "set.npz"))
    images, labels = found.batch(slice(None))
    assert torch.allclose(images, torch.tensor(expected) / 255.0, atol=1e-7)
    assert labels.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("kind", ["u1", "i2", ">i4", "u8", "i8"])
@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_labels_of_any_whole_type(kind, shape, tmp_path):
    np.savez(tmp_path / "set.npz", x=GREY, y=LABELS.astype(kind).reshape(shape))
    assert load(str(tmp_path / "set.npz")).targets.tolist() == [0, 1, 2, 3]


FLOATS = GREY / 255.0


@pytest.mark.parametrize(
    ("pixels", "labels", "words"),
    [
        (np.where(FLOATS.max() == FLOATS, np.nan, FLOATS), LABELS, "NaN"),
        (FLOATS * 255, LABELS, "floats must lie in [0, 1]"),
        (FLOATS - 0.5, LABELS, "floats must lie in [0, 1]"),
        (np.where(FLOATS.max() == FLOATS, np.inf, FLOATS), LABELS, "inf"),
        (GREY.astype(np.int64), LABELS, "uint8"),
        (GREY.astype(np.uint16), LABELS, "uint8"),
        (GREY.astype(complex), LABELS, "complex"),
        (GREY.reshape(4, 30), LABELS, "shape [4, 30]"),
        (COLOUR[:, :2], LABELS, "2 channels"),
        (GREY[:, :0], LABELS, "shape [4, 1, 0, 5]"),
        (GREY, LABELS[:3], "4 images but 3 labels"),
        (GREY, LABELS - 1, "labels run from -1"),
        (GREY, LABELS * 10**6, "labels run from 0 to 3000000"),
        (GREY, LABELS / 2, "integers are needed"),
        (GREY, np.array(list("abcd")), "(y)"),
        (GREY, np.array([None] * 4), "never unpickled"),
        (np.array([GREY, None], dtype=object), LABELS, "never unpickled"),
        (GREY[:0], LABELS[:0], "no images"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*:RuntimeWarning")
def test_arrays_that_are_no_images_and_labels(pixels, labels, words, tmp_path, refused):
    np.savez(tmp_path / "set.npz", x=pixels, y=labels)
    refused(tmp_path / "set.npz", str(tmp_path / "set.npz"), words)


KERAS = ("x_{}", "y_{}")
MEDMNIST = ("{}_images", "{}_labels")


@pytest.mark.parametrize(("pattern", "parts"), [(KERAS, ("train", "test")), (MEDMNIST, ("train", "val", "test"))])
def test_one_file_with_several_splits(pattern, parts, tmp_path, refused):
    arrays = {}
    for k, part in enumerate(parts):
        arrays[pattern[0].format(part)] = GREY[: 4 - k]
        arrays[pattern[1].format(part)] = (LABELS[: 4 - k] * 2).astype(np.uint8)[:, None]
    np.savez(tmp_path / "pathmnist.npz", **arrays)
    for ref in (tmp_path / "pathmnist.npz", tmp_path):
        for k, part in enumerate(parts):
            found = load(f"{ref}#{part}")
            assert torch.equal(found.batch(slice(None))[0][:, 0], torch.tensor(GREY[: 4 - k]) / 255.0)
            assert found.targets.tolist() == [0, 2, 4, 6][: 4 - k]
            assert found.class_names == tuple("0123456")  # those of all splits together
        assert (load(str(ref)).split, load(str(ref), role="train").split) == ("test", "train")
    np.savez(tmp_path / "other.npz", **arrays)
    refused(tmp_path, "#pathmnist-train", "#other-test")
    assert len(load(f"{tmp_path}#other-{parts[-1]}")) == 5 - len(parts)


def test_labels_of_several_classes_at_once_are_refused(tmp_path, refused):
    np.savez(tmp_path / "chest.npz", train_images=GREY, train_labels=np.ones((4, 14), np.uint8))
    refused(tmp_path / "chest.npz", "shape [4, 14]")


def test_memory_is_not_called_damage_alone(tmp_path, refused):
    with zipfile.ZipFile(tmp_path / "set.npz", "w") as archive:
        for name, shape in (("x.npy", (10**7, 10**7, 99)), ("y.npy", (0,))):
            with archive.open(name, "w") as file:
                header = {"descr": "|u1", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
    refused(tmp_path / "set.npz", "do not fit into memory")


def test_arrays_of_other_names(tmp_path, refused):
    np.savez(tmp_path / "set.npz", pictures=GREY, y=LABELS)
    refused(tmp_path / "set.npz", "holds pictures, y")


def test_cut_at_any_place_or_with_any_byte_changed(tmp_path):
    whole, file = tmp_path / "whole.npz", tmp_path / "set.npz"
    np.savez_compressed(whole, x=GREY, y=LABELS)
    text = whole.read_bytes()
    for place in range(0, len(text), 3):
        file.write_bytes(text[:place])
        with pytest.raises(InputError, match=r"set\.npz"):
            load(str(file))
        file.write_bytes(text[:place] + bytes([text[place] ^ 0xFF]) + text[place + 1 :])
        try:
            load(str(file)).batch(slice(None))
        except InputError as error:
            assert "set.npz" in str(error)


def test_a_header_that_lies_about_the_shape(tmp_path, refused):
    np.savez(tmp_path / "set.npz", x=GREY, y=LABELS)
    text = (tmp_path / "set.npz").read_bytes()
    assert text.count(b"(4, 6, 5)") == 1
    (tmp_path / "set.npz").write_bytes(text.replace(b"(4, 6, 5)", b"(9, 9, 9)"))
    refused(tmp_path / "set.npz", "damaged")
