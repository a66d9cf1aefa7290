"""Folders of pictures: classes, splits, domains, sizes."""

from __future__ import annotations

import os

import pytest
import torch
from PIL import Image

from advkit.data import decoding, file_list
from advkit.data.reference import load
from advkit.files.errors import InputError


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
    (tmp_path / "b").mkdir()
    for k in range(5):
        save(tmp_path / "a" / f"{k}.png", (50 * k, 0, 0))
    seen = []
    monkeypatch.setattr(file_list, "decode", lambda file, *_: seen.append(file.name) or torch.zeros(3, 8, 8))
    found = load(str(tmp_path))
    assert seen == []
    found.batch(torch.tensor([3, 1]))
    assert seen == ["3.png", "1.png"]


def test_damaged_pictures_are_named(tmp_path, refused):
    (tmp_path / "b").mkdir()
    save(tmp_path / "a" / "1.png", size=(64, 64))
    whole = (tmp_path / "a" / "1.png").read_bytes()
    for text in (b"", b"hello", whole[:30], whole[: len(whole) // 2]):
        (tmp_path / "a" / "1.png").write_bytes(text)
        refused(tmp_path, "1.png", "remove or replace it")
        refused(tmp_path, "1.png", "remove or replace it", size=(8, 8))


@pytest.mark.parametrize("size", [None, (8, 8)])
def test_one_link_to_nowhere_is_left_out(size, tmp_path):
    (tmp_path / "b").mkdir()
    save(tmp_path / "a" / "1.png")
    (tmp_path / "a" / "2.png").symlink_to(tmp_path / "gone.png")
    assert len(load(str(tmp_path), size=size)) == 1


def test_hidden_folders_are_not_counted(tmp_path):
    for name in ("a/1.png", "a/.ipynb_checkpoints/1.png", "a/deep/.cache/2.png", "a/__MACOSX/3.png", "b/1.png"):
        save(tmp_path / name)
    found = load(str(tmp_path))
    assert found.targets.tolist() == [0, 1]
    assert found.warnings == ()


def test_whatever_pillow_reads_is_read_and_the_rest_counted(tmp_path):
    names = ("1.jfif", "2.avif", "3.jpe", "4.tga", "5.jp2", "6.pgm", "7.qoi")
    for name in names:
        save(tmp_path / "a" / name)
    for name, kind in (("8", "PNG"), ("9.image", "JPEG")):  # suffixes that say nothing
        (tmp_path / "a" / name).touch()
        Image.new("RGB", (8, 8)).save(tmp_path / "a" / name, format=kind)
    save(tmp_path / "b" / "1.png")
    for name in ("notes.txt", "model.pdf", "Thumbs.db"):
        (tmp_path / "b" / name).write_bytes(b"hello, not a picture")
    found = load(str(tmp_path))
    assert found.targets.tolist() == [0] * 9 + [1]
    assert found.batch(slice(None))[0].shape == (10, 3, 8, 8)
    assert found.warnings == ("2 files skipped, no pictures, such as model.pdf",)
    assert found.subset(torch.tensor([0])).warnings == found.warnings


def test_a_class_of_files_none_of_which_can_be_read_is_named(tmp_path, refused):
    save(tmp_path / "a" / "1.png")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "1.heic").write_bytes(b"no reader for that")
    refused(tmp_path, str(tmp_path / "b"), "1.heic")


@pytest.mark.parametrize(
    "inside", ["mydata/a mydata/b", "mydata/train/a mydata/train/b mydata/test/a", "x/mydata/a x/mydata/b"]
)
def test_one_folder_too_high(inside, tmp_path, refused):
    for name in inside.split():
        save(tmp_path / "high" / name / "1.png")
    below = tmp_path / "high" / inside.partition("mydata")[0] / "mydata"
    refused(tmp_path / "high", "one folder too high", f"give {below}")
    load(str(below))


@pytest.mark.parametrize("inside", ["a", "train/a test/a", "a/deep"])
def test_one_class_is_refused(inside, tmp_path, refused):
    for name in inside.split():
        save(tmp_path / name / "1.png")
    refused(tmp_path, "one class", "at least two class")


def test_classes_that_hold_folders_alone_are_told(tmp_path):
    for name in ("set1/a", "set1/b", "set2/c"):
        save(tmp_path / name / "1.png")
    (warning,) = load(str(tmp_path)).warnings
    assert "one folder too high?" in warning
    save(tmp_path / "set2" / "1.png")
    assert load(str(tmp_path)).warnings == ()


def test_names_that_are_no_utf8_are_refused_when_opened(tmp_path):
    for name in (b"a", b"\xe9t\xe9"):
        save(tmp_path / "d" / os.fsdecode(name) / "1.png")
    with pytest.raises(InputError, match=r"udce9t.*no UTF-8"):
        load(str(tmp_path / "d"))
    strange = tmp_path / os.fsdecode(b"d\xe9")
    for name in "ab":
        save(strange / name / "1.png")
    with pytest.raises(InputError, match="no UTF-8"):
        load(str(strange))
    file = tmp_path / "d" / "a" / os.fsdecode(b"\xe9.txt")
    file.write_text("hello")
    (tmp_path / "d" / os.fsdecode(b"\xe9t\xe9")).rename(tmp_path / "d" / "b")
    (warning,) = load(str(tmp_path / "d")).warnings
    warning.encode()


def test_pictures_too_large_to_be_taken_whole(tmp_path, refused, monkeypatch):
    for name in "ab":
        save(tmp_path / name / "1.png", size=(40, 30))
    monkeypatch.setattr(decoding, "_LARGEST", 1000)
    refused(tmp_path, "30x40", "--size")
    assert load(str(tmp_path), size=(8, 8)).batch(slice(None))[0].shape == (2, 3, 8, 8)
