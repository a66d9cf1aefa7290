"""Pictures in ``images``, a text file in ``labels`` for each, as YOLO (Redmon et al. 2016) takes them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from advkit.data.annotations import AnnotatedObject, Annotation, BoxStyle, from_annotations
from advkit.data.picture_files import class_folders, is_picture, left_out, visible_files
from advkit.data.raw_dataset import LoadOptions, RawDataset, Splits
from advkit.files.errors import InputError

_STYLE = BoxStyle("line", relative=True)
_NAMES = "classes.txt"  # LabelImg writes it among the labels
_SPLITS = ("train", "test", "val", "valid", "validation")
_LARGEST = 16 << 20  # bytes of the labels of one image


def is_layout(path: Path) -> bool:
    """Whether directory ``path`` has ``images``, and ``labels`` with text files."""
    return any(any(map(_is_text, visible_files(labels))) for _, labels in _parts(path).values())


def splits(path: Path) -> Splits | None:
    """``train``, ``test``, ``val`` in ``images`` and ``labels`` or over them, or all images; None if it is neither.

    Names of classes stand in ``classes.txt``, one a line, or under ``names`` in ``data.yaml``.
    """
    if not is_layout(path):
        return None
    return {
        name: lambda wanted, images=images, labels=labels: _source(path, images, labels, wanted)  # type: ignore[misc]
        for name, (images, labels) in _parts(path).items()
    }


def _parts(path: Path) -> dict[str, tuple[Path, Path]]:
    """Folders of images and of labels, by split."""
    images, labels = path / "images", path / "labels"
    if images.is_dir() and labels.is_dir():
        names = [folder.name for folder in class_folders(images) if folder.name in _SPLITS] or [""]
        return {name: (images / name, labels / name) for name in names}
    over = {name: (path / name / "images", path / name / "labels") for name in _SPLITS}
    return {name: pair for name, pair in over.items() if pair[0].is_dir() and pair[1].is_dir()}


def _is_text(file: Path) -> bool:
    return file.suffix.lower() == ".txt" and file.name != _NAMES


def _source(path: Path, images: Path, labels: Path, wanted: LoadOptions) -> RawDataset:
    names = _class_names(path)
    files = sorted(visible_files(images))
    pictures = [file for file in files if is_picture(file)]
    texts = {file.relative_to(labels).with_suffix(""): file for file in visible_files(labels) if _is_text(file)}
    of_picture = {picture: texts.get(picture.relative_to(images).with_suffix("")) for picture in pictures}
    if missing := [picture for picture, text in of_picture.items() if text is None]:
        raise InputError(
            f"{labels}: labels of {len(missing)} of {len(pictures)} images are missing, such as of {missing[0].name}; "
            "add them (an empty file where there is no object), or remove the images"
        )
    unused = set(texts.values()) - set(of_picture.values())
    if unused:
        raise InputError(
            f"{images}: images of {len(unused)} labels are missing, such as of {min(unused).name}; add them, or remove "
            "the labels"
        )
    annotations = []
    for picture, text in of_picture.items():
        assert text is not None
        objects, numbers = _objects(text, len(names))
        annotations.append(Annotation(picture, text, objects, numbers))
    source = from_annotations(path, annotations, names, _STYLE, wanted)
    told = left_out(set(files) - set(pictures), "no pictures")
    return replace(source, warnings=(*filter(None, [told]), *source.warnings))


def _objects(file: Path, classes: int) -> tuple[list[AnnotatedObject], list[int]]:
    """Objects with edges as parts of the picture's sides, and the numbers of their lines."""
    objects: list[AnnotatedObject] = []
    numbers = []
    for number, line in enumerate(_lines(file), 1):
        if not line.strip():
            continue
        label, *box = _numbers(line)
        if len(box) != 4 or not label.is_integer():
            raise InputError(
                f"{file}: line {number} is {line.strip()[:60]!r}; a class number, and the box's centre x, y, width and "
                "height are needed"
            )
        if not 0 <= label < classes:
            raise InputError(f"{file}: line {number} has class {label:g}, but there are {classes} from 0; name it")
        x, y, width, height = box
        objects.append((x - width / 2, y - height / 2, x + width / 2, y + height / 2, int(label), False))
        numbers.append(number)
    return objects, numbers


