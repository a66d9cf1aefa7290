"""What all formats of boxes share: boxes that are wrong, sizes, EXIF, patterns, decoding once, fingerprints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from boxed import Boxed, Object, boxed, some, voc_xml, write_pictures, write_voc
from PIL import Image, ImageOps

from advkit.data import annotations as module
from advkit.data import images as images_module
from advkit.data.box_checks import check_boxes, turned
from advkit.data.boxes import is_object
from advkit.data.canvas import is_pixel, sizes
from advkit.data.reference import load

GOOD: Object = (1, 1, 5, 5, 0, False)


def with_objects(path: Path, *objects: Object) -> Path:
    """A folder of VOC with a picture of 10x20 without wrong boxes, and one with ``objects``."""
    return write_voc(path, boxed([(10, 20), (10, 20)], [[GOOD], list(objects)]))


@pytest.mark.parametrize("box", [(5, 5, 6, 9), (5, 5, 9, 6), (9, 9, 5, 5), (5, 5, 5, 9), (float("nan"), 0, 9, 9)])
def test_degenerate_boxes_are_refused_by_name_or_dropped(box: tuple[float, ...], tmp_path: Path, refused) -> None:
    path = with_objects(tmp_path / "voc", GOOD, (*box, 2, False), (*box, 1, False))
    refused(path, "of 4 boxes 2 degenerate", "im1.xml object 2", "--fix-boxes")
    data = load(str(path), fix_boxes=True)
    assert data.targets[is_object(data.targets)].tolist() == [[*map(float, GOOD)]] * 2
    assert any("2 dropped as degenerate" in line and "im1.xml object 2" in line for line in data.warnings)


@pytest.mark.parametrize("box", [(-2, 0, 5, 5), (0, -2, 5, 5), (15, 0, 22, 5), (0, 5, 5, 12)])
def test_boxes_out_of_range_are_refused_by_name_or_clipped(box: tuple[float, ...], tmp_path: Path, refused) -> None:
    path = with_objects(tmp_path / "voc", GOOD, (*box, 0, False))
    refused(path, "of 3 boxes 1 out of range", "im1.xml object 2", "20x10 pixels")
    data = load(str(path), fix_boxes=True)
    x0, y0, x1, y1 = box
    assert data.targets[1, 1].tolist() == [max(x0, 0), max(y0, 0), min(x1, 20), min(y1, 10), 0, 0]
    assert any("1 clipped" in line and "im1.xml object 2" in line for line in data.warnings)


def test_a_box_that_lies_beside_its_image_is_degenerate(tmp_path: Path, refused) -> None:
    path = with_objects(tmp_path / "voc", (30, 2, 40, 5, 0, False), (15, 2, 22, 5, 0, False))
    refused(path, "1 out of range and 1 degenerate", "im1.xml object 1")
    data = load(str(path), fix_boxes=True)
    assert data.targets[1, is_object(data.targets)[1]].tolist() == [[15.0, 2.0, 20.0, 5.0, 0.0, 0.0]]


def test_a_pixel_beyond_is_a_rounding(tmp_path: Path) -> None:
    data = load(str(with_objects(tmp_path / "voc", (-1, -1, 21, 11, 2, True))))
    assert data.targets[1, 0].tolist() == [0.0, 0.0, 20.0, 10.0, 1.0, 1.0]
    assert data.warnings == ()


def test_sound_boxes_are_untouched_by_mending(tmp_path: Path) -> None:
    path = write_voc(tmp_path / "voc", some())
    assert torch.equal(load(str(path)).targets, load(str(path), fix_boxes=True).targets)
    assert load(str(path), fix_boxes=True).warnings == ()


def test_a_thin_box_is_degenerate_only_where_sides_must_be_longer() -> None:
    boxes, size = torch.tensor([[1.0, 1.0, 1.5, 5.0]], dtype=torch.float64), torch.tensor([[10, 10]])
    assert not check_boxes(boxes, size).degenerate
    assert check_boxes(boxes, size, least=1.0).degenerate


@pytest.mark.parametrize("data", ["digits", "digits#train"])
def test_there_is_nothing_to_mend_in_data_of_classes(data: str, refused) -> None:
    refused(data, "--fix-boxes", "no boxes", fix_boxes=True)


def test_a_contradicting_size_is_told_once_and_the_picture_counts(tmp_path: Path) -> None:
    path = write_voc(tmp_path / "voc", some())
    for k in (0, 3):
        (path / "Annotations" / f"im{k}.xml").write_text(voc_xml(some()[k], size=(99, 98)))
    data = load(str(path))
    assert len(data.warnings) == 1
    assert data.warnings[0].startswith("2 of 4 annotations tell another size")
    assert "im0.png: 16x12, not 98x99" in data.warnings[0]
    assert torch.equal(data.targets, load(str(write_voc(tmp_path / "other", some()))).targets)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_are_turned_with_pictures_that_exif_turns(orientation: int, tmp_path: Path) -> None:
    """A white box on black stays in its box, whether it was drawn before or after the turn."""
    path = write_voc(tmp_path / "voc", boxed([(10, 20)], [[GOOD]]))
    stored = Image.new("L", (20, 10))
    stored.paste(255, (2, 3, 9, 5))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(path / "JPEGImages" / "im0.png", exif=exif)
    upright = np.array(ImageOps.exif_transpose(Image.open(path / "JPEGImages" / "im0.png")))
    y, x = (upright > 0).nonzero()
    box = (x.min(), y.min(), x.max() + 1, y.max() + 1)
    for size, drawn in ((upright.shape, box), ((10, 20), (2, 3, 9, 5))):
        if size == (10, 20) and orientation in (2, 3, 4):
            continue  # sizes don't tell; boxes are taken for those of the upright picture
        image = Boxed(np.zeros((*size, 3), np.uint8), [(*map(int, drawn), 0, False)])
        (path / "Annotations" / "im0.xml").write_text(voc_xml(image))
        data = load(str(path))
        assert data.targets[0, 0, :4].tolist() == list(map(float, box))
        x0, y0, x1, y1 = map(int, data.targets[0, 0, :4])
        found = data.batch(slice(None))[0][0, 0]
        assert found[y0:y1, x0:x1].eq(1.0).all()
        assert float(found.nansum()) == (y1 - y0) * (x1 - x0)
        assert data.warnings == ()


def test_turned_keeps_corners() -> None:
    assert turned((2, 3, 9, 5), 6, (20, 10)) == (5, 2, 7, 9)


def test_patterns_choose_files_by_name_and_keep_their_identities(tmp_path: Path, refused) -> None:
    path = write_voc(tmp_path / "voc", some())
    whole, some_of_them = load(str(path)), load(f"{path}#:im[13]")
    assert (some_of_them.names, some_of_them.split, some_of_them.ref) == (("im1", "im3"), ":im[13]", str(path))
    assert some_of_them.indices.tolist() == [1, 3]
    assert some_of_them.fingerprint == whole.subset(torch.tensor([1, 3])).fingerprint
    refused(f"{path}#:IM*", "no name matches IM*", "4 files, such as im0")
    refused(f"{path}#test:im*", "no split 'test'")


def test_patterns_in_folders_of_classes(tmp_path: Path, refused) -> None:
    for split in ("train", "test"):
        for name in ("a", "b"):
            write_pictures(tmp_path / "set" / split / name, boxed([(8, 8)] * 2, [[], []]), first=10 * (name == "b"))
    data = load(f"{tmp_path / 'set'}#train:im*0")
    assert (data.names, data.targets.tolist(), data.split) == (("im0", "im10"), [0, 1], "train:im*0")
    assert load(f"{tmp_path / 'set'}#:im1").split == "test:im1"
    refused(f"{tmp_path / 'set'}#:x", "no name matches x", "4 files")


def test_names_follow_subsets(tmp_path: Path) -> None:
    data = load(str(write_voc(tmp_path / "voc", some()))).subset(torch.tensor([3, 1, 2]))
    assert data.subset(torch.tensor([2, 0])).names == ("im2", "im3")
    assert load("digits").names is None


@pytest.mark.parametrize("room", [0, 10 * 20 * 3, 1 << 30])
def test_pictures_are_decoded_once_as_long_as_there_is_room(
    room: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_voc(tmp_path / "voc", some())
    expected = load(str(path)).batch(slice(None))[0]
    monkeypatch.setattr(module, "_KEPT", room)
    decoded, decode = [], module.decode_whole
    monkeypatch.setattr(module, "decode_whole", lambda file, channels: decoded.append(file) or decode(file, channels))
    data = load(str(path))
    for _ in range(3):
        assert torch.equal(data.batch(slice(None))[0].nan_to_num(2.0), expected.nan_to_num(2.0))
    assert len(decoded) == {0: 12, 600: 10, 1 << 30: 4}[room]  # of 576, 600, 189 and 576 bytes


def test_pixels_of_more_than_8_bits_are_kept(tmp_path: Path) -> None:
    path = write_voc(tmp_path / "voc", boxed([(10, 20)], [[GOOD]]))
    deep = np.arange(200, dtype=np.uint16).reshape(10, 20) + 1000
    Image.fromarray(deep).save(path / "JPEGImages" / "im0.png")
    found = load(str(path)).batch(slice(None))[0]
    assert torch.equal(found[0, 0], torch.from_numpy(deep.astype(np.float32)) / 65535.0)


def test_a_picture_that_changes_its_size_is_named(tmp_path: Path) -> None:
    path = write_voc(tmp_path / "voc", some())
    data = load(str(path))
    Image.new("RGB", (5, 5)).save(path / "JPEGImages" / "im1.png")
    with pytest.raises(module.InputError, match=r"im1\.png"):
        data.batch(slice(None))


def test_no_images_of_many_sizes(tmp_path: Path) -> None:
    data = load(str(write_voc(tmp_path / "voc", some())))
    assert data.batch(slice(0, 0))[0].shape == (0, *data.size)


def test_fingerprint_is_of_the_images_whatever_lies_beyond_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither of how many are read at once, nor of rows and pixels of padding."""
    data = load(str(write_voc(tmp_path / "voc", some())))
    small = write_voc(tmp_path / "small", [some()[0], some()[2]])
    assert data.subset(torch.tensor([0, 2])).targets.shape != load(str(small)).targets.shape
    assert data.subset(torch.tensor([0])).fingerprint == load(str(small)).subset(torch.tensor([0])).fingerprint
    expected = data.fingerprint
    for step in (1, 3):
        monkeypatch.setattr(images_module, "images_per_read", lambda _, step=step: step)
        assert load(str(tmp_path / "voc")).fingerprint == expected


