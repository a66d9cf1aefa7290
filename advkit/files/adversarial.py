"""The adversarial set: a data set, in one file or a folder of pictures, that remembers what it was made from."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor

from advkit.files.checkpoint import canonical_json, parse_metadata
from advkit.files.errors import InputError
from advkit.files.image_folder import SIDECAR, picture_path, read_pictures, read_sidecar
from advkit.files.tensors import TensorWriter, open_tensor, read_header

SPEC = "advkit/adversarial/1"
NUMBERS = ("labels", "index", "target", "prediction", "outcome")  # of each image


def adversarial_metadata(
    *,
    class_names: Sequence[str],
    data: dict[str, Any],
    surrogates: Sequence[tuple[str, str]],
    attack: dict[str, Any],
) -> dict[str, Any]:
    """What a set says of how it was made, as JSON values.

    Args:
        class_names: of the data.
        data: where the clean images are from: ref, split, fingerprint.
        surrogates: reference and sha256 of the models that the images are made on.
        attack: its settings.
    """
    return {
        "class_names": list(class_names),
        "data": data,
        "surrogates": [{"ref": ref, "sha256": sha256} for ref, sha256 in surrogates],
        "attack": attack,
    }


class AdversarialWriter:
    """Writes an adversarial set batch by batch; its file takes its place when the block ends well."""

    def __init__(
        self,
        path: Path,
        count: int,
        size: tuple[int, int, int],
        metadata: dict[str, Any],
        *,
        quantized: bool = False,
        columns: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Open ``path`` for ``count`` images.

        Args:
            path: the file.
            count: how many images will be appended.
            size: (C, H, W) of each.
            metadata: from :func:`adversarial_metadata`.
            quantized: images are uint8, not float32.
            columns: tensors of the dtypes and row shapes of what is said of each image beside its index and outcome;
                by default :data:`NUMBERS`.
        """
        rows = dict.fromkeys(NUMBERS, torch.empty(0, dtype=torch.int64)) if columns is None else dict(columns)
        rows |= {"index": torch.empty(0, dtype=torch.int64), "outcome": torch.empty(0, dtype=torch.uint8)}
        rows["images"] = torch.empty(0, *size, dtype=torch.uint8 if quantized else torch.float32)
        shapes = {name: (row.dtype, (count, *row.shape[1:])) for name, row in rows.items()}
        self._rows = TensorWriter(path, shapes, canonical_json({**metadata, "spec": SPEC}))

    def __enter__(self) -> Self:
        self._rows.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._rows.__exit__(kind, error, trace)

    def append(self, images: Tensor, *, index: Tensor, outcome: Tensor, **columns: Tensor) -> None:
        """A batch: images (N, C, H, W) in [0, 1], 0 beyond their edges, or of 8 bits; numbers (N, ...) of each."""
        images = images.nan_to_num(nan=0.0) if images.is_floating_point() else images
        self._rows.append({"images": images, "index": index, "outcome": outcome.to(torch.uint8), **columns})


def is_adversarial(path: Path) -> bool:
    """Whether ``path`` is an adversarial set of any version."""
    try:
        return '"advkit/adversarial/' in read_header(path)[1].get("advkit", "")
    except InputError:
        return False


@dataclass(frozen=True)
class AdversarialSet:
    """What an adversarial set says besides its images, in tensors (N,).

    ``target`` is the class aimed at, or the true class when untargeted; ``prediction`` is the surrogates'; ``outcome``
    is 0 where they were wrong on the clean image, 1 fooled, 2 not fooled.
    """

    path: Path
    meta: dict[str, Any]
    labels: Tensor
    index: Tensor
    target: Tensor
    prediction: Tensor
    outcome: Tensor
    read: Callable[[Tensor], Tensor]

    def images(self, rows: Tensor) -> Tensor:
        """Images (M, C, H, W) float32 in [0, 1] at ``rows``."""
        images = self.read(rows)
        return images.float() / 255.0 if images.dtype == torch.uint8 else images


