"""PASCAL VOC folders."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from boxed import NAMES, boxed, some, targets, voc_xml, write_voc

from advkit.data.boxes import is_object
from advkit.data.canvas import is_pixel
from advkit.data.images import ImageSet
from advkit.data.reference import load


def rows(data: ImageSet) -> list[list[list[float]]]:
    return [found[is_object(found)].tolist() for found in data.targets]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_voc(tmp_path / "voc", some(), {"train": [3, 0], "test": [1, 2]})


def test_boxes_pixels_and_names_are_those_of_the_list_in_its_order(folder: Path) -> None:
    data, images = load(f"{folder}#train"), some()
    assert (data.task, data.class_names, data.names, data.split) == ("detection", NAMES, ("im3", "im0"), "train")
    assert rows(data) == targets([images[3], images[0]])
    assert data.size == (3, 16, 16)
    found, _ = data.batch(slice(None))
    for image, place in zip((images[3], images[0]), found, strict=True):
        height, width = image.size
        assert torch.equal(place[:, :height, :width], torch.from_numpy(image.pixels).permute(2, 0, 1) / 255.0)
        assert int(is_pixel(place[None]).sum()) == height * width
    assert data.indices.tolist() == [0, 1]
    assert data.warnings == ()
    grey = load(f"{folder}#train", channels=1).warnings
    assert grey == ("pictures in colour, such as im3.png, are read in grey, as the model takes them",)


def test_classes_have_one_number_in_all_splits_and_test_is_taken_unless_training(folder: Path) -> None:
    test = load(str(folder))
    assert (test.split, test.class_names) == ("test", NAMES)  # though it has owls alone
    assert rows(test) == [[[0.0, 0.0, 20.0, 10.0, 2.0, 0.0]], []]
    assert load(str(folder), role="train").split == "train"


def test_without_lists_all_is_one_split(tmp_path: Path) -> None:
    data = load(str(write_voc(tmp_path / "voc", some())))
    assert (data.split, len(data)) == ("", 4)
    assert rows(data) == targets(some())


def test_lists_of_one_class_are_no_splits_and_pictures_in_none_are_told(folder: Path) -> None:
    lists = folder / "ImageSets" / "Main"
    (lists / "cat_train.txt").write_text("im3  1\nim0 -1\n")
    (lists / "test.txt").write_text("im1\n")
    data = load(str(folder))
    assert len(data) == 1
    assert data.warnings == ("1 file skipped, in no list of ImageSets/Main, such as im2.png",)


def test_channels_are_as_wanted(folder: Path) -> None:
    assert load(str(folder), channels=1).batch(slice(None))[0].shape == (2, 1, 10, 20)


def test_options_of_resizing_change_nothing(folder: Path) -> None:
    data = load(str(folder), size=(8, 8), crop_pct=0.5, interpolation="bicubic")
    assert data.fingerprint == load(str(folder)).fingerprint
    assert data.resize is None


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("Annotations/im1.xml", "<annotation><object>", ("im1.xml", "damaged XML")),
        ("Annotations/im1.xml", "", ("im1.xml", "damaged XML")),
        ("Annotations/im1.xml", "<html/>", ("im1.xml", "<html>", "<annotation>")),
        ("Annotations/im1.xml", '<!DOCTYPE a [<!ENTITY x "y">]><annotation/>', ("im1.xml", "<!DOCTYPE>")),
        ("Annotations/im1.xml", '<!DOCTYPE annotation SYSTEM "a.dtd"><annotation/>', ("im1.xml", "<!DOCTYPE>")),
        ("Annotations/im1.xml", "<annotation>&x;</annotation>", ("im1.xml", "damaged XML")),
        ("Annotations/im1.xml", "<annotation><object><name>cat</name></object></annotation>", ("object 1", "bndbox")),
        ("Annotations/im1.xml", voc_xml(some()[1]).replace("owl", ""), ("object 1", "name")),
        ("Annotations/im1.xml", voc_xml(some()[1]).replace(">20<", ">wide<"), ("object 1", "xmax")),
        ("Annotations/im1.xml", voc_xml(some()[1]).replace(">0<", ">maybe<"), ("object 1", "difficult")),
        ("ImageSets/Main/test.txt", "im1\nim1\n", ("test.txt", "im1 stands twice")),
        ("ImageSets/Main/test.txt", "im1\nim8\nim9\n", ("2 of 3 pictures are missing", "im8")),
        ("ImageSets/Main/test.txt", "", ("no images",)),
        ("JPEGImages/im1.jpg", "", ("differ in their suffix alone", "im1.png")),
        ("JPEGImages/im1.png", "no picture", ("im1.png", "not an image")),
    ],
)
def test_what_is_damaged_is_named(name: str, text: str, words: tuple[str, ...], folder: Path, refused) -> None:
    (folder / name).write_text(text)
    refused(folder, *words)


def test_utf_16_hides_no_document_type(folder: Path, refused) -> None:
    file = folder / "Annotations" / "im1.xml"
    text = '<?xml version="1.0" encoding="utf-16"?>{}' + voc_xml(some()[1])
    file.write_text(text.format(""), encoding="utf-16")
    assert rows(load(str(folder)))[0] == targets(some())[1]
    file.write_text(text.format('<!DOCTYPE annotation [<!ENTITY x "y">]>'), encoding="utf-16")
    refused(folder, "<!DOCTYPE>")


def test_an_annotation_of_many_megabytes_is_not_read(folder: Path, refused) -> None:
    with (folder / "Annotations" / "im1.xml").open("r+b") as file:
        file.truncate(17 << 20)
    refused(folder, "im1.xml", "more than 16 MB")


def test_elements_in_elements_a_hundred_thousand_times(folder: Path) -> None:
    deep = "<a>" * 100_000 + "</a>" * 100_000
    text = voc_xml(some()[1]).replace("<annotation>", f"<annotation>{deep}")
    (folder / "Annotations" / "im1.xml").write_text(text)
    assert rows(load(str(folder)))[0] == targets(some())[1]


def test_missing_annotations_and_data_without_objects(folder: Path, tmp_path: Path, refused) -> None:
    (folder / "Annotations" / "im2.xml").unlink()
    refused(folder, "1 of 2 annotations are missing", "im2")
    refused(write_voc(tmp_path / "none", boxed([(8, 8)], [[]])), "no objects")


def test_lists_that_are_no_text(folder: Path, refused) -> None:
    (folder / "ImageSets" / "Main" / "test.txt").write_bytes(b"\xff\xfe\xfa")
    refused(folder, "test.txt", "UTF-8")
