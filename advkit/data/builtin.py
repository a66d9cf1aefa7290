"""Data that ships with the package."""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources

import numpy as np
import torch

from advkit.data.images import array_reader
from advkit.data.raw_dataset import LoadOptions, RawDataset, Splits, match_channels

_TRAIN = 1297


def digits() -> Splits:
    """Real scans of handwritten digits, 8x8 grey.

    The test part of the UCI optical digits (Alpaydin and Kaynak 1998, CC BY 4.0): 1,797 scans by 13 writers who are
    not in UCI's training part. The first 1,297 are ``train``, the last 500 ``test``. Their 17 grey values are stored
    on the 8-bit scale, ``round(255 v / 16)``, so that a picture file holds them without loss.
    """
    return {
        "train": lambda wanted: _digits(slice(0, _TRAIN), wanted),
        "test": lambda wanted: _digits(slice(_TRAIN, None), wanted),
    }


def _digits(part: slice, wanted: LoadOptions) -> RawDataset:
    with resources.files("advkit.data").joinpath("digits.npz").open("rb") as file, np.load(file) as arrays:
        pixels, labels = (torch.from_numpy(arrays[name][part]) for name in ("images", "labels"))
    images = pixels.unsqueeze(1)
    names = tuple(str(k) for k in range(10))
    source = RawDataset(labels.long(), names, (1, 8, 8), array_reader(lambda p: images[p], 255.0))
    return match_channels(source, wanted, "digits")


def _scenes(name: str) -> Callable[[], Splits]:
    """Opens the scenes ``name``; what draws them (pillow) is imported only then."""

    def opened() -> Splits:
        from advkit.data.scenes import SCENES

        return SCENES[name]()

    return opened


_DOMAINS = ("photo", "fog", "watercolor", "clipart", "sketch")
_SCENES = [*(f"scenes/{domain}" for domain in _DOMAINS), *(f"scenes/{domain}/crops" for domain in _DOMAINS)]
BUILT_IN: dict[str, Callable[[], Splits]] = {"digits": digits, **{name: _scenes(name) for name in _SCENES}}
