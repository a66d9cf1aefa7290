"""One way to one size: whatever format images come in, the same picture becomes the same pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from advkit.data import reference
from advkit.data.decoding import Resize
from advkit.data.images import ImageSet
from advkit.data.prepared import prepared_batches

SIZE = Resize((12, 12))
ANNOTATION = """<annotation><size><width>{w}</width><height>{h}</height></size><object><name>a</name>
<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>8</xmax><ymax>8</ymax></bndbox></object></annotation>"""


def write(folder: Path, mode: str = "RGB") -> list[Path]:
    """Six pictures of three sizes as classes ``folder/{a,b}`` and as PASCAL VOC ``folder/voc``."""
    generator = np.random.default_rng(0)
    files = []
    for number, (height, width) in enumerate([(20, 31), (16, 16), (40, 23)] * 2):
        picture = Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8)).convert(mode)
        file = folder / "classes" / "ab"[number // 3] / f"{number}.png"
        for path in (file, folder / "voc/JPEGImages" / file.name):
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path)
        note = folder / "voc/Annotations" / f"{number}.xml"
        note.parent.mkdir(exist_ok=True)
        note.write_text(ANNOTATION.format(w=width, h=height))
        files.append(file)
    return files


def images_of(data: ImageSet, batch: int = 4, channels: int = 3) -> torch.Tensor:
    return torch.cat([one.images for one in prepared_batches(data, SIZE, channels, batch)])


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_picture_becomes_the_same_pixels_in_every_format(mode: str, tmp_path: Path) -> None:
    files = write(tmp_path, mode)
    folder = images_of(reference.load(str(tmp_path / "classes"), size=SIZE.size))
    boxed = images_of(reference.load(str(tmp_path / "voc")))
    assert folder.shape == (6, 3, 12, 12)
    assert torch.equal(folder, boxed)
    square = np.stack([np.array(Image.open(files[k])) for k in (1, 4)])
    np.savez(tmp_path / "x.npz", images=square, labels=np.array([0, 1]))
    assert torch.equal(images_of(reference.load(str(tmp_path / "x.npz"))), folder[[1, 4]])


@pytest.mark.parametrize("batch", [1, 4, 6, 100])
def test_batches_hold_as_many_as_they_may_and_each_image_once(batch: int, tmp_path: Path) -> None:
    write(tmp_path)
    data = reference.load(str(tmp_path / "voc"))
    found = list(prepared_batches(data, SIZE, 3, batch))
    assert [len(one.images) for one in found] == [batch] * (6 // batch) + [6 % batch] * bool(6 % batch)
    assert [tuple(image.shape[1:]) for one in found for image in one.originals] == [(20, 31), (16, 16), (40, 23)] * 2
    assert torch.equal(torch.cat([one.images for one in found]), images_of(data))


def test_large_images_are_read_a_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path)
    data = reference.load(str(tmp_path / "voc"))
    asked: list[int] = []
    read = data.read

    def counted(rows: torch.Tensor) -> torch.Tensor:
        asked.append(len(rows))
        return read(rows)

    object.__setattr__(data, "read", counted)
    monkeypatch.setattr("advkit.data.prepared.images_per_read", lambda size: 2)
    assert [len(one.images) for one in prepared_batches(data, SIZE, 3, 5)] == [5, 1]
    assert asked == [2, 2, 2]
