"""Sets by name through torchvision's own classes, which also download them."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from advkit.data.images import array_reader
from advkit.data.raw_dataset import LoadOptions, RawDataset, Splits, as_images, as_labels, match_channels
from advkit.files.errors import InputError, is_out_of_memory

# name: (torchvision class, arguments that choose train and test)
_SETS: dict[str, tuple[str, dict[str, dict[str, Any]]]] = {
    "cifar10": ("CIFAR10", {"train": {"train": True}, "test": {"train": False}}),
    "cifar100": ("CIFAR100", {"train": {"train": True}, "test": {"train": False}}),
    "mnist": ("MNIST", {"train": {"train": True}, "test": {"train": False}}),
    "fashion-mnist": ("FashionMNIST", {"train": {"train": True}, "test": {"train": False}}),
    "usps": ("USPS", {"train": {"train": True}, "test": {"train": False}}),
    "svhn": ("SVHN", {"train": {"split": "train"}, "test": {"split": "test"}}),
}
NAMES = tuple(_SETS)


def splits(name: str, root: str, download: bool) -> Splits:
    """Both splits of ``name`` under ``root``."""
    _, choices = _SETS[name]
    return {split: _opener(name, root, split, download) for split in choices}


def _opener(name: str, root: str, split: str, download: bool) -> Callable[[LoadOptions], RawDataset]:
    return lambda wanted: _source(name, root, split, download, wanted)


def _source(name: str, root: str, split: str, download: bool, wanted: LoadOptions) -> RawDataset:
    import torchvision

    class_name, choices = _SETS[name]
    where = f"{name}:{root}"
    if not root:
        raise InputError(f"{where}: no directory; write {name}:DIR")
    try:
        with contextlib.redirect_stdout(sys.stderr):  # older torchvision prints; stdout is for the report
            opened = getattr(torchvision.datasets, class_name)(root, download=download, **choices[split])
    except Exception as error:  # missing, damaged, no network, no scipy: torchvision raises anything
        if is_out_of_memory(error):
            raise InputError(f"{where}: memory ran out as it was read; free memory") from error
        hint = "add --download to fetch it" if not download else "check the network and the directory"
        raise InputError(f"{where}: cannot be opened ({error}); {hint}") from error
    pixels = torch.as_tensor(np.asarray(opened.data))
    labels = torch.as_tensor(np.asarray(opened.labels if name == "svhn" else opened.targets))
    images, scale = as_images(pixels, where)
    found = as_labels(labels, len(images), where)
    names = tuple(getattr(opened, "classes", None) or [str(k) for k in range(10)])
    size = (images.shape[1], images.shape[2], images.shape[3])
    return match_channels(RawDataset(found, names, size, array_reader(lambda p: images[p], scale)), wanted, where)
