"""Which files are pictures: raster formats alone, by suffix, or by content where a suffix says nothing."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

# Plain raster formats. No others: PostScript and metafiles are programs, which pillow hands to Ghostscript or Windows.
_RASTER = (
    *("PNG", "JPEG", "WEBP", "BMP", "DIB", "GIF", "TIFF", "PPM", "AVIF", "JPEG2000"),
    *("ICO", "PCX", "QOI", "SGI", "TGA"),
)
_SYSTEM = frozenset({"thumbs.db", "desktop.ini"})  # what Windows leaves in any folder, hidden there


@cache
def raster_formats() -> tuple[str, ...]:
    """Pillow's names of the formats that are read here, as far as the installed pillow knows them."""
    from PIL import Image

    Image.init()
    return tuple(name for name in _RASTER if name in Image.OPEN)


@cache
def _suffixes() -> frozenset[str]:
    known = {*raster_formats(), "MPO"}  # MPO: JPEG's own reader opens it
    from PIL import Image

    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in known)


def is_hidden(name: str) -> bool:
    """Names with a dot or two underscores in front are other programs' (``.ipynb_checkpoints``, ``__MACOSX``)."""
    return name.startswith((".", "__"))


def class_folders(path: Path) -> list[Path]:
    """Directories right under ``path`` that are not hidden, sorted by name."""
    return [child for child in sorted(path.iterdir()) if child.is_dir() and not is_hidden(child.name)]


def visible_files(folder: Path) -> Iterator[Path]:
    """Files anywhere under ``folder``, but for hidden ones, those in hidden folders, and links to nowhere."""
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not is_hidden(name)]
        here = Path(place)
        for name in names:
            if not name.startswith(".") and name.lower() not in _SYSTEM and (here / name).is_file():
                yield here / name


def is_picture(file: Path) -> bool:
    """Whether ``file`` is a picture by its suffix, or by its content when its suffix is none of a picture's."""
    return file.suffix.lower() in _suffixes() or _looks_like_one(file)


def _looks_like_one(file: Path) -> bool:
    from PIL import Image

    try:
        with Image.open(file, formats=[name for name in raster_formats() if name != "TGA"]):  # TGA has no magic
            return True
    except Exception:  # not a picture: pillow's readers raise nearly anything
        return False


def left_out(files: Iterable[Path], why: str) -> str | None:
    """One line about ``files`` that are not read; None when there are none."""
    names = sorted(file.name for file in files)
    if not names:
        return None
    shown = names[0].encode(errors="backslashreplace").decode()
    return f"{len(names)} file{'s' if len(names) > 1 else ''} skipped, {why}, such as {shown[:80]}"