def read_adversarial(path: Path) -> AdversarialSet:
    """Open an adversarial set, a file or a folder of pictures, without reading its images.

    Raises:
        InputError: damaged, or not written by ``attack``.
    """
    meta, numbers, read = _open_folder(path) if path.is_dir() else _open_file(path)
    _check_metadata(path, meta)
    outcome = numbers["outcome"]
    if len(outcome) and (int(outcome.max()) > 2 or int(outcome.min()) < 0):
        raise InputError(f"{path}: 'outcome' holds other numbers than 0, 1 and 2; write it again")
    return AdversarialSet(path, meta, **numbers, read=read)


_Opened = tuple[dict[str, Any], dict[str, Tensor], Callable[[Tensor], Tensor]]


def _open_file(path: Path) -> _Opened:
    """Metadata, numbers (N,) by name, and what reads images of a .safetensors file."""
    header, metadata = read_header(path)
    meta = parse_metadata(path, metadata, SPEC, "adversarial set")
    numbers = {}
    count = header["images"][1][0] if "images" in header and header["images"][1] else -1
    for name in NUMBERS:
        rows = open_tensor(path, name)
        numbers[name] = rows.rows(0, len(rows)).long()
        if rows.shape != (count,) or rows.dtype.is_floating_point:
            raise InputError(f"{path}: tensor {name!r} does not fit its {count} images; write it again")
    return meta, numbers, open_tensor(path, "images").at


def _open_folder(path: Path) -> _Opened:
    """The same of a folder that ``attack`` wrote, whose sidecar holds the numbers."""
    sidecar = path / SIDECAR
    if not sidecar.is_file():
        raise InputError(f"{path}: no {SIDECAR} in it; give a folder or a .safetensors file that attack wrote")
    index = read_sidecar(sidecar, [child.name for child in path.iterdir() if child.is_dir()])
    columns = {name: index.meta.get(name) for name in NUMBERS}
    if None in columns.values():
        raise InputError(f"{sidecar}: says not what was made of each image; write the folder again")
    numbers: dict[str, Tensor] = {}
    for name, values in columns.items():
        if not isinstance(values, list) or not all(type(value) is int and abs(value) < 2**63 for value in values):
            raise InputError(f"{sidecar}: {name!r} is no list of whole numbers; write the folder again")
        numbers[name] = torch.tensor(values, dtype=torch.int64)
    labels, places = numbers["labels"], numbers["index"]
    known = bool(((labels >= 0) & (labels < len(index.folders))).all()) and bool((places >= 0).all())
    if len({len(values) for values in numbers.values()}) > 1 or not len(labels) or not known:
        raise InputError(f"{sidecar}: its numbers do not fit each other; write the folder again")
    named = zip(labels.tolist(), places.tolist(), strict=True)
    files = [path / picture_path(index.folders[label], place) for label, place in named]
    return index.meta, numbers, lambda rows: read_pictures([files[row] for row in rows.tolist()])


def _check_metadata(path: Path, meta: dict[str, Any]) -> None:
    """Raise InputError when attack or surrogates are not told as :class:`AdversarialWriter` is given them."""
    attack, surrogates = meta.get("attack"), meta.get("surrogates")
    if not isinstance(attack, dict) or not isinstance(surrogates, list):
        attack, surrogates = {}, []
    eps, told = attack.get("eps", -1), [attack.get(name) for name in ("seed", "method", "targeted")]
    sound = [
        eps is None or (isinstance(eps, (int, float)) and 0 <= eps < math.inf),
        [type(value) for value in told] == [int, str, bool],
        attack.get("norm") in ("linf", "l2", "l1") and attack.get("goal") in ("robustness", "transfer"),
        all(isinstance(one, dict) and isinstance(one.get("sha256"), str) for one in surrogates),
    ]
    if not all(sound):
        raise InputError(f"{path}: its metadata does not say by which attack on what it was made; write it again")
