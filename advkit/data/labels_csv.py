"""A flat folder of pictures with a CSV of labels, as the NIPS 2017 adversarial competition's (Kurakin et al. 2018)."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from advkit.data.file_list import from_files
from advkit.data.picture_files import class_folders, is_picture, left_out, visible_files
from advkit.data.raw_dataset import LoadOptions, RawDataset, Splits
from advkit.files.errors import InputError

_FILES = ("imageid", "filename", "file_name")
_LABELS = ("truelabel", "label")
_AIMS = ("targetclass", "target")
_COMPETITION = "truelabel"  # counts from 1; every other column from 0
_IMAGENET = 1000
_LONGEST = 1 << 20  # characters of a row: beyond, it is no such file
_RENAME = "name the column label if its numbers count from 0, TrueLabel if from 1"


@dataclass(frozen=True)
class _Table:
    """A CSV, column by column; ``counts_from`` 1 where labels are the competition's."""

    path: Path
    names: list[str]
    labels: list[str]
    aims: list[str] | None
    counts_from: int


def splits(path: Path) -> Splits | None:
    """A CSV file, or a directory of pictures (or with them in ``images/``) and one CSV for each split; None otherwise.

    Columns: ``ImageId``, ``filename`` or ``file_name``; ``TrueLabel`` (ImageNet classes from 1) or ``label`` (class
    names, or numbers from 0); ``TargetClass`` or ``target``, the class to aim at, in the label's way of counting.
    Directories with class folders are those' own: name the CSV file itself there.
    """
    if path.is_file():
        if path.suffix.lower() != ".csv":
            return None
        return {"": lambda wanted: _source([_table(path)], 0, wanted)}
    if not path.is_dir() or not is_flat(path):
        return None
    tables = [_table(file) for file in _files(path)]
    if len(tables) == 1:
        return {"": lambda wanted: _source(tables, 0, wanted)}
    return {table.path.stem: lambda wanted, k=k: _source(tables, k, wanted) for k, table in enumerate(tables)}  # type: ignore[misc]


def is_flat(path: Path) -> bool:
    """Whether directory ``path`` has a CSV of labels, and no folders but ``images``."""
    return {folder.name for folder in class_folders(path)} <= {"images"} and bool(_files(path))


def _files(path: Path) -> list[Path]:
    """CSV files of ``path`` with a column of files and one of labels; others (categories.csv) are none of ours."""
    found = [file for file in sorted(path.iterdir()) if file.suffix.lower() == ".csv" and not file.name.startswith(".")]
    return [file for file in found if file.is_file() and all(_columns(_header(file))[:2])]


def _header(file: Path) -> list[str]:
    try:
        with file.open("rb") as stream:
            return next(csv.reader([stream.readline(_LONGEST).decode("utf-8-sig", errors="replace").strip()]), [])
    except (OSError, csv.Error):
        return []


def _columns(header: list[str]) -> list[str | None]:
    """The columns of files, labels and targets as the file spells them, None for those that it lacks."""
    own = {name.strip().lower(): name for name in header}
    return [next((own[name] for name in kind if name in own), None) for kind in (_FILES, _LABELS, _AIMS)]


def _table(file: Path) -> _Table:
    names, labels, aims = _columns(_header(file))
    if names is None or labels is None:
        raise InputError(f"{file}: no columns of files and labels; ImageId,TrueLabel or filename,label are needed")
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{file}: not a CSV in UTF-8 ({str(error)[:120]}); save it as one") from error
    columns = {name: [(row[name] or "").strip() for row in rows] for name in (names, labels, aims) if name is not None}
    for name, values in columns.items():
        if "" in values:
            raise InputError(f"{file}: row {values.index('') + 1} has no {name}; fill it in, or remove the row")
    (twice, times), *_ = Counter(columns[names]).most_common(1) or [("", 0)]
    if times > 1:
        raise InputError(f"{file}: {twice} stands twice; every image needs one row")
    aim_values = columns[aims] if aims is not None else None
    return _Table(file, columns[names], columns[labels], aim_values, int(labels.strip().lower() == _COMPETITION))


