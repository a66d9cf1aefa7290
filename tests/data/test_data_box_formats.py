"""VOC, COCO, YOLO and safetensors of the same pictures say the same; boxes in tensors."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from boxed import (
    NAMES,
    Boxed,
    Object,
    alike,
    boxed,
    boxed_tensors,
    rows,
    some,
    targets,
    write_boxed_tensors,
    write_coco,
    write_voc,
    write_yolo,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from advkit.data.canvas import sizes
from advkit.data.reference import load
from advkit.files.errors import InputError
from advkit.files.tensors import write_tensors

WRITERS: dict[str, Callable[[Path, list[Boxed]], Path]] = {
    "voc": write_voc,
    "coco": write_coco,
    "yolo": write_yolo,
    "safetensors": lambda path, images: write_boxed_tensors(path.with_suffix(".safetensors"), images),
}


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
