"""A folder of PNG files, one directory per class: what any image tool reads."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from torch import Tensor

from advkit.files.atomic import unwritable
from advkit.files.errors import InputError


@contextlib.contextmanager
def image_folder(
    path: Path, class_names: Sequence[str], *, force: bool
) -> Iterator[Callable[[Tensor, Tensor, Tensor], None]]:
    """Yield ``save(images, labels, indices)``; the folder appears at ``path`` when the block ends well.

    ``images`` are (N, C, H, W) uint8. Every class gets its directory, with images or without, so that class numbers
    survive reading.

    Raises:
        InputError: something stands at ``path`` and ``force`` is off; a folder with anything else in it than such
            pictures, whatever ``force`` says; the disk is full or can't be written.
    """
    from PIL import Image

    if path.exists() and not force and not (path.is_dir() and not any(path.iterdir())):
        raise InputError(f"{path}: exists; choose another name or --force")
    foreign = _foreign(path)
    if foreign is not None:
        raise InputError(f"{path}: holds {foreign.name}, which attack did not write; choose another name")
    try:
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as temporary:
            folder = Path(temporary) / "pictures"
            for name in class_names:
                (folder / name).mkdir(parents=True)

            def save(images: Tensor, labels: Tensor, indices: Tensor) -> None:
                for image, label, index in zip(images, labels.tolist(), indices.tolist(), strict=True):
                    pixels = image.squeeze(0).numpy() if image.shape[0] == 1 else image.permute(1, 2, 0).numpy()
                    Image.fromarray(pixels).save(folder / class_names[label] / f"{index:06}.png")

            yield save
            if path.exists():
                path.rename(Path(temporary) / "old")  # deleted with the rest, once the new one stands
            folder.rename(path)
    except OSError as error:
        raise unwritable(path, error) from error


def _foreign(path: Path) -> Path | None:
    """Something under ``path`` that is no class directory of numbered pictures; None when there is nothing else."""
    if not path.is_dir():
        return path if path.exists() else None
    for folder in path.iterdir():
        if not folder.is_dir() or folder.is_symlink():
            return folder
        for file in folder.iterdir():
            if file.suffix != ".png" or not file.stem.isdecimal() or not file.is_file():
                return file
    return None