def _source(tables: list[_Table], which: int, wanted: LoadOptions) -> RawDataset:
    table = tables[which]
    if not table.names:
        raise InputError(f"{table.path}: no rows; give a data set that has some")
    classes, warnings = _classes(tables)
    numbers = {name: k for k, name in enumerate(classes)}
    targets = _numbered(table.labels, table.counts_from, numbers)
    aims = None if table.aims is None else _numbered(table.aims, table.counts_from, numbers)
    files, others = _pictures(table)
    source = from_files(table.path, files, targets, classes, wanted)
    listed = {name for other in tables for name in other.names}
    others = [file for file in others if not _is_listed(file, listed)]
    told = filter(None, (*warnings, left_out(others, f"not in {table.path.name}"), *source.warnings))
    return replace(source, target_classes=aims, warnings=tuple(told))


def _numbered(values: list[str], counts_from: int, numbers: dict[str, int]) -> Tensor:
    """Class numbers (N,) of ``values``, which are names, or numbers that may have zeros in front."""
    named = not counts_from and all(value in numbers for value in values)
    keys = values if named else [str(int(value) - counts_from) for value in values]
    return torch.tensor([numbers[key] for key in keys], dtype=torch.int64)


def _is_number(value: str) -> bool:
    return value.isascii() and value.isdecimal() and len(value) < 7


def _classes(tables: list[_Table]) -> tuple[tuple[str, ...], list[str]]:
    """Names of the classes of all splits, and what to tell about how their numbers were taken.

    Raises:
        InputError: numbers that may count from 0 or from 1, against what the column's name says.
    """
    ways = {table.counts_from for table in tables}
    if len(ways) > 1:
        raise InputError(f"{tables[0].path}: beside a CSV that counts classes otherwise; {_RENAME}")
    where, from_one = tables[0].path, ways == {1}
    values = [value for table in tables for value in (*table.labels, *(table.aims or ()))]
    if not all(map(_is_number, values)):
        if from_one:
            strange = next(value for value in values if not _is_number(value))
            raise InputError(f"{where}: TrueLabel {strange!r} is no number from 1 to 1000; call the column label")
        if len(set(values)) < 2:
            raise InputError(f"{where}: one class, {values[0]}, and no other; at least two classes are needed")
        return tuple(sorted(set(values))), []
    low, high = min(map(int, values)), max(map(int, values))
    if from_one:
        if low < 1 or high > _IMAGENET:
            raise InputError(
                f"{where}: TrueLabel counts from 1 to 1000, but {low if low < 1 else high} occurs; {_RENAME}"
            )
        sure = "TrueLabel is NIPS 2017's column" + (", and 1000 occurs" if high == _IMAGENET else "")
        return tuple(map(str, range(_IMAGENET))), [f"labels taken to count from 1, as {sure}: 1 is class 0"]
    if high == _IMAGENET and low > 0:
        raise InputError(f"{where}: labels from {low} to 1000 may count from 0 or from 1; {_RENAME}")
    told = [] if low == 0 else [f"labels taken to count from 0, though none is 0; otherwise {_RENAME}"]
    return tuple(map(str, range(high + 1))), told


def _pictures(table: _Table) -> tuple[list[Path], list[Path]]:
    """The picture of each row, and files that no row names. ``ImageId`` leaves out the suffix."""
    roots = [table.path.parent / "images", table.path.parent]
    every = [file for root in roots if root.is_dir() for file in visible_files(root)]
    every = list(dict.fromkeys(file for file in every if file.suffix.lower() != ".csv"))
    by_name: dict[str, Path] = {}
    for file in reversed(every):  # those in images/ count before others
        for root in reversed(roots):
            if file.is_relative_to(root):
                relative = file.relative_to(root)
                by_name[str(relative.with_suffix(""))] = by_name[str(relative)] = file
    missing = [name for name in table.names if name not in by_name]
    if missing:
        raise InputError(
            f"{table.path}: {len(missing)} of its {len(table.names)} pictures are missing, such as {missing[0]}; add "
            "them, or remove their rows"
        )
    files = [by_name[name] for name in table.names]
    used = set(files)
    return files, [file for file in every if file not in used and is_picture(file)]


def _is_listed(file: Path, names: set[str]) -> bool:
    return file.name in names or file.stem in names
