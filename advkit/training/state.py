"""The state of an unfinished run, beside the checkpoint that it will become."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from advkit.files.checkpoint import canonical_json, parse_metadata
from advkit.files.errors import InputError
from advkit.files.tensors import read_tensors, write_tensors

SPEC = "advkit/resume/1"


@dataclass
class State:
    """Where a run stands.

    Attributes:
        epoch, step: epochs finished, and steps taken in the next one.
        tensors: ``model.*``, ``optimizer.*`` and ``ema.*``.
        tallies: sums of the unfinished epoch.
        history: one dict for each finished epoch.
    """

    epoch: int
    step: int
    tensors: dict[str, Tensor]
    running_sums: dict[str, float]
    history: list[dict[str, Any]]


def resume_path(output: Path) -> Path:
    """``r.safetensors`` -> ``r.resume.safetensors``."""
    return output.with_name(f"{output.stem}.resume.safetensors")


def write_state(path: Path, state: State, settings: dict[str, Any]) -> None:
    """Write ``state`` atomically."""
    meta = {
        "spec": SPEC,
        "epoch": state.epoch,
        "step": state.step,
        "tallies": state.running_sums,
        "history": state.history,
        "settings": settings,
    }
    write_tensors(path, state.tensors, canonical_json(meta))


def _flat(settings: Any, prefix: str = "") -> dict[str, Any]:
    """Nested settings under dotted names, so that a difference can be named."""
    if not isinstance(settings, dict):
        return {prefix: settings}
    pairs = (_flat(value, f"{prefix}.{name}".lstrip(".").removeprefix("params.")) for name, value in settings.items())
    return {name: value for pair in pairs for name, value in pair.items()}


def read_state(path: Path, settings: dict[str, Any]) -> State:
    """Read the state of a run with just these ``settings``.

    Raises:
        InputError: no or damaged file, other settings (named).
    """
    if not path.exists():
        raise InputError(f"{path}: nothing to resume; start without --resume")
    tensors, metadata = read_tensors(path)
    meta = parse_metadata(path, metadata, SPEC, "training state")
    before, now = _flat(meta.get("settings", {})), _flat(json.loads(canonical_json(settings)))
    changed = sorted(name for name in now.keys() | before.keys() if now.get(name) != before.get(name))
    if changed:
        first = changed[0]
        raise InputError(
            f"{path}: belongs to a run with another {', '.join(changed)} "
            f"({first}: {str(before.get(first))[:80]} there, {str(now.get(first))[:80]} here); "
            "resume with the same options or start anew with --force"
        )
    try:
        return State(int(meta["epoch"]), int(meta["step"]), tensors, dict(meta["tallies"]), list(meta["history"]))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: damaged training state; start anew with --force") from error


def pack(
    model: dict[str, Tensor], optimizer: torch.optim.Optimizer, ema: dict[str, Tensor] | None
) -> dict[str, Tensor]:
    """Flatten model, optimiser and EMA into one dict of tensors of their own."""
    tensors = {f"model.{name}": tensor.detach().clone() for name, tensor in model.items()}
    for number, slots in optimizer.state_dict()["state"].items():
        for name, value in slots.items():
            if value is not None:
                tensors[f"optimizer.{number}.{name}"] = torch.as_tensor(value).clone()
    for name, tensor in (ema or {}).items():
        tensors[f"ema.{name}"] = tensor.clone()
    return tensors


def unpack(
    path: Path, tensors: dict[str, Tensor], model: torch.nn.Module, optimizer: torch.optim.Optimizer
) -> dict[str, Tensor]:
    """Load what :func:`pack` made into ``model`` and ``optimizer``; returns the EMA's tensors (maybe none).

    Raises:
        InputError: tensors that do not fit.
    """

    def part(prefix: str) -> dict[str, Tensor]:
        return {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}

    try:
        model.load_state_dict(part("model."))
        slots: dict[int, dict[str, Tensor]] = {}
        for name, tensor in part("optimizer.").items():
            number, slot = name.split(".", 1)
            slots.setdefault(int(number), {})[slot] = tensor
        optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})
    except (RuntimeError, ValueError, KeyError) as error:
        raise InputError(f"{path}: training state does not fit the network; start anew with --force") from error
    return part("ema.")
