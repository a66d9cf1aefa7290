"""Images with labels, or with boxes of objects, in a .safetensors file, which is what ``attack`` writes."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor

from advkit.data.images import array_reader, images_per_read
from advkit.data.raw_dataset import (
    IMAGES,
    LABELS,
    LoadOptions,
    RawDataset,
    Splits,
    as_labels,
    match_channels,
    names_for,
    scale_of,
)
from advkit.data.safetensors_boxes import read_boxes, read_sizes, within_sizes
from advkit.files.errors import InputError
from advkit.files.tensors import METADATA_KEY, Header, LazyTensor, open_tensor, read_header


def splits(path: Path) -> Splits | None:
    """One .safetensors file with images and labels; None if it is none."""
    if path.is_file() and path.suffix == ".safetensors":
        return {"": lambda wanted: _source(path, wanted)}
    return None


def image_splits(path: Path) -> Splits | None:
    """The same without labels and boxes, which may be missing or wrong; ``sizes`` say where images end."""
    if path.is_file() and path.suffix == ".safetensors":
        return {"": lambda wanted: _images(path, wanted)}
    return None


def _images(path: Path, wanted: LoadOptions) -> RawDataset:
    header, _ = read_header(path)
    name = next((name for name in IMAGES if name in header), None)
    if name is None:
        raise InputError(f"{path}: holds {', '.join(sorted(header)[:8]) or 'nothing'}; a tensor images is needed")
    rows = open_tensor(path, name)
    if len(rows.shape) != 4 or rows.shape[1] not in (1, 3) or 0 in rows.shape[2:]:
        raise InputError(f"{path}: images have shape {list(rows.shape)}; (N, 1 or 3, H, W) is needed")
    size = (rows.shape[1], rows.shape[2], rows.shape[3])
    read = array_reader(rows.at, _checked_scale(path, rows))
    if "sizes" in header:
        read = within_sizes(read, read_sizes(path, header, len(rows), (size[1], size[2])))
    nothing = torch.zeros(len(rows), dtype=torch.int64)
    return match_channels(RawDataset(nothing, (), size, read, _indices(path, header, len(rows))), wanted, path)


def _source(path: Path, wanted: LoadOptions) -> RawDataset:
    header, metadata = read_header(path)
    names = [next((name for name in kind if name in header), None) for kind in (IMAGES, LABELS)]
    if names[0] is None or names[1] is None:
        have = ", ".join(sorted(header)[:8]) or "nothing"
        raise InputError(f"{path}: holds {have}; it is no data set: tensors images and labels are needed")
    rows, label_rows = open_tensor(path, names[0]), open_tensor(path, names[1])
    if len(rows.shape) != 4 or rows.shape[1] not in (1, 3) or 0 in rows.shape[2:]:
        raise InputError(f"{path}: images have shape {list(rows.shape)}; (N, 1 or 3, H, W) is needed")
    size, indices = (rows.shape[1], rows.shape[2], rows.shape[3]), _indices(path, header, len(rows))
    read = array_reader(rows.at, _checked_scale(path, rows))
    if "boxes" in header:
        found = read_boxes(path, header, _class_names(metadata), len(rows), (size[1], size[2]), fix=wanted.fix_boxes)
        source = RawDataset(
            found.targets,
            found.class_names,
            size,
            found.within_sizes(read),
            indices,
            warnings=found.warnings,
            task="detection",
        )
    else:
        labels = as_labels(label_rows.rows(0, len(label_rows)), len(rows), path)
        source = RawDataset(labels, _class_names(metadata) or names_for(labels, path), size, read, indices)
    return match_channels(source, wanted, path)


def _checked_scale(path: Path, rows: LazyTensor) -> float:
    """What to divide pixels by; every float is looked at once, a few megabytes at a time."""
    scale, step = 1.0, images_per_read((rows.shape[1], rows.shape[2], rows.shape[3]))
    for start in range(0, len(rows), step):
        scale = scale_of(rows.rows(start, start + step), path)
        if scale != 1.0:
            break  # bytes can't be out of range
    return scale


def _class_names(metadata: dict[str, str]) -> tuple[str, ...]:
    try:
        names = json.loads(metadata.get(METADATA_KEY, "{}")).get("class_names", [])
        return tuple(map(str, names)) if isinstance(names, list) else ()
    except (ValueError, AttributeError, RecursionError):
        return ()


def _indices(path: Path, header: Header, count: int) -> Tensor | None:
    if "index" not in header:
        return None
    rows = open_tensor(path, "index")
    found = as_labels(rows.rows(0, len(rows)), count, f"{path} (index)")
    if count and int(found.min()) < 0:
        raise InputError(f"{path}: index {int(found.min())}; positions in the set it was made from are needed")
    if len(set(found.tolist())) != len(found):
        raise InputError(f"{path}: an index stands twice; every image needs its own")
    return found
