"""ImageFolder: one directory per class, any image that pillow reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from advkit.data.source import Source, Splits, Wanted
from advkit.files.errors import InputError

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"})
_SPLITS = ("train", "test", "val", "valid", "validation")


def splits(path: Path) -> Splits | None:
    """Splits of a directory of class directories, or of ``train``, ``test``, ``val`` over them; None if it is none."""
    if not path.is_dir():
        return None
    inside = {child.name: child for child in sorted(path.iterdir()) if child.is_dir()}
    named = {name: child for name, child in inside.items() if name in _SPLITS and _classes(child)}
    if named:
        return {name: lambda wanted, child=child: _source(child, wanted) for name, child in named.items()}  # type: ignore[misc]
    return {"": lambda wanted: _source(path, wanted)} if _classes(path) else None


def _classes(path: Path) -> list[Path]:
    """Class directories, in order; an empty one keeps its number as long as another has pictures."""
    found = [child for child in sorted(path.iterdir()) if child.is_dir() and not child.name.startswith((".", "__"))]
    return found if any(_files(child) for child in found) else []


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.suffix.lower() in EXTENSIONS and file.is_file())


def _source(path: Path, wanted: Wanted) -> Source:
    classes = _classes(path)
    files = [(file, label) for label, folder in enumerate(classes) for file in _files(folder)]
    channels = wanted.channels or 3
    size = wanted.size or _common_size(path, [file for file, _ in files])

    def read(rows: Tensor) -> Tensor:
        images = [decode(files[row][0], channels, size) for row in rows.tolist()]
        return torch.stack(images) if images else torch.empty(0, channels, *size)

    labels = torch.tensor([label for _, label in files], dtype=torch.int64)
    return Source(labels, tuple(folder.name for folder in classes), (channels, *size), read)


def _common_size(path: Path, files: list[Path]) -> tuple[int, int]:
    sizes = set()
    for file in files:
        with _open(file) as image:
            sizes.add((image.height, image.width) if not _turned(image) else (image.width, image.height))
        if len(sizes) > 1:
            found = ", ".join(f"{h}x{w}" for h, w in sorted(sizes))
            raise InputError(f"{path}: images differ in size ({found}, …); say which to use with --size")
    return sizes.pop()


def _turned(image: Any) -> bool:
    return image.getexif().get(0x0112, 1) in (5, 6, 7, 8)  # orientations that swap the sides


def _open(file: Path) -> Any:
    from PIL import Image

    try:
        return Image.open(file)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{file}: not an image that can be read ({error}); remove or replace it") from error


def decode(file: Path, channels: int, size: tuple[int, int]) -> Tensor:
    """One image, upright, (channels, H, W) float32 in [0, 1]; shorter side resized, then cut from the centre.

    Grey, palette, CMYK, transparent (over white) and 16-bit images are all understood.

    Raises:
        InputError: a file that can't be decoded.
    """
    from PIL import Image, ImageOps

    with _open(file) as opened:
        try:
            image = ImageOps.exif_transpose(opened)
            grey = _deep_grey(image)
            if grey is None:
                if image.has_transparency_data:
                    image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
                image = image.convert("L" if channels == 1 else "RGB")
                array = torch.from_numpy(np.array(image))
                array = (array.unsqueeze(0) if array.ndim == 2 else array.permute(2, 0, 1)).float() / 255.0
            else:
                array = grey.unsqueeze(0).expand(channels, -1, -1)
        except (OSError, ValueError, SyntaxError, EOFError, MemoryError, Image.DecompressionBombError) as error:
            raise InputError(f"{file}: damaged image ({error}); remove or replace it") from error
    return resized(array, size)


def _deep_grey(image: Any) -> Tensor | None:
    """(H, W) float32 in [0, 1] of a 16-bit (or float) grey image, which pillow's own conversion would clip."""
    if not (image.mode.startswith("I") or image.mode == "F"):
        return None
    array = torch.from_numpy(np.array(image).astype(np.float32))
    return array / 65535.0 if image.mode.startswith("I") else array.clamp(0.0, 1.0)


def resized(image: Tensor, size: tuple[int, int]) -> Tensor:
    """``image`` (C, h, w) scaled, with antialiasing, to cover ``size`` and cut from the centre."""
    height, width = size
    if tuple(image.shape[1:]) != size:
        ratio = max(height / image.shape[1], width / image.shape[2])
        over = (max(height, round(image.shape[1] * ratio)), max(width, round(image.shape[2] * ratio)))
        image = torch.nn.functional.interpolate(
            image.unsqueeze(0), size=over, mode="bilinear", antialias=True, align_corners=False
        ).squeeze(0)
        top, left = (image.shape[1] - height) // 2, (image.shape[2] - width) // 2
        image = image[:, top : top + height, left : left + width]
    return image.clamp(0.0, 1.0).contiguous()
