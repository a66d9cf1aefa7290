"""VOC, COCO, YOLO and safetensors of the same pictures say the same; COCO, YOLO and safetensors one by one."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from boxed import (
    NAMES,
    Boxed,
    Object,
    boxed,
    boxed_tensors,
    coco,
    some,
    targets,
    write_boxed_tensors,
    write_coco,
    write_pictures,
    write_voc,
    write_yolo,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from advkit.data.boxes import is_object
from advkit.data.canvas import sizes
from advkit.data.images import ImageSet
from advkit.data.reference import load
from advkit.data.yolo import yaml_names
from advkit.files.errors import InputError
from advkit.files.tensors import write_tensors

WRITERS: dict[str, Callable[[Path, list[Boxed]], Path]] = {
    "voc": write_voc,
    "coco": write_coco,
    "yolo": write_yolo,
    "safetensors": lambda path, images: write_boxed_tensors(path.with_suffix(".safetensors"), images),
}


def rows(data: ImageSet) -> list[list[list[float]]]:
    return [found[is_object(found)].tolist() for found in data.targets]


def alike(one: ImageSet, other: ImageSet) -> bool:
    """Equal pixels, names, classes and difficulty; boxes up to the rounding of YOLO's relative ones."""
    pixels = [data.batch(slice(None))[0].nan_to_num(2.0) for data in (one, other)]
    return (
        torch.equal(*pixels)
        and one.class_names == other.class_names
        and one.targets.shape == other.targets.shape
        and torch.allclose(one.targets, other.targets, atol=1e-4)
        and torch.equal(one.targets[..., 4:], other.targets[..., 4:])
        and one.indices.tolist() == other.indices.tolist()
    )


@pytest.mark.parametrize("kind", WRITERS)
def test_every_format_gives_what_went_in(kind: str, tmp_path: Path) -> None:
    images = some()
    if kind == "yolo":  # which knows no difficult ones
        images[3].objects[1] = (*images[3].objects[1][:5], False)
    data, expected = load(str(WRITERS[kind](tmp_path / "data", images))), targets(images)
    assert (data.task, data.class_names, data.size, data.warnings) == ("detection", NAMES, (3, 16, 20), ())
    assert data.split == ("val" if kind == "coco" else "")
    for found, wanted in zip(rows(data), expected, strict=True):
        assert torch.allclose(torch.tensor(found), torch.tensor(wanted), atol=1e-5)
    assert alike(data, load(str(write_voc(tmp_path / "voc", images))))
    assert data.names == (None if kind == "safetensors" else ("im0", "im1", "im2", "im3"))
    if kind != "yolo":
        assert data.fingerprint == load(str(tmp_path / "voc")).fingerprint


@st.composite
def pictures(draw: st.DrawFn) -> list[Boxed]:
    """One to four pictures with up to five objects; each class is somewhere."""
    found = []
    for k in range(draw(st.integers(1, 4))):
        height, width = draw(st.integers(2, 40)), draw(st.integers(2, 40))
        objects: list[Object] = [(0, 0, width, height, label, False) for label in range(3) if k == 0]
        for _ in range(draw(st.integers(0, 5))):
            x0, y0 = draw(st.integers(0, width - 2)), draw(st.integers(0, height - 2))
            x1, y1 = draw(st.integers(x0 + 2, width)), draw(st.integers(y0 + 2, height))
            objects.append((x0, y0, x1, y1, draw(st.integers(0, 2)), False))
        found.append(Boxed(torch.zeros(height, width, 3, dtype=torch.uint8).numpy(), objects))
    return found


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(images=pictures())
def test_the_formats_agree(images: list[Boxed], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("agree")
    found = [load(str(write(path / kind, images))) for kind, write in WRITERS.items()]
    for data in found:
        assert alike(found[0], data)
    assert rows(found[0]) == targets(images)


@pytest.mark.parametrize("kind", WRITERS)
def test_every_format_names_wrong_boxes_and_mends_them(kind: str, tmp_path: Path, refused) -> None:
    images = some()
    images[1].objects += [(4, 4, 4, 9, 0, False), (5, 5, 30, 9, 0, False)]
    images[1].objects += [(0, 0, 3, 9, 2, False)]
    path = WRITERS[kind](tmp_path / "data", images)
    place = {
        "voc": "im1.xml object 2",
        "coco": "instances_val2017.json annotation 10",
        "yolo": "im1.txt line 2",
        "safetensors": "image 1 box 1",
    }[kind]
    refused(path, "1 out of range and 1 degenerate", place)
    data = load(str(path), fix_boxes=True)
    expected = [[0, 0, 20, 10, 2, 0], [5, 5, 20, 9, 0, 0], [0, 0, 3, 9, 2, 0]]
    assert torch.allclose(torch.tensor(rows(data)[1]), torch.tensor(expected).float(), atol=1e-4)
    assert len(data.warnings) == 1


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


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"boxes": torch.zeros(4, 4)}, ("boxes [4, 4]",)),
        ({"boxes": torch.zeros(3, 4, 4)}, ("boxes [3, 4, 4]", "4 images")),
        ({"labels": torch.zeros(4, 3, dtype=torch.int64)}, ("labels [4, 3]",)),
        ({"labels": torch.full((4, 4), 0.5)}, ("labels", "fractions")),
        ({"boxes": torch.zeros(4, 0, 4), "labels": torch.zeros(4, 0), "difficult": torch.zeros(4, 0)}, ("one box",)),
        ({"labels": torch.full((4, 4), 3)}, ("label 3", "3 classes")),
        ({"labels": torch.tensor([[0, -2, 0, 0]] * 4)}, ("label -2",)),
        ({"difficult": torch.full((4, 4), 2)}, ("difficult",)),
        ({"sizes": torch.full((4, 2), 21)}, ("sizes", "16x20")),
        ({"sizes": torch.zeros(4, 2, dtype=torch.int64)}, ("sizes", "16x20")),
        ({"sizes": torch.ones(4, 3)}, ("sizes [4, 3]",)),
        ({"boxes": torch.full((4, 4, 4), float("nan"))}, ("6 degenerate", "image 0 box 0")),
    ],
)
def test_tensors_that_lie_are_named(change: dict[str, torch.Tensor], words, tmp_path: Path, refused) -> None:
    file = tmp_path / "set.safetensors"
    write_tensors(file, boxed_tensors(some()) | change, json.dumps({"class_names": NAMES}))
    refused(file, "set.safetensors", *words)


