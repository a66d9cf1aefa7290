"""One picture of any kind, decoded to a tensor of a given size."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from advkit.data.picture_files import raster_formats
from advkit.files.errors import InputError, is_out_of_memory

_ORIENTATION = 0x0112
_LARGEST = 1 << 26  # pixels of a picture that is kept whole, or scaled up before it is cut
_BIG = 1 << 24  # pixels from which a picture is shrunk by pillow first: as floats it would take 200 MB and more
_STDERR = threading.Lock()
_LOOKED_AT = 50  # pictures, for one in colour
_GREY_MODES = ("1", "L", "LA", "La", "F")  # of pillow, beside those that begin with I
SHRINK = "shrink it, and its boxes"  # where no --size helps


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[Any]:
    """The picture in ``file``; whatever goes wrong with it inside the block is one line."""
    from PIL import Image

    try:
        with warnings.catch_warnings(), contextlib.ExitStack() as stack:
            warnings.simplefilter("ignore")  # about broken EXIF and the like; the pixels are what counts
            image = stack.enter_context(Image.open(file, formats=raster_formats()))
            if image.format == "TIFF":
                stack.enter_context(_silent_stderr())
            yield image
    except InputError:
        raise
    except Exception as error:  # pillow's many decoders raise nearly anything on damaged files
        if is_out_of_memory(error):
            raise InputError(f"{file}: memory ran out as it was decoded; shrink it, or free memory") from error
        why = str(error)[:120] or type(error).__name__
        raise InputError(f"{file}: not an image that can be read ({why}); remove or replace it") from error


@contextlib.contextmanager
def _silent_stderr() -> Iterator[None]:
    """Nothing reaches file descriptor 2: libtiff writes there itself, beside the error that pillow raises."""
    if sys.__stderr__ is None:  # closed from the start; the number may be another file's by now
        yield
        return
    with _STDERR:
        try:
            kept = os.dup(2)
        except OSError:
            yield
            return
        try:
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def upright_size(file: Path) -> tuple[int, int]:
    """(H, W) of a picture once it is turned as its EXIF orientation says.

    Raises:
        InputError: a file that can't be read.
    """
    with _opened(file) as image:
        turned = image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)  # those that swap the sides
        return (image.width, image.height) if turned else (image.height, image.width)


def orientation(file: Path) -> int:
    """EXIF's orientation, 1 to 8; 1 is upright, and what is said where nothing is.

    Raises:
        InputError: a file that can't be read.
    """
    with _opened(file) as image:
        found = image.getexif().get(_ORIENTATION, 1)
    return found if found in range(1, 9) else 1


def read_in_grey(files: Sequence[Path], channels: int) -> str | None:
    """One line where pictures in colour, one among the first of ``files``, are read with 1 of ``channels``.

    Raises:
        InputError: a file that can't be read.
    """
    for file in files[:_LOOKED_AT] if channels == 1 else ():
        with _opened(file) as image:
            if image.mode not in _GREY_MODES and not image.mode.startswith("I"):
                return f"pictures in colour, such as {file.name}, are read in grey, as the model takes them"
    return None


def check_whole(file: Path, size: tuple[int, int], hint: str = "give --size") -> None:
    """Refuse pictures that are asked for whole, at ``size`` (H, W), and would take gigabytes each as floats.

    Args:
        file: named in the message.
        size: of the picture.
        hint: what to do about it.

    Raises:
        InputError: more than 2**26 pixels.
    """
    if size[0] * size[1] > _LARGEST:
        raise InputError(f"{file}: {size[0]}x{size[1]} pixels are too many to take whole; {hint}")


@dataclass(frozen=True)
class Resize:
    """How a picture of another size becomes (H, W): scaled with antialiasing, then cut from the centre.

    Attributes:
        size: (H, W).
        crop_pct: what the cut leaves of the scaled picture's shorter side, in (0, 1].
        interpolation: ``bilinear``, ``bicubic`` or ``nearest``.
    """

    size: tuple[int, int]
    crop_pct: float = 1.0
    interpolation: str = "bilinear"

    @property
    def scaled(self) -> tuple[int, int]:
        """(H, W) that the scaled picture covers before it is cut (as timm and torchvision round it)."""
        return int(self.size[0] / self.crop_pct), int(self.size[1] / self.crop_pct)


def decode(
    file: Path, channels: int, size: tuple[int, int], crop_pct: float = 1.0, interpolation: str = "bilinear"
) -> Tensor:
    """One image, upright, (channels, H, W) float32 in [0, 1]; shorter side resized, then cut from the centre.

    Grey, palette, CMYK, transparent (over white) and 16-bit images are all understood. One of more than 2**24 pixels
    is first averaged down to at least twice the size wanted, which spares gigabytes.

    Raises:
        InputError: a file that can't be decoded, or whose pixels have no meaning as an image.
    """
    resize = Resize(size, crop_pct, interpolation)
    with _opened(file) as image:
        if image.width * image.height > _BIG:
            image = _reduced(image, resize.scaled)
        pixels = _pixels(image, channels, file)
        return resize_and_cut(pixels.float() / 255.0 if pixels.dtype == torch.uint8 else pixels, resize, file)


def decode_whole(file: Path, channels: int) -> Tensor:
    """One picture, upright, at its own size: (channels, h, w) uint8, or float32 in [0, 1] where 8 bits hold too little.

    Raises:
        InputError: as :func:`decode`; more than 2**26 pixels.
    """
    with _opened(file) as image:
        check_whole(file, (image.height, image.width), SHRINK)
        return _pixels(image, channels, file).contiguous()


def _pixels(image: Any, channels: int, file: Path) -> Tensor:
    """Pixels of an opened picture, upright, (channels, h, w): uint8, or float32 in [0, 1] of deep grey ones."""
    from PIL import Image, ImageOps

    if image.getexif().get(_ORIENTATION, 1) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":
        return _deep_grey(image, file).unsqueeze(0).expand(channels, -1, -1)
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    mode = "L" if channels == 1 else "RGB"
    pixels = np.array(image if image.mode == mode else image.convert(mode))
    return torch.from_numpy(pixels.reshape(*pixels.shape[:2], channels)).permute(2, 0, 1)


def _reduced(image: Any, size: tuple[int, int]) -> Any:
    """A big picture averaged over squares of whole pixels, to no less than twice what covers ``size`` either way up."""
    longer = 2 * max(size)
    image.draft(None, (longer * image.width // min(image.size), longer * image.height // min(image.size)))
    image.load()  # a TIFF turns itself upright here
    exif = image.getexif()
    factor = min(image.size) // longer
    if factor < 2:
        return image
    if image.mode.startswith("I;"):  # this and the next can't be averaged as they are
        image = image.convert("I")
    elif image.has_transparency_data and image.mode not in ("RGBA", "LA"):
        image = image.convert("RGBA")
    elif image.mode in ("P", "1"):
        image = image.convert("RGB")
    small = image.reduce(factor)
    small.getexif().update(exif)
    return small


def _deep_grey(image: Any, file: Path) -> Tensor:
    """(H, W) float32 in [0, 1] of a 16-bit or float grey image, which pillow's own conversion would clip."""
    array = torch.from_numpy(np.array(image).astype(np.float32))
    if image.mode.startswith("I"):
        array = array / 65535.0
    low, high = float(array.min()), float(array.max())
    if not (low >= 0.0 and high <= 1.0):
        raise InputError(f"{file}: {image.mode} pixels beyond 16 bits, or floats beyond [0, 1]; convert it to 16 bits")
    return array


