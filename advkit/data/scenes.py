"""Built-in detection data: little scenes, made from a seed, in five domains that differ in appearance alone.

Image i of a split shows the same objects at the same places in every domain; it is a pure function of the domain, the
split and i. The domains lead away from photographs step by step: ``photo``, ``fog`` (the same pictures in haze),
``watercolor``, ``clipart`` and ``sketch``. All of it is synthetic.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from advkit.data.boxes import COLUMNS, objects, stacked
from advkit.data.counter_rng import stream, uniform
from advkit.data.images import array_reader
from advkit.data.raw_dataset import LoadOptions, RawDataset, Splits, match_channels
from advkit.data.scenes_drawn import clipart, sketch, watercolor
from advkit.data.scenes_layout import CLASSES, NUMBERS, OVER, SIDE, Scene, scene
from advkit.data.scenes_photo import Bytes, fog, photo

DOMAINS: dict[str, Callable[[Scene, Bytes], Bytes]] = {
    "photo": photo,
    "fog": fog,
    "watercolor": watercolor,
    "clipart": clipart,
    "sketch": sketch,
}
SIZES = {"train": 1000, "test": 500}
_HANDS = {"photo": "camera", "fog": "camera"}  # the two are the same pictures, down to the noise
_SEED = 1
_AT_ONCE = 16  # images whose random numbers are drawn together; small enough for the cache of a processor
_CROP, _MARGIN = 32, 1.2  # pixels of a crop's side; how much larger it is than the object's longer side


def _scenes(split: str, rows: Tensor) -> Iterator[Scene]:
    for start in range(0, len(rows), _AT_ONCE):
        part = rows[start : start + _AT_ONCE]
        for numbers in uniform(_SEED, part, stream(f"scenes layout {split}"), NUMBERS).tolist():
            yield scene(numbers)


def _noise(hand: str, split: str, rows: Tensor) -> Iterator[Bytes]:
    """(3, SIDE, SIDE) random bytes for each of ``rows``."""
    for start in range(0, len(rows), _AT_ONCE):
        part = rows[start : start + _AT_ONCE]
        drawn = uniform(_SEED, part, stream(f"scenes {hand} {split}"), SIDE * SIDE)
        words = (drawn * 2.0**24).to(torch.int32).numpy().astype("<i4")  # 24 bits in each
        pixels = words.view(np.uint8).reshape(len(part), SIDE, SIDE, 4)
        yield from np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)[:, :3])


def pictures(domain: str, split: str, rows: Tensor) -> Tensor:
    """Images ``rows`` (M,) int64 of a split in a domain: (M, 3, 128, 128) uint8."""
    drawn = [
        DOMAINS[domain](one, noise)
        for one, noise in zip(_scenes(split, rows), _noise(_HANDS.get(domain, domain), split, rows), strict=True)
    ]
    if not drawn:
        return torch.empty(0, 3, SIDE, SIDE, dtype=torch.uint8)
    return torch.from_numpy(np.stack(drawn))


def drawn_boxes(split: str, rows: Tensor) -> Tensor:
    """(M, B, 6): the boxes of the scenes ``rows`` (M,) of a split, the same in every domain."""
    return stacked([torch.tensor(one.boxes).reshape(-1, COLUMNS) for one in _scenes(split, rows)])


@functools.cache
def _targets(split: str) -> Tensor:
    """(N, B, 6): what :func:`drawn_boxes` gives for a whole split, from a file: all scenes take seconds to lay out."""
    with resources.files("advkit.data").joinpath("scenes_boxes.npz").open("rb") as file, np.load(file) as arrays:
        targets = torch.from_numpy(arrays[split]).float()
    targets[..., :4] /= OVER
    return targets


def write_boxes(path: Path) -> None:
    """Write that file; coordinates are counted in points of the map, ``OVER`` for each pixel, as int16."""
    arrays = {}
    for split, size in SIZES.items():
        targets = drawn_boxes(split, torch.arange(size))
        targets[..., :4] *= OVER
        arrays[split] = targets.short().numpy()
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]


def _kept(domain: str, split: str) -> Callable[[Tensor], Tensor]:
    """Like :func:`pictures`, but each image is drawn once and kept."""
    store = torch.empty(SIZES[split], 3, SIDE, SIDE, dtype=torch.uint8)
    there = torch.zeros(SIZES[split], dtype=torch.bool)

    def read(rows: Tensor) -> Tensor:
        new = torch.tensor([row for row in dict.fromkeys(rows.tolist()) if not there[row]], dtype=torch.int64)
        store[new] = pictures(domain, split, new)
        there[new] = True
        return store[rows]

    return read


def splits(domain: str) -> Splits:
    """Detection: 1,000 images for ``train`` and 500 for ``test``, 128 x 128 in colour, 1 to 5 objects in each."""

    def load(split: str, wanted: LoadOptions) -> RawDataset:
        read = array_reader(_kept(domain, split), 255.0)
        source = RawDataset(_targets(split).clone(), CLASSES, (3, SIDE, SIDE), read, task="detection")
        return match_channels(source, wanted, f"scenes/{domain}")

    return {split: functools.partial(load, split) for split in SIZES}


def crops(domain: str) -> Splits:
    """Classification: a square about each object that is not difficult, scaled to 32 x 32 or as wanted."""

    def load(split: str, wanted: LoadOptions) -> RawDataset:
        found = [(row, box) for row, boxes in enumerate(_targets(split)) for box in objects(boxes).tolist()]
        owner = torch.tensor([row for row, _ in found])
        squares = [_square(box) for _, box in found]
        size = wanted.size or (_CROP, _CROP)
        whole = _kept(domain, split)

        def read(rows: Tensor) -> Tensor:
            pairs = zip(whole(owner[rows]), rows.tolist(), strict=True)
            cut = [_cut(image, squares[row], size) for image, row in pairs]
            return torch.stack(cut) if cut else torch.empty(0, 3, *size, dtype=torch.uint8)

        labels = torch.tensor([int(box[4]) for _, box in found])
        source = RawDataset(labels, CLASSES, (3, *size), array_reader(read, 255.0))
        return match_channels(source, wanted, f"scenes/{domain}/crops")

    return {split: functools.partial(load, split) for split in SIZES}


def _square(box: Sequence[float]) -> tuple[float, float, float, float]:
    """A square about a box (x0, y0, x1, y1, ...), pushed into the picture where it reaches out."""
    x0, y0, x1, y1 = box[:4]
    side = min(float(SIDE), _MARGIN * max(x1 - x0, y1 - y0))
    left, top = ((a + b - side) / 2 for a, b in ((x0, x1), (y0, y1)))
    left, top = (min(max(0.0, edge), SIDE - side) for edge in (left, top))
    return left, top, left + side, top + side


def _cut(image: Tensor, square: tuple[float, float, float, float], size: tuple[int, int]) -> Tensor:
    """What ``square`` holds of an image (3, SIDE, SIDE), as (3, *size)."""
    whole: Any = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    cut = whole.resize(size[::-1], Image.Resampling.BILINEAR, box=square)
    return torch.from_numpy(np.array(cut)).permute(2, 0, 1)


SCENES: dict[str, Callable[[], Splits]] = {
    **{f"scenes/{domain}": functools.partial(splits, domain) for domain in DOMAINS},
    **{f"scenes/{domain}/crops": functools.partial(crops, domain) for domain in DOMAINS},
}
