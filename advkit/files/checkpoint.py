"""The advkit checkpoint: one safetensors file that says what it is."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from advkit.files.errors import InputError
from advkit.files.tensors import METADATA_KEY, first_not_finite, read_tensors, write_tensors

SPEC = "advkit/checkpoint/1"
_REQUIRED = {
    "architecture": str,
    "model_args": dict,
    "num_classes": int,
    "labels": list,
    "input_size": list,
    "mean": list,
    "std": list,
}


@dataclass
class Checkpoint:
    """Weights and what is needed to use them.

    Attributes:
        tensors: the network's state dict (without normalisation).
        meta: ``spec, task, architecture, model_args, num_classes, labels, input_size, mean, std, parents, data,
            command, seed, metrics`` (see advkit-formats(5)).
    """

    tensors: dict[str, Tensor]
    meta: dict[str, Any] = field(default_factory=dict)


def canonical_json(value: object) -> str:
    """Sorted compact JSON without NaN: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write ``checkpoint`` to ``path``, atomically; equal checkpoints give equal bytes."""
    write_tensors(path, checkpoint.tensors, canonical_json({"spec": SPEC, **checkpoint.meta}))


def is_checkpoint(metadata: dict[str, str]) -> bool:
    """Whether a safetensors file's metadata is that of an advkit checkpoint of any version."""
    return '"advkit/checkpoint/' in metadata.get(METADATA_KEY, "")


def read_checkpoint(path: Path) -> Checkpoint:
    """Read and check a checkpoint.

    Raises:
        InputError: damaged file, no checkpoint, another version, missing or mistyped fields, weights that are not
            finite.
    """
    path = Path(path)
    tensors, metadata = read_tensors(path)
    meta = parse_metadata(path, metadata, SPEC, "checkpoint")
    for name, kind in _REQUIRED.items():
        if not isinstance(meta.get(name), kind):
            raise InputError(f"{path}: checkpoint has no valid {name!r}; write it again")
    size, mean, std = meta["input_size"], meta["mean"], meta["std"]
    if len(size) != 3 or not all(type(n) is int and 0 < n <= 65536 for n in size) or meta["num_classes"] < 1:
        raise InputError(f"{path}: checkpoint has an impossible input_size or num_classes; write it again")
    floats = all(isinstance(v, int | float) and -1e9 < v < 1e9 for v in [*mean, *std])  # NaN is not
    if not floats or len(mean) != size[0] or len(std) != size[0] or not all(v > 0 for v in std):
        raise InputError(f"{path}: checkpoint's mean and std don't fit its {size[0]} channels; write it again")
    bad = first_not_finite(tensors)
    if bad:
        raise InputError(f"{path}: tensor {bad!r} holds NaN or infinity; the training that wrote it diverged")
    return Checkpoint(tensors, meta)


def parse_metadata(path: Path, metadata: dict[str, str], spec: str, what: str) -> dict[str, Any]:
    """The JSON under the ``advkit`` key, checked to be of ``spec``.

    Raises:
        InputError: no such key, not JSON, another spec.
    """
    if METADATA_KEY not in metadata:
        raise InputError(f"{path}: not an advkit {what} (no advkit metadata); for bare weights write ARCH@{path}")
    try:
        meta = json.loads(metadata[METADATA_KEY])
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: its advkit metadata is not JSON; write it again") from error
    if not isinstance(meta, dict) or meta.get("spec") != spec:
        found = meta.get("spec") if isinstance(meta, dict) else None
        raise InputError(f"{path}: is {str(found)[:60]!r}, not {spec!r}; give an advkit {what}")
    return meta
