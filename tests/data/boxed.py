"""The same pictures with boxes, written in each format of boxes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from advkit.data.boxes import is_object
from advkit.data.images import ImageSet
from advkit.files.tensors import write_tensors

NAMES = ("cat", "dog", "owl")
Object = tuple[float, float, float, float, int, bool]  # x0, y0, x1, y1, class, difficult


@dataclass
class Boxed:
    """One picture (h, w, 3) uint8 and its objects."""

    pixels: np.ndarray
    objects: list[Object]

    @property
    def size(self) -> tuple[int, int]:
        return self.pixels.shape[:2]


def boxed(sizes: Sequence[tuple[int, int]], objects: Sequence[list[Object]]) -> list[Boxed]:
    """Noise of ``sizes`` (h, w) with ``objects``."""
    generator = np.random.default_rng(0)
    return [
        Boxed(generator.integers(0, 256, (*size, 3), np.uint8), found)
        for size, found in zip(sizes, objects, strict=True)
    ]


def some() -> list[Boxed]:
    """Four pictures of three sizes: two objects, one over all of it, none, and three of which one is difficult."""
    objects = [
        [(2, 3, 10, 12, 1, False), (0, 0, 4, 9, 0, False)],
        [(0, 0, 20, 10, 2, False)],
        [],
        [(1, 1, 3, 5, 0, False), (5, 2, 12, 16, 0, True), (4, 4, 8, 8, 2, False)],
    ]
    return boxed([(12, 16), (10, 20), (7, 9), (16, 12)], objects)


def targets(images: Sequence[Boxed]) -> list[list[list[float]]]:
    """Objects of each image as rows."""
    return [[list(map(float, found)) for found in image.objects] for image in images]


def write_pictures(folder: Path, images: Sequence[Boxed], first: int = 0) -> None:
    """``im0.png``, ``im1.png``…"""
    folder.mkdir(parents=True, exist_ok=True)
    for k, image in enumerate(images, first):
        Image.fromarray(image.pixels).save(folder / f"im{k}.png")


def voc_xml(image: Boxed, names: Sequence[str] = NAMES, size: tuple[int, int] | None = None) -> str:
    """An annotation; ``size`` (h, w) instead of the picture's own."""
    height, width = size or image.size
    found = "".join(
        f"<object><name>{names[label]}</name><difficult>{difficult:d}</difficult><bndbox><xmin>{x0 + 1}</xmin>"
        f"<ymin>{y0 + 1}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
        for x0, y0, x1, y1, label, difficult in image.objects
    )
    return f"<annotation><size><width>{width}</width><height>{height}</height></size>{found}</annotation>"


def write_voc(path: Path, images: Sequence[Boxed], lists: dict[str, list[int]] | None = None) -> Path:
    """A folder of PASCAL VOC; ``lists`` of numbers of images by split."""
    write_pictures(path / "JPEGImages", images)
    (path / "Annotations").mkdir()
    for k, image in enumerate(images):
        (path / "Annotations" / f"im{k}.xml").write_text(voc_xml(image))
    for split, numbers in (lists or {}).items():
        file = path / "ImageSets" / "Main" / f"{split}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(f"im{k}\n" for k in numbers))
    return path


def coco(images: Sequence[Boxed]) -> dict[str, list[dict[str, object]]]:
    """What a COCO json holds; its category ids leave gaps and are out of order, its annotations mixed."""
    found = [(k, each) for k, image in enumerate(images) for each in image.objects]
    return {
        "images": [
            {"id": 100 - k, "file_name": f"im{k}.png", "height": image.size[0], "width": image.size[1]}
            for k, image in enumerate(images)
        ],
        "annotations": [
            {
                "id": 7 + n,
                "image_id": 100 - k,
                "category_id": 10 * label + 3,
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "iscrowd": int(difficult),
            }
            for n, (k, (x0, y0, x1, y1, label, difficult)) in enumerate(found)
        ],
        "categories": [{"id": 10 * k + 3, "name": name} for k, name in reversed(list(enumerate(NAMES)))],
    }


def write_coco(path: Path, images: Sequence[Boxed]) -> Path:
    """``annotations/instances_val2017.json`` and ``val2017/``."""
    write_pictures(path / "val2017", images)
    (path / "annotations").mkdir()
    (path / "annotations" / "instances_val2017.json").write_text(json.dumps(coco(images)))
    return path


def yolo_txt(image: Boxed) -> str:
    """A line for each object."""
    height, width = image.size
    return "".join(
        f"{label} {(x0 + x1) / 2 / width} {(y0 + y1) / 2 / height} {(x1 - x0) / width} {(y1 - y0) / height}\n"
        for x0, y0, x1, y1, label, _ in image.objects
    )


def write_yolo(path: Path, images: Sequence[Boxed]) -> Path:
    """``images/``, ``labels/`` and ``classes.txt``."""
    write_pictures(path / "images", images)
    (path / "labels").mkdir()
    for k, image in enumerate(images):
        (path / "labels" / f"im{k}.txt").write_text(yolo_txt(image))
    (path / "classes.txt").write_text("\n".join(NAMES) + "\n")
    return path


def boxed_tensors(images: Sequence[Boxed]) -> dict[str, torch.Tensor]:
    """Tensors of a safetensors file, one column of padding more than needed."""
    height, width = (max(image.size[axis] for image in images) for axis in (0, 1))
    most = max(len(image.objects) for image in images) + 1
    count = len(images)
    tensors = {
        "images": torch.zeros(count, 3, height, width, dtype=torch.uint8),
        "boxes": torch.zeros(count, most, 4),
        "labels": torch.full((count, most), -1),
        "difficult": torch.zeros(count, most, dtype=torch.uint8),
        "sizes": torch.tensor([image.size for image in images]),
    }
    for k, image in enumerate(images):
        h, w = image.size
        tensors["images"][k, :, :h, :w] = torch.from_numpy(image.pixels).permute(2, 0, 1)
        for n, found in enumerate(image.objects):
            tensors["boxes"][k, n] = torch.tensor(found[:4])
            tensors["labels"][k, n], tensors["difficult"][k, n] = found[4], found[5]
    return tensors


def write_boxed_tensors(path: Path, images: Sequence[Boxed]) -> Path:
    """A safetensors file with boxes."""
    write_tensors(path, boxed_tensors(images), json.dumps({"class_names": NAMES}))
    return path


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
