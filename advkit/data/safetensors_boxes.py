"""Boxes in a .safetensors file: what stands beside its images where they have objects."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from advkit.data.box_checks import sound_targets
from advkit.data.canvas import NOWHERE
from advkit.data.images import Reader
from advkit.data.raw_dataset import names_for
from advkit.files.errors import InputError
from advkit.files.tensors import Header, open_tensor


@dataclass(frozen=True)
class BoxTensors:
    """The objects of N images of one file.

    Attributes:
        targets: (N, B, 6).
        class_names: K names.
        sizes: (N, 2) height and width of each image on its canvas.
        warnings: what was mended.
    """

    targets: Tensor
    class_names: tuple[str, ...]
    sizes: Tensor
    warnings: tuple[str, ...]

    def within_sizes(self, read: Reader) -> Reader:
        """``read`` with NaN where an image has no pixel, whatever the file holds there."""
        return within_sizes(read, self.sizes)


def within_sizes(read: Reader, sizes: Tensor) -> Reader:
    """``read`` with NaN beyond the ``sizes`` (N, 2) of the images."""

    def within(rows: Tensor) -> Tensor:
        images = read(rows)
        height, width = sizes[rows].view(-1, 2, 1, 1).unbind(1)
        below = torch.arange(images.shape[2])[:, None] >= height
        right = torch.arange(images.shape[3]) >= width
        return images.masked_fill_((below | right)[:, None], NOWHERE)

    return within


def read_sizes(path: Path, header: Header, count: int, canvas: tuple[int, int]) -> Tensor:
    """``sizes`` (N, 2) alone, those of the canvas (H, W) where the file has none.

    Raises:
        InputError: not one for each of ``count`` images, or sizes beyond the canvas.
    """
    if "sizes" not in header:
        return torch.tensor([canvas]).expand(count, 2)
    sizes = _whole(path, "sizes", _tensor(path, "sizes"))
    if tuple(sizes.shape) != (count, 2):
        raise InputError(f"{path}: sizes {list(sizes.shape)} beside {count} images; (N, 2) are needed")
    _check_sizes(path, sizes, canvas)
    return sizes


def _check_sizes(path: Path, sizes: Tensor, canvas: tuple[int, int]) -> None:
    if ((sizes < 1) | (sizes > torch.tensor(canvas))).any():
        raise InputError(f"{path}: sizes are of 1 pixel to the {canvas[0]}x{canvas[1]} of images; write them again")


def read_boxes(
    path: Path, header: Header, class_names: tuple[str, ...], count: int, canvas: tuple[int, int], *, fix: bool
) -> BoxTensors:
    """``boxes`` (N, B, 4), ``labels`` (N, B) with -1 for none; maybe ``difficult`` (N, B), ``sizes`` (N, 2).

    Args:
        path: the file.
        header: of it.
        class_names: as the file says; numbers where it says nothing.
        count: N.
        canvas: (H, W) of the images.
        fix: mend wrong boxes.

    Raises:
        InputError: tensors that do not go together; sizes beyond the canvas; classes without a name; wrong boxes.
    """
    boxes = _tensor(path, "boxes").double()
    labels = _whole(path, "labels", _tensor(path, "labels"))
    shape = boxes.shape[:2]
    difficult = _whole(path, "difficult", _tensor(path, "difficult") if "difficult" in header else torch.zeros(shape))
    sizes = _tensor(path, "sizes") if "sizes" in header else torch.tensor([canvas]).expand(count, 2)
    sizes = _whole(path, "sizes", sizes)
    found = {"boxes": boxes, "labels": labels, "difficult": difficult, "sizes": sizes}
    wanted = {"boxes": (count, *shape[1:], 4), "labels": shape, "difficult": shape, "sizes": (count, 2)}
    for name, tensor in found.items():
        if tuple(tensor.shape) != tuple(wanted[name]):
            raise InputError(
                f"{path}: {name} {list(tensor.shape)} beside {count} images and boxes {list(boxes.shape)}; boxes "
                "(N, B, 4), labels and difficult (N, B) and sizes (N, 2) are needed"
            )
    _check_sizes(path, sizes, canvas)
    if ((difficult != 0) & (difficult != 1)).any():
        raise InputError(f"{path}: difficult is 0 or 1; write it again")
    if 0 in shape:
        raise InputError(
            f"{path}: boxes {list(boxes.shape)}, but at least one image and one box (maybe of label -1) are needed"
        )
    there = labels >= 0
    if not there.any() and not class_names:
        raise InputError(f"{path}: no objects, and no names of classes; give a data set that has some")
    names = class_names or names_for(labels[there], path)
    if int(labels.min()) < -1 or int(labels.max()) >= len(names):
        wrong = int(labels.min()) if int(labels.min()) < -1 else int(labels.max())
        raise InputError(f"{path}: label {wrong}, but there are {len(names)} classes from 0, and -1 for no object")
    rest = torch.stack([labels[there], difficult[there]], 1)
    places = there.nonzero().tolist()
    targets, told = sound_targets(
        path,
        boxes[there],
        rest,
        there.sum(1).tolist(),
        sizes,
        lambda which: f"image {places[which][0]} box {places[which][1]}",
        fix=fix,
    )
    return BoxTensors(targets, names, sizes, (told,) if told else ())


def _tensor(path: Path, name: str) -> Tensor:
    rows = open_tensor(path, name)
    return rows.rows(0, len(rows))


def _whole(path: Path, name: str, tensor: Tensor) -> Tensor:
    if tensor.is_floating_point() and not torch.equal(tensor, tensor.round()):
        raise InputError(f"{path}: {name} are {tensor.dtype} with fractions; integers are needed")
    return tensor.long()