def test_fingerprint_sees_boxes_classes_order_and_pixels(tmp_path: Path) -> None:
    images = some()
    found = {load(str(write_voc(tmp_path / "voc", images))).fingerprint}
    found.add(load(str(tmp_path / "voc")).subset(torch.tensor([1, 0, 2, 3])).fingerprint)
    for k, change in enumerate(((3, 3, 10, 12, 1, False), (2, 3, 10, 12, 2, False), (2, 3, 10, 12, 1, True))):
        images[0].objects[0] = change
        found.add(load(str(write_voc(tmp_path / str(k), images))).fingerprint)
    images[2].pixels[6, 8, 2] ^= 1
    found.add(load(str(write_voc(tmp_path / "pixels", images))).fingerprint)
    assert len(found) == 6


@pytest.mark.parametrize("split", ["train", "val"])
def test_the_degenerate_boxes_of_bccd_are_named(split: str, shared: Path, refused) -> None:
    place = {"train": "BloodImage_00343.xml object 4", "val": "BloodImage_00338.xml object 13"}[split]
    refused(f"{shared / 'cells-bccd'}#{split}", "1 degenerate", place)
    data = load(f"{shared / 'cells-bccd'}#{split}", fix_boxes=True)
    assert any("1 dropped as degenerate" in line and place in line for line in data.warnings)
    assert data.class_names == ("Platelets", "RBC", "WBC")
    assert data.size == (3, 480, 640)


def test_people_in_photographs_and_in_art(shared: Path) -> None:
    train, test = (load(f"{shared / 'people-photo'}#{split}") for split in ("train", "test"))
    assert (len(train), len(test)) == (241, 103)
    assert int(is_object(train.targets).sum() + is_object(test.targets).sum()) <= 1068
    images, _ = train.batch(slice(0, 16))
    assert sizes(images).amax(1).le(320).all()
    assert not is_pixel(images).all()
    art = shared / "people-art"
    assert (len(load(f"{art}#train")), len(load(f"{art}#test"))) == (600, 400)
    ukiyoe = load(f"{art}#test:ukiyoe_*")
    assert (len(ukiyoe), ukiyoe.split) == (14, "test:ukiyoe_*")
    assert all(name.startswith("ukiyoe_") for name in ukiyoe.names or ())