def _numbers(line: str) -> list[float]:
    try:
        return [float(word) for word in line.split()]
    except ValueError:
        return [0.5]  # no class number


def _lines(file: Path) -> list[str]:
    if file.stat().st_size > _LARGEST:
        raise InputError(f"{file}: more than {_LARGEST >> 20} MB of text; replace it")
    try:
        return file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: not a text in UTF-8; save it as one") from error


def _class_names(path: Path) -> tuple[str, ...]:
    for file in (path / _NAMES, path / "labels" / _NAMES):
        if file.is_file():
            lines = [line.strip() for line in _lines(file)]
            while lines and not lines[-1]:
                lines.pop()
            return _checked(file, lines)
    for file in (path / "data.yaml", path / "data.yml"):
        if file.is_file():
            return _checked(file, yaml_names(file, _lines(file)))
    raise InputError(f"{path}: no names of its classes; write them to {_NAMES} in it, one a line")


def _checked(file: Path, names: Sequence[str]) -> tuple[str, ...]:
    if not names or "" in names:
        raise InputError(f"{file}: {'class ' + str(names.index('')) + ' has no' if names else 'no'} name; give it one")
    if len(set(names)) < len(names):
        twice = next(name for k, name in enumerate(names) if name in names[:k])
        raise InputError(f"{file}: two classes are called {twice[:80]}; give each a name of its own")
    return tuple(names)


def yaml_names(file: Path, lines: Sequence[str]) -> list[str]:
    """What stands under ``names``, as a list or by number, in the simple ways of writing it.

    Raises:
        InputError: it is not there, or written in another way.
    """
    start = next((k for k, line in enumerate(lines) if re.match(r"names\s*:", line)), None)
    first, rest = "", lines
    if start is not None:
        first, rest = lines[start].partition(":")[2].strip(), lines[start + 1 :]
    if first.startswith(("[", "{")):
        items = _flow_items(" ".join([first, *rest]))
    else:
        items = [] if re.sub(r"^#.*", "", first) else _block_items(rest)
    values = [_scalar(value) if number in ("", str(k)) else None for k, (number, value) in enumerate(items)]
    names = [value for value in values if value is not None]
    if not names or len(names) < len(items):
        raise InputError(f"{file}: its names can't be read; write them to {_NAMES} beside it, one a line")
    return names


def _block_items(lines: Sequence[str]) -> list[tuple[str, str]]:
    """(number, text) of lines such as ``  - a`` and ``  0: a``, up to the next key."""
    items = []
    for line in lines:
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if line[0] not in " -":
            break
        item = re.fullmatch(r"(?: *-| +(\d+)\s*:)\s+(\S.*)", line)
        items.append((item[1] or "", item[2]) if item else ("?", ""))
    return items


def _flow_items(text: str) -> list[tuple[str, str]]:
    """(number, text) of the items of ``[a, 'b']`` or ``{0: a, 1: b}`` at the start of ``text``."""
    items, quote, start = list[str](), "", 1
    for place, letter in enumerate(text[1:], 1):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter in ",]}":
            items.append(text[start:place].strip())
            start = place + 1
            if letter != ",":
                break
    if text[start - 1] != {"[": "]", "{": "}"}[text[0]]:
        return []
    if items and not items[-1]:  # after a last comma
        items.pop()
    numbered = [re.fullmatch(r"(\d+)\s*:\s+(.*)", item) if text[0] == "{" else None for item in items]
    return [
        (found[1], found[2]) if found else ("" if text[0] == "[" else "?", item)
        for found, item in zip(numbered, items, strict=True)
    ]


def _scalar(text: str) -> str | None:
    """A string that is plain or in quotes; None if it is neither."""
    quoted = re.fullmatch(r"(?:'((?:[^']|'')*)'|\"([^\"\\]*)\")\s*(?:#.*)?", text)
    if quoted:
        return quoted[1].replace("''", "'") if quoted[1] is not None else quoted[2]
    plain = re.sub(r"\s+#.*", "", text)
    return None if not plain or plain[0] in "'\"[]{}&*!|>%@`#?-" or ": " in plain else plain
