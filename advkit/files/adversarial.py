"""The adversarial set: a safetensors data set that remembers what it was made from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from advkit.files.checkpoint import dump, parse_metadata
from advkit.files.errors import InputError
from advkit.files.tensors import TensorStream, open_rows, read_header

SPEC = "advkit/adversarial/1"


def stream(
    path: Path, count: int, size: tuple[int, int, int], *, quantized: bool, metadata: dict[str, Any]
) -> TensorStream:
    """A writer of ``count`` images; rows are images, labels, index, target, prediction (of the surrogates), outcome.

    Outcomes: 0 the surrogates were wrong on the clean image, 1 fooled, 2 not fooled.
    """
    numbers = (torch.int64, (count,))
    shapes = {
        "images": (torch.uint8 if quantized else torch.float32, (count, *size)),
        "labels": numbers,
        "index": numbers,
        "target": numbers,
        "prediction": numbers,
        "outcome": (torch.uint8, (count,)),
    }
    return TensorStream(path, shapes, dump({"spec": SPEC, **metadata}))


def is_adversarial(path: Path) -> bool:
    """Whether ``path`` is an adversarial set of any version."""
    try:
        return '"advkit/adversarial/' in read_header(path)[1].get("advkit", "")
    except InputError:
        return False


@dataclass(frozen=True)
class AdversarialSet:
    """What an adversarial set says besides its images; (N,) tensors as :func:`stream` writes them.

    ``target`` is the class aimed at, or the true class when untargeted.
    """

    path: Path
    meta: dict[str, Any]
    labels: Tensor
    index: Tensor
    target: Tensor
    prediction: Tensor
    outcome: Tensor

    def images(self, rows: Tensor) -> Tensor:
        """Images (M, C, H, W) float32 in [0, 1] at ``rows``."""
        source = open_rows(self.path, "images")
        picked = [source.rows(row, row + 1) for row in rows.tolist()]
        images = torch.cat(picked) if picked else source.rows(0, 0)
        return images.float() / 255.0 if images.dtype == torch.uint8 else images


def read_adversarial(path: Path) -> AdversarialSet:
    """Open an adversarial set without reading its images.

    Raises:
        InputError: damaged, or not written by ``attack``.
    """
    header, metadata = read_header(path)
    meta = parse_metadata(path, metadata, SPEC, "adversarial set")
    found = {}
    count = header["images"][1][0] if "images" in header and header["images"][1] else -1
    for name in ("labels", "index", "target", "prediction", "outcome"):
        rows = open_rows(path, name)
        found[name] = rows.rows(0, len(rows)).long()
        if rows.shape != (count,) or rows.dtype.is_floating_point:
            raise InputError(f"{path}: tensor {name!r} does not fit its {count} images; write it again")
    return AdversarialSet(path, meta, **found)
