"""A data set of pictures with boxes, whichever format tells them."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from advkit.data.box_checks import sound_targets, turned
from advkit.data.canvas import on_canvas
from advkit.data.decoding import SHRINK, check_whole, decode_whole, orientation, read_in_grey, upright_size
from advkit.data.raw_dataset import LoadOptions, RawDataset
from advkit.files.errors import InputError

_KEPT = 2 << 30  # bytes of decoded pixels that are kept

AnnotatedObject = tuple[float, float, float, float, int, bool]  # x0, y0, x1, y1, class, whether it is difficult


@dataclass
class Annotation:
    """The objects of one picture, as a file tells them.

    Attributes:
        picture: the image.
        source: the file that tells them.
        objects: edges of the boxes counted from 0, in pixels of the upright picture.
        numbers: what ``source`` calls each object.
        said: (H, W) of the picture by ``source``; None where it says nothing. Boxes belong to the picture before EXIF
            turns it where that alone agrees.
    """

    picture: Path
    source: Path
    objects: list[AnnotatedObject] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    said: tuple[int, int] | None = None


@dataclass(frozen=True)
class BoxStyle:
    """How a format writes boxes.

    Attributes:
        word: what it calls an object, before its number.
        least: sides no longer than this, in pixels, are degenerate.
        relative: coordinates are parts of the picture's width and height.
    """

    word: str
    least: float = 0.0
    relative: bool = False


def from_annotations(
    path: Path, annotations: Sequence[Annotation], class_names: tuple[str, ...], style: BoxStyle, wanted: LoadOptions
) -> RawDataset:
    """The pictures of ``annotations`` at their own sizes, upright, with the boxes in them; ``path`` is named in errors.

    Raises:
        InputError: none; pictures that can't be read or are too large; boxes without area or beyond their image, unless
            they are to be mended.
    """
    if not annotations:
        raise InputError(f"{path}: no images; give a data set that has some")
    sizes = []
    for annotation in annotations:
        sizes.append(upright_size(annotation.picture))
        check_whole(annotation.picture, sizes[-1], SHRINK)
    per_image = [len(annotation.objects) for annotation in annotations]
    shapes = torch.tensor(sizes)
    boxes = torch.tensor(_on_upright(annotations, sizes), dtype=torch.float64).reshape(-1, 4)
    if style.relative:
        boxes = boxes * shapes.repeat_interleave(torch.tensor(per_image), 0)[:, [1, 0, 1, 0]]
    rest = torch.tensor([found[4:] for annotation in annotations for found in annotation.objects]).reshape(-1, 2)

    def named(which: int) -> str:
        image = bisect.bisect_right(ends, which)
        annotation, number = annotations[image], which - ends[image] + per_image[image]
        return f"{annotation.source.name} {style.word} {annotation.numbers[number]}"

    ends = list(itertools.accumulate(per_image))
    targets, mended = sound_targets(
        path, boxes, rest, per_image, shapes, named, least=style.least, fix=wanted.fix_boxes
    )
    pictures = [annotation.picture for annotation in annotations]
    read = DecodedPictures(pictures, sizes, wanted.channels or 3)
    warnings = (_size_doubts(annotations, sizes), mended, read_in_grey(pictures, read.channels))
    return RawDataset(
        targets,
        class_names,
        (read.channels, *read.canvas),
        read,
        warnings=tuple(filter(None, warnings)),
        task="detection",
        names=tuple(picture.stem for picture in pictures),
    )


def _on_upright(annotations: Sequence[Annotation], sizes: Sequence[tuple[int, int]]) -> list[tuple[float, ...]]:
    """Boxes on the upright pictures, also where an annotation's size says that they were drawn before EXIF's turn."""
    boxes: list[tuple[float, ...]] = []
    for annotation, size in zip(annotations, sizes, strict=True):
        found: list[tuple[float, ...]] = [each[:4] for each in annotation.objects]
        if annotation.said == size[::-1] != size and (turn := orientation(annotation.picture)) > 4:
            found = [turned(each[:4], turn, size) for each in annotation.objects]
        boxes += found
    return boxes


def _size_doubts(annotations: Sequence[Annotation], sizes: Sequence[tuple[int, int]]) -> str | None:
    """One line about annotations whose own size is not the picture's, either way up."""
    wrong = [
        (annotation, size)
        for annotation, size in zip(annotations, sizes, strict=True)
        if annotation.said not in (None, size)
        and not (annotation.said == size[::-1] and orientation(annotation.picture) > 4)
    ]
    if not wrong:
        return None
    (first, (height, width)), said = wrong[0], wrong[0][0].said or (0, 0)
    return (
        f"{len(wrong)} of {len(sizes)} annotations tell another size than their picture's, which counts, such as "
        f"{first.picture.name}: {width}x{height}, not {said[1]}x{said[0]}"
    )


class DecodedPictures:
    """A reader of pictures of many sizes that decodes each once.

    Pixels are kept as they are decoded, in 8 bits, up to 2 GiB. What comes later is decoded each time:
    where not all fits, throwing out old ones would leave an epoch that goes through all of them without any.

    Attributes:
        channels: 1 or 3.
        canvas: (H, W) that holds each.
    """

    def __init__(self, files: Sequence[Path], sizes: Sequence[tuple[int, int]], channels: int) -> None:
        self.channels, self.canvas = channels, (max(size[0] for size in sizes), max(size[1] for size in sizes))
        self._files, self._sizes, self._room = files, sizes, _KEPT
        self._kept: dict[int, Tensor] = {}

    def __call__(self, rows: Tensor) -> Tensor:
        """Images (M, channels, H, W) at ``rows`` (M,), NaN beyond their edges."""
        if not len(rows):
            return torch.empty(0, self.channels, *self.canvas)
        return on_canvas([self._image(row) for row in rows.tolist()], self.canvas)

    def _image(self, row: int) -> Tensor:
        pixels = self._kept.get(row)
        if pixels is None:
            pixels = decode_whole(self._files[row], self.channels)
            if pixels.shape[1:] != self._sizes[row]:
                raise InputError(
                    f"{self._files[row]}: has another size than before; leave data alone while they are read"
                )
            if pixels.nbytes <= self._room:
                self._room -= pixels.nbytes
                self._kept[row] = pixels
        return pixels.float() / 255.0 if pixels.dtype == torch.uint8 else pixels
