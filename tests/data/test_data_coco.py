"""COCO's json: what it may say, where its pictures are, and what it is refused for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from boxed import (
    NAMES,
    coco,
    rows,
    some,
    targets,
    write_coco,
    write_pictures,
)

from advkit.data.reference import load


def edited(path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """The COCO file in ``path`` after ``change``."""
    file = path / "annotations" / "instances_val2017.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    return file


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.pop("categories"), ("images, annotations, categories",)),
        (lambda c: c.update(images={}), ("images, annotations, categories",)),
        (lambda c: c.update(categories=[]), ("no categories",)),
        (lambda c: c.update(images=[], annotations=[]), ("no images",)),
        (lambda c: c["categories"][0].pop("name"), ("categories[0]",)),
        (lambda c: c["categories"][0].update(id=3), ("id stands twice",)),
        (lambda c: c["categories"][0].update(name="dog"), ("two categories are called dog",)),
        (lambda c: c["images"].insert(1, None), ("images[1]",)),
        (lambda c: c["images"][1].update(id=[1]), ("images[1]",)),
        (lambda c: c["images"][1].update(id=100), ("images[1]", "100")),
        (lambda c: c["images"][1].update(file_name="/etc/passwd"), ("images[1]", "outside")),
        (lambda c: c["images"][1].update(file_name="../x.png"), ("images[1]", "outside")),
        (lambda c: c["images"][1].update(file_name="x\0.png"), ("images[1]",)),
        (lambda c: c["images"][1].update(file_name="gone.png"), ("1 of its 4 pictures are missing", "gone.png")),
        (lambda c: c["images"][1].update(file_name="\ud800.png"), ("1 of its 4 pictures are missing",)),
        (lambda c: c["annotations"].append(7), ("annotations[6]",)),
        (lambda c: c["annotations"][2].update(bbox=[1, 2, 3]), ("annotations[2]", "bbox")),
        (lambda c: c["annotations"][2].update(bbox=[1, 2, 3, "4"]), ("annotations[2]", "bbox")),
        (lambda c: c["annotations"][2].update(bbox=[1, 2, 3, True]), ("annotations[2]", "bbox")),
        (lambda c: c["annotations"][2].update(bbox=[1, 2, 3, 10**400]), ("1 degenerate", "annotation 9")),
        (lambda c: c["annotations"][2].update(bbox=[1, 2, float("nan"), 3]), ("1 degenerate", "annotation 9")),
        (lambda c: c["annotations"][2].update(iscrowd=2), ("annotations[2]", "iscrowd")),
        (lambda c: c["annotations"][2].update(image_id=5), ("annotations[2]", "image 5")),
        (lambda c: c["annotations"][2].update(category_id=4), ("annotations[2]", "category 4")),
        (lambda c: c["annotations"][2].update(category_id=[]), ("annotations[2]", "category_id")),
    ],
)
def test_coco_that_lies_is_named(change: Callable[[dict[str, Any]], object], words, tmp_path: Path, refused) -> None:
    path = write_coco(tmp_path / "data", some())
    file = edited(path, change)
    refused(path, "instances_val2017.json", *words)
    refused(file, "instances_val2017.json", *words)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"images": [', "[]", "\x00", "1" * 5000])
def test_json_that_is_damaged_or_something_else(text: str, tmp_path: Path, refused) -> None:
    path = write_coco(tmp_path / "data", some())
    (path / "annotations" / "instances_val2017.json").write_text(text)
    refused(path, "instances_val2017.json")
    (tmp_path / "other.json").write_text(text)
    refused(tmp_path / "other.json", "other.json")


def test_a_json_file_alone_finds_its_pictures(tmp_path: Path) -> None:
    images = some()
    path = write_coco(tmp_path / "data", images)
    expected = load(str(path)).fingerprint
    assert load(str(path / "annotations" / "instances_val2017.json")).fingerprint == expected
    for place in ("beside", "beside/images"):
        write_pictures(tmp_path / place, images)
        (tmp_path / "beside" / "boxes.json").write_text(json.dumps(coco(images)))
        assert load(str(tmp_path / "beside" / "boxes.json")).fingerprint == expected


def test_splits_of_coco_share_their_classes(tmp_path: Path, refused) -> None:
    path = write_coco(tmp_path / "data", some())
    write_pictures(path / "train2017", some())
    own = coco(some()[:3])
    own["categories"].append({"id": 1, "name": "ant"})
    (path / "annotations" / "instances_train2017.json").write_text(json.dumps(own))
    (path / "annotations" / "captions_train2017.json").write_text("not read")
    train, val = load(f"{path}#train"), load(f"{path}#val")
    assert (len(train), len(val)) == (3, 4)
    assert train.class_names == val.class_names == ("ant", *NAMES)
    assert val.targets[0, 0, 4] == 2
    own["categories"][0]["name"] = "fish"
    (path / "annotations" / "instances_train2017.json").write_text(json.dumps(own))
    refused(f"{path}#val", "category 23 is", "fish")


def test_annotations_in_the_folders_of_pictures(tmp_path: Path) -> None:
    images = some()
    for split, part in (("train", images), ("valid", images[:3])):
        write_pictures(tmp_path / "data" / split, part)
        (tmp_path / "data" / split / "_annotations.coco.json").write_text(json.dumps(coco(part)))
    train, valid = load(f"{tmp_path / 'data'}#train"), load(f"{tmp_path / 'data'}#valid")
    assert (rows(train), rows(valid)) == (targets(images), targets(images[:3]))


def test_years_stay_where_they_tell_splits_apart(tmp_path: Path) -> None:
    path = write_coco(tmp_path / "data", some())
    write_pictures(path / "val2014", some())
    (path / "annotations" / "instances_val2014.json").write_text(json.dumps(coco(some())))
    assert load(f"{path}#val2014").split == "val2014"
