"""DATA references: what a command line may say to name a set of images."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Literal

import torch

from advkit.data import arrays, cifar, fetched, folder, idx
from advkit.data.builtin import BUILT_IN
from advkit.data.images import ImageSet
from advkit.data.sampling import stratified
from advkit.data.source import Splits, Wanted
from advkit.files.errors import InputError

# Each takes a path and returns its splits, or None when the content is of another kind.
FORMATS = {
    "cifar-binary": cifar.binary,
    "cifar-python": cifar.python,
    "mnist-idx": idx.splits,
    "npz": arrays.npz,
    "safetensors": arrays.safetensors,
    "image-folder": folder.splits,
}


def load(
    ref: str,
    *,
    role: Literal["train", "test"] = "test",
    limit: int | None = None,
    seed: int = 0,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    download: bool = False,
) -> ImageSet:
    """The images that ``ref`` names.

    Args:
        ref: a built-in name, ``NAME:DIR`` of a torchvision set, or a path whose kind its content tells; a suffix
            ``#SPLIT`` chooses a split.
        role: the split to take when ``ref`` names none and there are several.
        limit: take a class-stratified sample of that many images.
        seed: of the sample.
        size: (H, W) to which pictures in folders are resized and cut; arrays stay as they are.
        channels: 1 or 3; grey arrays are repeated.
        download: let torchvision fetch a missing set.

    Raises:
        InputError: nothing there, nothing recognised, several kinds or splits to choose from, damaged files.
    """
    base, _, split = ref.partition("#") if not Path(ref).exists() else (ref, "", "")
    splits = _splits(base, download)
    chosen = _choose(ref, splits, split, role)
    source = splits[chosen](Wanted(size, channels))
    count = len(source.labels)
    if count == 0:
        raise InputError(f"{ref}: no images; give a data set that has some")
    if limit is not None and limit < 1:
        raise InputError(f"--limit {limit}: at least one image is needed")
    rows = torch.arange(count) if limit is None else stratified(source.labels, limit, seed)
    indices = rows if source.indices is None else source.indices[rows]
    return ImageSet(base, chosen, source.class_names, source.size, source.labels[rows], indices, rows, source.read)


def _splits(base: str, download: bool) -> Splits:
    if base in BUILT_IN:
        return BUILT_IN[base]()
    name, colon, root = base.partition(":")
    if colon and name in fetched.NAMES:
        return fetched.splits(name, root, download)
    path = Path(base)
    if not path.exists():
        near = difflib.get_close_matches(base, [*BUILT_IN, *fetched.NAMES], n=1)
        hint = f"did you mean {near[0]}?" if near else f"built in: {', '.join(BUILT_IN)}; by name: NAME:DIR"
        raise InputError(f"{base}: no such data; {hint}")
    try:
        found = {kind: splits for kind, recognise in FORMATS.items() if (splits := recognise(path))}
    except OSError as error:
        raise InputError(f"{base}: cannot read: {error.strerror or error}") from error
    if not found:
        raise InputError(f"{base}: no kind of image data known here: {', '.join(FORMATS)}")
    if len(found) > 1:
        raise InputError(f"{base}: could be {' or '.join(found)}; give each a directory of its own")
    return next(iter(found.values()))


def _choose(ref: str, splits: Splits, split: str, role: str) -> str:
    if split:
        if split in splits:
            return split
        have = ", ".join(f"#{name}" for name in splits if name) or "none"
        raise InputError(f"{ref}: no split {split!r}; it has {have}")
    if role in splits:
        return role
    if len(splits) == 1:
        return next(iter(splits))
    have = ", ".join(f"{ref}#{name}" for name in splits)
    raise InputError(f"{ref}: several splits; say which: {have}")
