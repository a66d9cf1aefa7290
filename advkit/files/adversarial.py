"""The adversarial set: a safetensors data set that remembers what it was made from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor

from advkit.files.checkpoint import canonical_json, parse_metadata
from advkit.files.errors import InputError
from advkit.files.tensors import TensorWriter, open_tensor, read_header

SPEC = "advkit/adversarial/1"


class AdversarialWriter:
    """Writes an adversarial set batch by batch; its file takes its place when the block ends well."""

    def __init__(
        self,
        path: Path,
        count: int,
        size: tuple[int, int, int],
        *,
        class_names: Sequence[str],
        data: dict[str, Any],
        surrogates: Sequence[tuple[str, str]],
        attack: dict[str, Any],
        quantized: bool = False,
    ) -> None:
        """Open ``path`` for ``count`` images.

        Args:
            path: the file.
            count: how many images will be appended.
            size: (C, H, W) of each.
            class_names: of the data.
            data: where the clean images are from: ref, split, fingerprint.
            surrogates: reference and sha256 of the models that the images are made on.
            attack: its settings as JSON values.
            quantized: images are uint8, not float32.
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
        metadata = {
            "spec": SPEC,
            "class_names": list(class_names),
            "data": data,
            "surrogates": [{"ref": ref, "sha256": sha256} for ref, sha256 in surrogates],
            "attack": attack,
        }
        self._rows = TensorWriter(path, shapes, canonical_json(metadata))

    def __enter__(self) -> Self:
        self._rows.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._rows.__exit__(kind, error, trace)

    def append(
        self, images: Tensor, *, labels: Tensor, index: Tensor, target: Tensor, prediction: Tensor, outcome: Tensor
    ) -> None:
        """A batch: images (N, C, H, W) in [0, 1], or of 8 bits; (N,) numbers as in :class:`AdversarialSet`."""
        self._rows.append(
            {
                "images": images,
                "labels": labels,
                "index": index,
                "target": target,
                "prediction": prediction,
                "outcome": outcome.to(torch.uint8),
            }
        )


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

    def images(self, rows: Tensor) -> Tensor:
        """Images (M, C, H, W) float32 in [0, 1] at ``rows``."""
        source = open_tensor(self.path, "images")
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
    _check_metadata(path, meta)
    found = {}
    count = header["images"][1][0] if "images" in header and header["images"][1] else -1
    for name in ("labels", "index", "target", "prediction", "outcome"):
        rows = open_tensor(path, name)
        found[name] = rows.rows(0, len(rows)).long()
        if rows.shape != (count,) or rows.dtype.is_floating_point:
            raise InputError(f"{path}: tensor {name!r} does not fit its {count} images; write it again")
    if count and (int(found["outcome"].max()) > 2 or int(found["outcome"].min()) < 0):
        raise InputError(f"{path}: tensor 'outcome' holds other numbers than 0, 1 and 2; write it again")
    return AdversarialSet(path, meta, **found)


def _check_metadata(path: Path, meta: dict[str, Any]) -> None:
    """Raise InputError when attack or surrogates are not told as :class:`AdversarialWriter` is given them."""
    attack, surrogates = meta.get("attack"), meta.get("surrogates")
    if not isinstance(attack, dict) or not isinstance(surrogates, list):
        attack, surrogates = {}, []
    eps, told = attack.get("eps", -1), [attack.get(name) for name in ("seed", "method", "targeted")]
    sound = [
        eps is None or (isinstance(eps, (int, float)) and 0 <= eps < math.inf),
        [type(value) for value in told] == [int, str, bool],
        attack.get("norm") in ("linf", "l2") and attack.get("goal") in ("robustness", "transfer"),
        all(isinstance(one, dict) and isinstance(one.get("sha256"), str) for one in surrogates),
    ]
    if not all(sound):
        raise InputError(f"{path}: its metadata does not say by which attack on what it was made; write it again")
