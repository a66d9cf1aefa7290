"""PASCAL VOC (Everingham et al. 2010): JPEGImages, one XML file in Annotations for each, lists in ImageSets/Main."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from advkit.data.annotations import Annotation, BoxStyle, from_annotations
from advkit.data.picture_files import is_picture, left_out, visible_files
from advkit.data.raw_dataset import LoadOptions, RawDataset, Splits
from advkit.files.errors import InputError

# Corners are pixels, counted from 1 and both within the box. A box from a pixel to itself is what a click leaves.
_STYLE = BoxStyle("object", least=1.0)
_LARGEST = 16 << 20  # bytes of an annotation: tens of thousands of objects
_MEMBERSHIP = {"-1", "0", "1"}  # behind names in lists of one class, which are no splits


class _Objects(NamedTuple):
    """What one XML file says: names and boxes (x0, y0, x1, y1, difficult) of its objects, (H, W) of its picture."""

    names: list[str]
    boxes: list[tuple[float, float, float, float, bool]]
    said: tuple[int, int] | None


def is_layout(path: Path) -> bool:
    """Whether directory ``path`` is laid out so."""
    return (path / "JPEGImages").is_dir() and (path / "Annotations").is_dir()


def splits(path: Path) -> Splits | None:
    """The lists of images in ``ImageSets/Main`` but for those of single classes, or all images without any; else None.

    Classes are numbered in the order of their names over all of these splits.
    """
    if not is_layout(path):
        return None
    lists = _lists(path / "ImageSets" / "Main") or {"": None}
    return {split: lambda wanted, split=split: _source(path, lists, split, wanted) for split in lists}  # type: ignore[misc]


def picture_splits(path: Path) -> dict[str, Callable[[], list[Path]]] | None:
    """The pictures of each list, whose annotations are not looked for; None where there is no ``JPEGImages``."""
    if not (path / "JPEGImages").is_dir():
        return None
    lists = _lists(path / "ImageSets" / "Main") or {"": None}
    return {split: partial(_pictures, path, names) for split, names in lists.items()}


def _pictures(path: Path, names: list[str] | None) -> list[Path]:
    pictures = _by_name(path / "JPEGImages", [file for file in visible_files(path / "JPEGImages") if is_picture(file)])
    names = sorted(pictures) if names is None else names
    if missing := [name for name in names if name not in pictures]:
        raise InputError(
            f"{path}: {len(missing)} of {len(names)} pictures are missing in JPEGImages, such as {missing[0][:80]}; "
            "add them, or remove them from the list"
        )
    return [pictures[name] for name in names]


def _lists(folder: Path) -> dict[str, list[str] | None]:
    """Names of images by the name of their list."""
    found: dict[str, list[str] | None] = {}
    for file in sorted(folder.glob("*.txt")) if folder.is_dir() else []:
        if file.name.startswith("."):
            continue
        try:
            lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
        except UnicodeDecodeError as error:
            raise InputError(f"{file}: not a list of images in UTF-8; save it as one") from error
        if lines and all(len(words := line.split()) == 2 and words[1] in _MEMBERSHIP for line in lines):
            continue
        (twice, times), *_ = Counter(lines).most_common(1) or [("", 0)]
        if times > 1:
            raise InputError(f"{file}: {twice[:80]} stands twice; every image needs one line")
        found[file.stem] = lines
    return found


def _source(path: Path, lists: dict[str, list[str] | None], split: str, wanted: LoadOptions) -> RawDataset:
    pictures = _by_name(path / "JPEGImages", [file for file in visible_files(path / "JPEGImages") if is_picture(file)])
    files = _by_name(
        path / "Annotations", [file for file in visible_files(path / "Annotations") if file.suffix.lower() == ".xml"]
    )
    everything = sorted(pictures.keys() | files.keys())
    by_split = {name: everything if names is None else names for name, names in lists.items()}
    listed = dict.fromkeys(name for names in by_split.values() for name in names)
    for kind, folder, have in (("pictures", "JPEGImages", pictures), ("annotations", "Annotations", files)):
        if missing := [name for name in by_split[split] if name not in have]:
            raise InputError(
                f"{path}: {len(missing)} of {len(by_split[split])} {kind} are missing in {folder}, such as "
                f"{missing[0][:80]}; add them, or remove their images"
            )
    read = {name: _objects(files[name]) for name in listed if name in files}
    classes = tuple(sorted({name for found in read.values() for name in found.names}))
    if not classes:
        raise InputError(f"{path}: no objects in any of its {len(read)} annotations; give a data set that has some")
    numbers = {name: k for k, name in enumerate(classes)}
    annotations = [
        Annotation(
            pictures[name],
            files[name],
            [(*box[:4], numbers[kind], box[4]) for kind, box in zip(read[name].names, read[name].boxes, strict=True)],
            list(range(1, len(read[name].names) + 1)),
            read[name].said,
        )
        for name in by_split[split]
    ]
    source = from_annotations(path, annotations, classes, _STYLE, wanted)
    unused = [file for name, file in pictures.items() if name not in listed]
    told = left_out(unused, "in no list of ImageSets/Main")
    return replace(source, warnings=(*filter(None, [told]), *source.warnings))


def _by_name(folder: Path, files: list[Path]) -> dict[str, Path]:
    """``files`` by what lists call them: their path under ``folder`` without the suffix."""
    found: dict[str, Path] = {}
    for file in sorted(files):
        name = file.relative_to(folder).with_suffix("").as_posix()
        if (other := found.setdefault(name, file)) != file:
            raise InputError(f"{folder}: {other.name} and {file.name} differ in their suffix alone; remove one")
    return found


def _objects(file: Path) -> _Objects:
    root = _parsed(file)
    if root.tag != "annotation":
        raise InputError(f"{file}: <{root.tag[:40]}>, not an <annotation> of PASCAL VOC; replace it")
    names, boxes = [], []
    for number, found in enumerate(root.findall("object"), 1):
        name = (found.findtext("name") or "").strip()
        difficult = (found.findtext("difficult") or "0").strip()
        corners = [_number(found.findtext(f"bndbox/{corner}")) for corner in ("xmin", "ymin", "xmax", "ymax")]
        if not name or None in corners or difficult not in ("0", "1"):
            raise InputError(
                f"{file}: object {number} needs a name, a bndbox of numbers xmin, ymin, xmax, ymax, and 0 or 1 as "
                "difficult; mend it, or remove the object"
            )
        x0, y0, x1, y1 = (corner or 0.0 for corner in corners)
        names.append(name)
        boxes.append((x0 - 1, y0 - 1, x1, y1, difficult == "1"))
    height, width = _number(root.findtext("size/height")), _number(root.findtext("size/width"))
    said = (int(height), int(width)) if height and width and abs(height) < 1e9 and abs(width) < 1e9 else None
    return _Objects(names, boxes, said)


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None


def _parsed(file: Path) -> Element:
    """The root of an XML file that declares no document type: entities could make it grow, or read other files."""
    if file.stat().st_size > _LARGEST:
        raise InputError(f"{file}: more than {_LARGEST >> 20} MB of XML for one image; replace it")

    def refuse(*_: object) -> None:
        raise InputError(f"{file}: has a <!DOCTYPE>, which annotations never have; remove it")

    builder, parser = TreeBuilder(), expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = refuse  # entities are declared in it
    try:
        parser.Parse(file.read_bytes(), True)
        return builder.close()
    except (expat.ExpatError, ValueError, LookupError, AssertionError) as error:
        raise InputError(f"{file}: damaged XML ({str(error)[:80]}); write or copy it again") from error
