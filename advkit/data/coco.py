"""COCO (Lin et al. 2014): one JSON file of images, annotations and categories for each split."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from advkit.data.annotations import Annotation, BoxStyle, from_annotations
from advkit.data.picture_files import class_folders, is_hidden
from advkit.data.raw_dataset import LoadOptions, RawDataset, Splits
from advkit.files.errors import InputError, is_out_of_memory

_STYLE = BoxStyle("annotation")
_PREFIX = "instances_"  # COCO's own of boxes; beside them lie captions and keypoints of the same images
_BESIDE = "_annotations.coco.json"  # as Roboflow exports it, in a split's folder of pictures
_KEYS = ("images", "annotations", "categories")


def is_layout(path: Path) -> bool:
    """Whether directory ``path`` has JSON files in ``annotations``, or ``_annotations.coco.json`` in its folders."""
    return bool(_files(path))


def splits(path: Path) -> Splits | None:
    """A JSON file, or a directory with one for each split in ``annotations`` or its folders; None if it is neither.

    Splits are called as the files, without ``instances_`` and a year. Where there are such files, others are left out.
    Those called ``_annotations.coco.json`` are called as their folders.
    Classes are the categories of all splits, in the order of their ids.
    """
    if path.is_file():
        return {"": lambda wanted: _source([path], path, "", wanted)} if path.suffix.lower() == ".json" else None
    if not is_layout(path):
        return None
    files = _files(path)
    return {
        name: lambda wanted, file=file, name=name: _source(files, file, name, wanted)  # type: ignore[misc]
        for name, file in _named(files).items()
    }


def _named(files: list[Path]) -> dict[str, Path]:
    """Files by what their splits are called."""
    full = [file.parent.name if file.name == _BESIDE else file.stem.removeprefix(_PREFIX) for file in files]
    names = [re.sub(r"(?<=\D)\d{4}$", "", name) for name in full]
    if len(set(names)) < len(names):  # train2014 and train2017
        names = full
    return dict(zip(names, files, strict=True))


def picture_splits(path: Path) -> dict[str, Callable[[], list[Path]]] | None:
    """The pictures of each split: of its file the images are read, and nothing else; None where there is no file."""
    if not is_layout(path):
        return None
    return {name: partial(_pictures, file, name) for name, file in _named(_files(path)).items()}


def _pictures(file: Path, split: str) -> list[Path]:
    content = _parsed(file, ("images",))
    return [found.picture for found in _annotations(file, split, {"images": content["images"], "annotations": []}, {})]


def _files(path: Path) -> list[Path]:
    folder = path / "annotations"
    found = sorted(folder.glob("*.json")) if folder.is_dir() else []
    found = [file for file in found if not is_hidden(file.name)]
    if not found and path.is_dir():
        found = [file for part in class_folders(path) if (file := part / _BESIDE).is_file()]
    return [file for file in found if file.name.startswith(_PREFIX)] or found


def _source(files: list[Path], file: Path, split: str, wanted: LoadOptions) -> RawDataset:
    categories: dict[int, str] = {}
    content = _parsed(file)
    for other in files:
        rows = content["categories"] if other == file else _parsed(other)["categories"]
        for number, name in _categories(other, rows):
            if categories.setdefault(number, name) != name:
                raise InputError(f"{other}: category {number} is {name[:80]}, elsewhere {categories[number][:80]}")
    if not categories:
        raise InputError(f"{file}: no categories; give a data set that has some")
    ids = sorted(categories)
    names = tuple(categories[number] for number in ids)
    if len(set(names)) < len(names):
        twice = next(name for k, name in enumerate(names) if name in names[:k])
        raise InputError(f"{file}: two categories are called {twice[:80]}; give each a name of its own")
    annotations = _annotations(file, split, content, {number: k for k, number in enumerate(ids)})
    return from_annotations(file, annotations, names, _STYLE, wanted)


def _parsed(file: Path, keys: tuple[str, ...] = _KEYS) -> dict[str, list[Any]]:
    try:
        found = json.loads(file.read_bytes())
    except (ValueError, RecursionError, MemoryError) as error:
        if is_out_of_memory(error):
            raise InputError(f"{file}: memory ran out as it was read; free memory") from error
        raise InputError(f"{file}: damaged JSON ({str(error)[:80]}); write or copy it again") from error
    if not isinstance(found, dict) or not all(isinstance(found.get(key), list) for key in keys):
        raise InputError(f"{file}: no annotations of COCO: lists {', '.join(keys)} are needed")
    return found


def _categories(file: Path, rows: list[Any]) -> list[tuple[int, str]]:
    found = []
    for place, row in enumerate(rows):
        number, name = (row.get("id"), row.get("name")) if isinstance(row, dict) else (None, None)
        if type(number) is not int or not isinstance(name, str) or not name:
            raise InputError(f"{file}: categories[{place}] needs a number id and a name; mend it")
        found.append((number, name))
    if len({number for number, _ in found}) < len(found):
        raise InputError(f"{file}: a category's id stands twice; every category needs its own")
    return found


def _annotations(file: Path, split: str, content: dict[str, list[Any]], classes: dict[int, int]) -> list[Annotation]:
    images: dict[int | str, Annotation] = {}
    for place, row in enumerate(content["images"]):
        number, name = (row.get("id"), row.get("file_name")) if isinstance(row, dict) else (None, None)
        if not isinstance(number, int | str) or not isinstance(name, str) or not name or "\0" in name:
            raise InputError(f"{file}: images[{place}] needs an id and a file_name; mend it")
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise InputError(
                f"{file}: images[{place}] lies at {name[:80]}, outside the data; name it from their folder"
            )
        if number in images:
            raise InputError(f"{file}: images[{place}] has the id {str(number)[:40]} of another; give it its own")
        images[number] = Annotation(Path(name), file, said=_size(row))
    for place, row in enumerate(content["annotations"]):
        _add(file, place, row, images, classes)
    root = _root(file, split, [annotation.picture for annotation in images.values()])
    found = [replace(annotation, picture=root / annotation.picture) for annotation in images.values()]
    if missing := [annotation.picture for annotation in found if not annotation.picture.is_file()]:
        shown = str(missing[0].relative_to(root))[:80]
        raise InputError(
            f"{file}: {len(missing)} of its {len(found)} pictures are missing in {root}, such as {shown}; add them, or "
            "remove their images"
        )
    return found


def _size(row: dict[str, Any]) -> tuple[int, int] | None:
    height, width = row.get("height"), row.get("width")
    return (height, width) if type(height) is int and type(width) is int else None


def _add(file: Path, place: int, row: Any, images: dict[int | str, Annotation], classes: dict[int, int]) -> None:
    """One annotation to the image that it belongs to."""
    row = row if isinstance(row, dict) else {}
    image, category, box, crowd = (row.get(key) for key in ("image_id", "category_id", "bbox", "iscrowd"))
    numbers = [_number(value) for value in box] if isinstance(box, list) and len(box) == 4 else [None]
    good = None not in numbers and crowd in (None, 0, 1)
    if not good or not isinstance(image, int | str) or not isinstance(category, int):
        raise InputError(
            f"{file}: annotations[{place}] needs image_id, category_id, a bbox of four numbers, and 0 or 1 as iscrowd; "
            "mend it"
        )
    if image not in images:
        raise InputError(f"{file}: annotations[{place}] is of image {str(image)[:40]}, which is not there; remove it")
    if category not in classes:
        raise InputError(
            f"{file}: annotations[{place}] is of category {str(category)[:40]}, which is not there; add it"
        )
    x, y, width, height = (number or 0.0 for number in numbers)
    own = row.get("id")
    found = images[image]
    found.objects.append((x, y, x + width, y + height, classes[category], bool(crowd)))
    found.numbers.append(own if type(own) is int else place)


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value)
    except OverflowError:
        return float("inf")


def _root(file: Path, split: str, pictures: list[Path]) -> Path:
    """The folder that names of pictures start from: the first usual one where one of the first 1,000 lies."""
    here, above = file.parent, file.parent.parent
    own = file.stem.removeprefix(_PREFIX)
    inside = dict.fromkeys(name for name in ("", own, split, "images", f"images/{own}", f"images/{split}"))
    roots = [place / name for place in (here, above) for name in inside]
    roots = [root for root in roots if root.is_dir()]
    first = pictures[:1000]
    return next((root for root in roots if any((root / picture).is_file() for picture in first)), above / own)
