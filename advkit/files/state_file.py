"""Files that an unfinished run leaves: tensors with the settings of the run, under a checksum over all of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from advkit.files.checkpoint import canonical_json, parse_metadata
from advkit.files.errors import InputError
from advkit.files.tensors import fingerprint, read_tensors, write_tensors


def write_state_file(
    path: Path, spec: str, tensors: Mapping[str, Tensor], more: Mapping[str, Any], settings: Mapping[str, Any]
) -> None:
    """Write ``tensors`` atomically, with what ``more`` says in JSON values.

    Args:
        path: the file.
        spec: what kind of file it is, with its version.
        tensors: by name.
        more: further metadata.
        settings: all that decides the run; the file is for no other.
    """
    meta: dict[str, Any] = {"spec": spec, **more, "settings": settings}
    meta["sha256"] = checksum(meta, tensors)
    write_tensors(path, tensors, canonical_json(meta))


def read_state_file(
    path: Path, spec: str, settings: Mapping[str, Any], what: str
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and metadata of a file of a run with just these ``settings``.

    Args:
        path, spec, settings: as of :func:`write_state_file`.
        what: the file is called in messages.

    Raises:
        InputError: a damaged file, or one of a run with other settings (named).
    """
    try:
        tensors, metadata = read_tensors(path)
    except InputError as error:
        raise InputError(f"{str(error).rpartition(';')[0] or error}; start anew with --force") from error
    meta = parse_metadata(path, metadata, spec, what)
    if "sha256" not in meta:
        raise InputError(f"{path}: {what} of an earlier advkit, without checksum; start anew with --force")
    try:
        same = meta["sha256"] == checksum(meta, tensors)
    except ValueError:  # NaN or infinity, which JSON has no words for
        same = False
    if not same:
        raise InputError(f"{path}: damaged {what} (its checksum does not fit); start anew with --force")
    before, now = _flat(meta.get("settings", {})), _flat(json.loads(canonical_json(dict(settings))))
    changed = sorted(name for name in now.keys() | before.keys() if now.get(name) != before.get(name))
    if changed:
        first = changed[0]
        raise InputError(
            f"{path}: belongs to a run with another {', '.join(changed)} "
            f"({first}: {str(before.get(first))[:80]} there, {str(now.get(first))[:80]} here); "
            "resume with the same options or start anew with --force"
        )
    return tensors, meta


def checksum(meta: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """sha256 of the metadata (but for the checksum itself) and the tensors."""
    told = canonical_json({name: value for name, value in meta.items() if name != "sha256"})
    return hashlib.sha256(f"{told}\0{fingerprint(tensors)}".encode()).hexdigest()


def _flat(settings: Any, prefix: str = "") -> dict[str, Any]:
    """Nested settings under dotted names, so that a difference can be named."""
    if not isinstance(settings, dict):
        return {prefix: settings}
    pairs = (_flat(value, f"{prefix}.{name}".lstrip(".").removeprefix("params.")) for name, value in settings.items())
    return {name: value for pair in pairs for name, value in pair.items()}