def test_tensors_may_lack_difficult_sizes_and_names_and_have_holes(tmp_path: Path) -> None:
    tensors = boxed_tensors(some())
    del tensors["difficult"], tensors["sizes"]
    tensors["labels"][3, 0] = -1
    tensors["index"] = torch.tensor([5, 3, 9, 0])
    write_tensors(tmp_path / "set.safetensors", tensors, "{}")
    data = load(str(tmp_path / "set.safetensors"))
    assert data.class_names == ("0", "1", "2")
    assert data.indices.tolist() == [5, 3, 9, 0]
    assert rows(data)[3] == [[5.0, 2.0, 12.0, 16.0, 0.0, 0.0], [4.0, 4.0, 8.0, 8.0, 2.0, 0.0]]
    assert not data.batch(slice(None))[0].isnan().any()


@pytest.mark.parametrize("kind", ["coco", "yolo", "safetensors"])
def test_images_without_any_object(kind: str, tmp_path: Path, refused) -> None:
    images = boxed([(8, 9), (5, 4)], [[], []])
    data = load(str(WRITERS[kind](tmp_path / "data", images)))
    assert rows(data) == [[], []]
    assert data.class_names == NAMES
    assert load(str(WRITERS[kind](tmp_path / "data2", images)), fix_boxes=True).fingerprint == data.fingerprint
    if kind == "safetensors":
        write_tensors(tmp_path / "data.safetensors", boxed_tensors(images), "{}")
        refused(tmp_path / "data.safetensors", "no objects, and no names")
        nothing = {name: tensor[:0] for name, tensor in boxed_tensors(images).items()}
        write_tensors(tmp_path / "data.safetensors", nothing, json.dumps({"class_names": NAMES}))
        refused(tmp_path / "data.safetensors", "at least one image")


def test_floats_beyond_an_image_are_no_pixels(tmp_path: Path) -> None:
    tensors = boxed_tensors(some())
    tensors["images"] = tensors["images"].float() / 255.0
    write_tensors(tmp_path / "set.safetensors", tensors, json.dumps({"class_names": NAMES}))
    whole = load(str(tmp_path / "set.safetensors"))
    assert whole.fingerprint == load(str(write_voc(tmp_path / "voc", some()))).fingerprint
    part = whole.subset(torch.tensor([2, 0]))
    assert torch.equal(part.batch(slice(None))[0].isnan(), whole.batch(slice(None))[0].isnan()[[2, 0]])


@pytest.mark.parametrize(("one", "other"), [("voc", "yolo"), ("coco", "yolo"), ("voc", "coco")])
def test_two_formats_in_one_folder_are_told_apart_by_the_user(one: str, other: str, tmp_path: Path, refused) -> None:
    WRITERS[one](tmp_path / "data", some())
    WRITERS[other](tmp_path / "other", some())
    shutil.copytree(tmp_path / "other", tmp_path / "data", dirs_exist_ok=True)
    refused(tmp_path / "data", f"could be {one} or {other}")
    if "coco" in (one, other):
        assert load(str(tmp_path / "data" / "annotations" / "instances_val2017.json")).task == "detection"


SPITEFUL = [
    b"-1",
    b"1e999",
    b"nan",
    b"null",
    b"[",
    b"}",
    b"\xff",
    b"\0",
    b"<",
    b"</object>",
    b"99999999999999999999",
    b'"',
]
MUTATED = {
    "voc": ("Annotations/im3.xml", "ImageSets/Main/test.txt"),
    "coco": ("annotations/instances_val2017.json",),
    "yolo": ("labels/im3.txt", "classes.txt"),
}


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, names in MUTATED.items() for name in names])
def test_files_that_are_changed_anywhere_are_read_or_refused_in_one_line(
    kind: str, name: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp(kind) / "data"
    write_voc(path, some(), {"test": [3, 0]}) if kind == "voc" else WRITERS[kind](path, some())
    content = bytearray((path / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(content)))
        stop = data.draw(st.integers(start, min(len(content), start + 12)))
        content[start:stop] = data.draw(st.binary(max_size=8) | st.sampled_from(SPITEFUL))
    (path / name).write_bytes(content)
    try:
        found = load(str(path), fix_boxes=data.draw(st.booleans()))
        images, there = found.batch(slice(None))
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert is_sound(there, images)


def is_sound(there: torch.Tensor, images: torch.Tensor) -> bool:
    """Every object has area within its image."""
    height, width = sizes(images).unbind(1)
    edge = torch.stack([width, height, width, height], 1)[:, None]
    boxes, labels = there[..., :4], there[..., 4]
    good = (boxes >= 0) & (boxes <= edge)
    area = (boxes[..., 2:] > boxes[..., :2]).all(-1)
    return bool(((good.all(-1) & area) | (labels < 0)).all())
