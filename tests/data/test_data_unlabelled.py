"""Images of a target domain: whatever says what is on them may be deleted or garbled, and nothing changes."""

from __future__ import annotations

import gzip
import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from boxed import some, write_boxed_tensors, write_coco, write_voc, write_yolo
from PIL import Image

from advkit.data.images import ImageSet
from advkit.data.overlap import images_in_both, positions_of
from advkit.data.reference import load
from advkit.data.scaled_images import at_size
from advkit.files.errors import InputError
from advkit.files.tensors import write_tensors

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 8), np.uint8)


def blank(ref: str | Path, whole: bool = False) -> ImageSet:
    return load(str(ref), role="train", labelled=False, whole=whole)


def npz(path: Path, labels: object) -> Path:
    arrays = {"x": PIXELS} | ({} if labels is None else {"y": labels})
    np.savez(path / "a.npz", **arrays)
    return path / "a.npz"


def npz_of_splits(path: Path, labels: object) -> Path:
    arrays = {"x_train": PIXELS, "x_test": PIXELS[:2]}
    np.savez(path / "a.npz", **arrays | ({} if labels is None else {"y_train": labels, "y_test": labels}))
    return path / "a.npz"


def tensors(path: Path, labels: object) -> Path:
    found = {"images": torch.from_numpy(PIXELS).unsqueeze(1)}
    if labels is not None:
        found["labels"] = torch.from_numpy(np.asarray(labels))
    write_tensors(path / "a.safetensors", found, "{}")
    return path / "a.safetensors"


def idx(path: Path, labels: object) -> Path:
    with gzip.open(path / "train-images-idx3-ubyte.gz", "wb") as file:
        file.write(struct.pack(">4I", 0x803, *PIXELS.shape) + PIXELS.tobytes())
    if labels is not None:
        (path / "train-labels-idx1-ubyte").write_bytes(b"garbled")
    return path


def folder(path: Path, labels: object) -> Path:
    """Classes by label, or all pictures in one folder; two of each name, as in PACS."""
    for k, pixels in enumerate(PIXELS):
        label = "" if labels is None else f"class{np.asarray(labels)[k]}/{k % 2}"
        name = f"{k // 2}.png" if labels is not None else f"{k % 2}/{k // 2}.png"
        (path / label / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path / label / name)
    return path


ARRAYS = {"npz": npz, "splits in npz": npz_of_splits, "safetensors": tensors, "idx": idx, "folder": folder}


@pytest.mark.parametrize("kind", ARRAYS)
def test_labels_of_classes_are_not_opened(kind: str, tmp_path: Path) -> None:
    found = []
    for name, labels in (
        ("right", np.array([0, 1, 2, 0, 1, 2])),
        ("wrong", np.array([2, 2, 2, 1, 1, 0])),
        ("none", None),
    ):
        (tmp_path / name).mkdir()
        found.append(blank(ARRAYS[kind](tmp_path / name, labels)))
    for images in found:
        assert (len(images), images.size[1:], images.class_names) == (6, (8, 8), ())
        assert int(images.targets.abs().sum()) == 0
    assert len({images.fingerprint for images in found}) == 1
    if kind != "folder":
        pixels = found[0].batch(slice(None))[0][:, 0]
        torch.testing.assert_close(pixels, torch.from_numpy(PIXELS).float() / 255)


def voc(path: Path) -> Callable[[], None]:
    write_voc(path, some(), {"train": [3, 0, 2], "test": [1]})
    return lambda: shutil.rmtree(path / "Annotations")


def yolo(path: Path) -> Callable[[], None]:
    write_yolo(path, some())
    return lambda: shutil.rmtree(path / "labels")


def coco(path: Path) -> Callable[[], None]:
    write_coco(path, some())

    def remove() -> None:
        for file in (path / "annotations").glob("*.json"):
            whole = json.loads(file.read_text())
            file.write_text(json.dumps({"images": whole["images"], "annotations": "garbled"}))

    return remove