def resize_and_cut(image: Tensor, resize: Resize, where: object) -> Tensor:
    """``image`` (C, h, w) in [0, 1] scaled, with antialiasing, and cut; as it is when it has the size already.

    Raises:
        InputError: a picture so thin that it would become a huge one before the cut; ``where`` is named.
    """
    height, width = resize.size
    if tuple(image.shape[1:]) != resize.size:
        over = _cover((image.shape[1], image.shape[2]), resize)
        if over[0] * over[1] > max(_LARGEST, 4 * height * width):
            was = f"{image.shape[1]}x{image.shape[2]}"
            raise InputError(f"{where}: {was} is too thin to be cut to {height}x{width}; remove it")
        image = image.unsqueeze(0)
        image = _scaled(image, over, resize.interpolation)
        top, left = round((over[0] - height) / 2), round((over[1] - width) / 2)
        image = image[0, :, top : top + height, left : left + width]
    return image.clamp(0.0, 1.0).contiguous()


def _scaled(images: Tensor, size: tuple[int, int], interpolation: str) -> Tensor:
    """``images`` (N, C, h, w) of ``size`` (H, W), filtered as pillow does it."""
    scale = torch.nn.functional.interpolate
    if interpolation == "nearest":
        return scale(images, size=size, mode="nearest-exact")
    if (
        interpolation == "bicubic"
    ):  # which overshoots: pillow goes row by row, cuts to [0, 1], and then column by column
        images = scale(images, (images.shape[2], size[1]), mode="bicubic", antialias=True).clamp(0.0, 1.0)
    return scale(images, size=size, mode=interpolation, antialias=True)


def _cover(found: tuple[int, int], resize: Resize) -> tuple[int, int]:
    """(H, W) to which a picture of ``found`` is scaled: for squares as torchvision rounds it, from the shorter side."""
    height, width = resize.scaled
    if height == width:
        longer = int(height * max(found) / min(found))
        return (longer, width) if found[0] > found[1] else (height, longer)
    ratio = max(height / found[0], width / found[1])
    return max(height, round(found[0] * ratio)), max(width, round(found[1] * ratio))
