"""Folders of pictures: classes, splits, domains, sizes."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from advkit.data import folder
from advkit.data.reference import load


def save(file, colour=(255, 0, 0), size=(8, 8)):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(file)


def test_classes_in_order_empty_ones_counted(tmp_path):
    save(tmp_path / "zebra" / "1.png")
    save(tmp_path / "ant" / "deep" / "2.JPG")
    (tmp_path / "mole").mkdir()
    for hidden in (".git", "__MACOSX"):
        (tmp_path / hidden).mkdir()
    (tmp_path / "zebra" / "._1.png").write_bytes(b"what macOS leaves")
    (tmp_path / "zebra" / "notes.txt").write_text("hello")
    found = load(str(tmp_path))
    assert found.class_names == ("ant", "mole", "zebra")
    assert found.targets.tolist() == [0, 2]


def test_a_split_that_lacks_a_class_keeps_the_numbers_of_the_others(tmp_path):
    for name in ("train/a", "train/b", "train/c", "test/a", "test/c", "val/c"):
        save(tmp_path / name / "1.png")
    train, test, val = (load(f"{tmp_path}#{split}") for split in ("train", "test", "val"))
    assert train.class_names == test.class_names == val.class_names == ("a", "b", "c")
    assert (train.targets.tolist(), test.targets.tolist(), val.targets.tolist()) == ([0, 1, 2], [0, 2], [2])
    assert load(str(tmp_path)).split == "test"


def test_a_class_that_is_called_train(tmp_path):
    for name in ("train", "plane"):
        save(tmp_path / name / "1.png")
    assert load(str(tmp_path)).class_names == ("plane", "train")


def test_domains_are_not_taken_for_classes(tmp_path, refused):
    for name in ("photo/dog", "photo/cat", "sketch/dog", "sketch/cat"):
        save(tmp_path / name / "1.png")
    refused(tmp_path, "#photo", "#sketch")
    assert load(f"{tmp_path}#sketch").class_names == ("cat", "dog")


def test_sizes_must_agree_or_be_given(tmp_path, refused):
    save(tmp_path / "a" / "1.png", size=(8, 6))
    save(tmp_path / "b" / "1.png", size=(8, 6))
    assert load(str(tmp_path)).size == (3, 6, 8)
    save(tmp_path / "b" / "2.png", size=(9, 6))
    refused(tmp_path, "6x8, 6x9", "--size")
    assert load(str(tmp_path), size=(4, 4)).size == (3, 4, 4)


def test_nothing_is_decoded_before_it_is_asked_for(tmp_path, monkeypatch):
    for k in range(5):
        save(tmp_path / "a" / f"{k}.png", (50 * k, 0, 0))
    seen = []
    monkeypatch.setattr(folder, "decode", lambda file, *_: seen.append(file.name) or torch.zeros(3, 8, 8))
    found = load(str(tmp_path))
    assert seen == []
    found.batch(torch.tensor([3, 1]))
    assert seen == ["3.png", "1.png"]


def test_damaged_pictures_are_named(tmp_path, refused):
    save(tmp_path / "a" / "1.png", size=(64, 64))
    whole = (tmp_path / "a" / "1.png").read_bytes()
    for text in (b"", b"hello", whole[:30], whole[: len(whole) // 2]):
        (tmp_path / "a" / "1.png").write_bytes(text)
        refused(tmp_path, "1.png", "remove or replace it")
        refused(tmp_path, "1.png", "remove or replace it", size=(8, 8))


@pytest.mark.parametrize("size", [None, (8, 8)])
def test_one_link_to_nowhere_is_left_out(size, tmp_path):
    save(tmp_path / "a" / "1.png")
    (tmp_path / "a" / "2.png").symlink_to(tmp_path / "gone.png")
    assert len(load(str(tmp_path), size=size)) == 1