@pytest.mark.parametrize("layout", [voc, yolo, coco], ids=lambda layout: layout.__name__)
def test_boxes_are_not_opened(layout: Callable[[Path], Callable[[], None]], tmp_path: Path) -> None:
    remove = layout(tmp_path / "d")
    images = load(str(tmp_path / "d"), role="train")
    before = blank(tmp_path / "d", whole=True)
    remove()
    after = blank(tmp_path / "d", whole=True)
    assert (before.fingerprint, before.names, before.split) == (after.fingerprint, after.names, after.split)
    assert before.size == after.size
    assert float(before.targets[..., 4].max()) == -1.0, "no object"
    assert set(before.names or ()) == set(images.names or ())
    assert images_in_both(images, before) == len(images) == len(before)


def test_boxes_beside_tensors_are_not_opened(tmp_path: Path) -> None:
    path = write_boxed_tensors(tmp_path / "a.safetensors", some())
    images, before = load(str(path)), blank(path, whole=True)
    assert images_in_both(images, before) == len(images) == len(before)
    assert float(before.targets[..., 4].max()) == -1.0


def test_what_ships_with_the_package_has_its_labels_dropped() -> None:
    digits = blank("digits")
    assert (len(digits), digits.class_names, int(digits.targets.sum())) == (1297, (), 0)
    scenes = blank("scenes/sketch#test", whole=True)
    assert (len(scenes), scenes.task, float(scenes.targets[..., 4].max())) == (500, "detection", -1.0)


def test_splits_and_patterns_choose_among_unlabelled_pictures(tmp_path: Path) -> None:
    write_voc(tmp_path / "d", some(), {"train": [3, 0, 2], "test": [1]})
    assert blank(f"{tmp_path}/d#test", whole=True).names == ("im1",)
    assert blank(f"{tmp_path}/d#train:im[03]", whole=True).names == ("im0", "im3")
    folder(tmp_path / "p" / "train", np.arange(6) % 2)
    folder(tmp_path / "p" / "test", None)
    assert blank(tmp_path / "p").split == "train"
    assert len(blank(f"{tmp_path}/p#test")) == 6


def test_domains_of_class_folders_are_splits_too(tmp_path: Path) -> None:
    for domain in ("photo", "sketch"):
        folder(tmp_path / domain, np.arange(6) % 2)
    assert len(blank(f"{tmp_path}#sketch")) == 6
    assert len(blank(tmp_path)) == 12


def test_data_without_a_picture_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no pictures; give a data set that has some"):
        blank(tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(InputError, match=r"notes\.txt: no images known here"):
        blank(tmp_path / "notes.txt")
    np.savez(tmp_path / "y.npz", y=np.arange(3))
    with pytest.raises(InputError, match=r"y\.npz: holds no images"):
        blank(tmp_path / "y.npz")
    np.savez(tmp_path / "e.npz", x=np.zeros((0, 8, 8), np.uint8))
    with pytest.raises(InputError, match="no images; give a data set that has some"):
        blank(tmp_path / "e.npz")


def test_images_are_brought_to_a_size_one_by_one() -> None:
    digits = blank("digits")
    large = at_size(digits, 12, 10)
    assert large.size == (1, 12, 10)
    images, _ = large.batch(torch.tensor([4, 9]))
    assert images.shape == (2, 1, 12, 10)
    assert 0.0 <= float(images.min()) < float(images.max()) <= 1.0
    assert torch.equal(large.batch(torch.tensor([9]))[0][0], images[1])
    assert "8x8 are resized to 12x10" in large.warnings[-1]
    assert at_size(digits, 8, 8) is digits


def test_images_in_both_sets_are_counted() -> None:
    train, test = blank("digits"), blank("digits#test")
    own = images_in_both(train, train)
    assert own == len(train)
    assert images_in_both(train.subset(torch.arange(5)), train.subset(torch.arange(3, 9))) >= 2
    assert images_in_both(train, test) == images_in_both(train, test.subset(torch.arange(len(test)).flip(0)))


def test_images_are_found_again_in_another_set() -> None:
    train, test = blank("digits"), blank("digits#test")
    order = torch.tensor([9, 2, 7, 400])
    assert positions_of(train.subset(order), train).tolist() == order.tolist()
    twice = train.subset(torch.tensor([5, 3, 5]))
    assert positions_of(twice, twice).tolist() == [0, 1, 2], "each of equal images once"
    missing = len(test) - images_in_both(train, test)
    with pytest.raises(InputError, match=f"digits: has labels of {len(test) - missing} of the {len(test)} images"):
        positions_of(test, train)
