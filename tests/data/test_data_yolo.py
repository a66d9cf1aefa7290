"""YOLO's text files: labels, folders of splits, and names of classes."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

import pytest
from boxed import (
    NAMES,
    alike,
    some,
    write_pictures,
    write_yolo,
)
from hypothesis import given
from hypothesis import strategies as st

from advkit.data.reference import load
from advkit.data.yolo import yaml_names
from advkit.files.errors import InputError


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("labels/im0.txt", "0 0.5 0.5 0.1", ("im0.txt", "line 1", "centre")),
        ("labels/im0.txt", "\n0 0.5 0.5 0.1 0.1 0.9\n", ("im0.txt", "line 2", "centre")),
        ("labels/im0.txt", "cat 0.5 0.5 0.1 0.1", ("im0.txt", "line 1", "'cat")),
        ("labels/im0.txt", "0.5 0.5 0.5 0.1 0.1", ("im0.txt", "line 1")),
        ("labels/im0.txt", "nan 0.5 0.5 0.1 0.1", ("im0.txt", "line 1")),
        ("labels/im0.txt", "3 0.5 0.5 0.1 0.1", ("im0.txt", "line 1", "class 3", "3 from 0")),
        ("labels/im0.txt", "-1 0.5 0.5 0.1 0.1", ("im0.txt", "line 1", "class -1")),
        ("labels/im0.txt", "0 0.5 nan 0.1 0.1", ("1 degenerate", "im0.txt line 1")),
        ("labels/im0.txt", "0 8 5 4 4", ("1 degenerate", "im0.txt line 1")),
        ("labels/im9.txt", "", ("images of 1 labels are missing", "im9.txt")),
        ("images/im9.png", "", ("labels of 1 of 5 images are missing", "im9.png", "empty file")),
        ("classes.txt", "", ("classes.txt", "no name")),
        ("classes.txt", "a\n\nb\n", ("classes.txt", "class 1 has no name")),
        ("classes.txt", "a\na\nb\n", ("two classes are called a",)),
        ("classes.txt", "a\nb\n", ("class 2", "2 from 0")),
    ],
)
def test_yolo_that_lies_is_named(name: str, text: str, words: tuple[str, ...], tmp_path: Path, refused) -> None:
    path = write_yolo(tmp_path / "data", some())
    (path / name).write_text(text)
    refused(path, *words)


def test_labels_that_are_no_text_or_megabytes(tmp_path: Path, refused) -> None:
    path = write_yolo(tmp_path / "data", some())
    (path / "labels" / "im0.txt").write_bytes(b"\xff\xfe\xfa")
    refused(path, "im0.txt", "UTF-8")
    with (path / "labels" / "im0.txt").open("r+b") as file:
        file.truncate(17 << 20)
    refused(path, "im0.txt", "16 MB")


def test_yolo_in_folders_of_splits_either_way(tmp_path: Path) -> None:
    images = some()
    for split, part in (("train", images[:3]), ("test", images[3:])):
        write_pictures(tmp_path / "below" / "images" / split, part)
        write_pictures(tmp_path / "above" / split / "images", part)
        single = write_yolo(tmp_path / split, part)
        for place in (tmp_path / "below" / "labels" / split, tmp_path / "above" / split / "labels"):
            shutil.copytree(single / "labels", place)
        for place in ("below", "above"):
            (tmp_path / place / "classes.txt").write_text("\n".join(NAMES))
    for place in ("below", "above"):
        test = load(str(tmp_path / place))
        assert (test.split, test.class_names) == ("test", NAMES)
        assert alike(test, load(str(tmp_path / "test")))
        assert alike(load(f"{tmp_path / place}#train"), load(str(tmp_path / "train")))


NAMES_IN_YAML = [
    ("names: [cat, dog, owl]", True),
    ("nc: 3\nnames: ['cat', \"dog\", owl]  # three\n", True),
    ("names:\n  - cat\n  - 'dog'\n\n  # last\n  - owl # bird\nnc: 3\n", True),
    ("names:\n- cat\n- dog\n- owl\ntrain: images/train\n", True),
    ("names:\n  0: cat\n  1: dog\n  2: owl\n", True),
    ("names: # all\n  0: cat\n  1: dog\n  2: owl\n", True),
    ("names: {0: cat, 1: 'dog', 2: owl}", True),
    ("names: [cat,\n  dog,\n  owl,\n]\n", True),
    ("names: &all [cat, dog, owl]", False),
    ("names: cat", False),
    ("names:\n  1: cat\n  0: dog\n  2: owl\n", False),
    ("names:\n  - cat\n  -\n  - owl\n", False),
    ("names:\n  - cat\n  - {x: dog}\n", False),
    ("names: [cat, dog, owl", False),
    ("names: ['cat, dog, owl]", False),
    ("names: [cat, [dog], owl]", False),
    ("names: []", False),
    ("nc: 3\n", False),
    ("", False),
]


@pytest.mark.parametrize(("text", "read"), NAMES_IN_YAML)
def test_names_in_yaml_are_read_where_they_are_simple(text: str, read: bool, tmp_path: Path, refused) -> None:
    path = write_yolo(tmp_path / "data", some())
    (path / "classes.txt").unlink()
    refused(path, "no names of its classes")
    (path / "data.yaml").write_text(text)
    if read:
        assert load(str(path)).class_names == NAMES
    else:
        refused(path, "data.yaml", "classes.txt")


@given(st.text(max_size=60))
def test_yaml_of_anything_is_names_or_one_line(text: str) -> None:
    with contextlib.suppress(InputError):
        assert all(yaml_names(Path("data.yaml"), f"names: {text}".splitlines()))


def test_names_among_the_labels_as_label_img_leaves_them(tmp_path: Path) -> None:
    path = write_yolo(tmp_path / "data", some())
    (path / "classes.txt").rename(path / "labels" / "classes.txt")
    assert load(str(path)).class_names == NAMES
