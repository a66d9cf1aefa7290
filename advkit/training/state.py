"""The state of an unfinished run, beside the checkpoint that it will become."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from advkit.files.errors import InputError
from advkit.files.state_file import read_state_file, write_state_file
from advkit.files.tensors import first_not_finite

SPEC = "advkit/resume/1"


@dataclass
class State:
    """Where a run stands.

    Attributes:
        epoch, step: epochs finished, and steps taken in the next one.
        tensors: ``model.*``, ``optimizer.*``, ``ema.*``, ``best.*`` (weights), and ``objective.*``.
        running_sums: sums of the unfinished epoch.
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
    """Write ``state`` atomically, with a checksum over all of it."""
    more = {"epoch": state.epoch, "step": state.step, "tallies": state.running_sums, "history": state.history}
    write_state_file(path, SPEC, state.tensors, more, settings)


def read_state(
    path: Path, settings: dict[str, Any], *, epochs: int, steps: int, batch_size: int, sums: Collection[str]
) -> State:
    """Read the state of a run with just these ``settings``.

    Args:
        path: the file.
        settings: all that decides the run.
        epochs, steps: of the run, and in one epoch.
        batch_size: images in a step.
        sums: names of the running sums.

    Raises:
        InputError: no or damaged file, other settings (named), a place that the run never comes to.
    """
    if not path.exists():
        raise InputError(f"{path}: nothing to resume; start without --resume")
    tensors, meta = read_state_file(path, SPEC, settings, "training state")
    bad = first_not_finite(tensors)
    if bad:
        raise InputError(f"{path}: tensor {bad!r} holds NaN or infinity: the run diverged; start anew with --force")
    epoch, step, running, history = meta.get("epoch"), meta.get("step"), meta.get("tallies"), meta.get("history")
    # A run stopped after the last step of an epoch is still in that epoch: it has yet to be measured.
    if not (
        (isinstance(epoch, int) and 0 <= epoch < epochs and isinstance(step, int) and 0 <= step <= steps)
        and (isinstance(history, list) and len(history) == epoch)
    ):
        raise InputError(f"{path}: is at no point of this run (epoch {epoch}, step {step}); start anew with --force")
    if not isinstance(running, dict) or not _adds_up(running, sums, step * batch_size):
        raise InputError(f"{path}: its sums are not those of {step} steps; start anew with --force")
    return State(epoch, step, tensors, running, history)


def _adds_up(running: dict[str, Any], names: Collection[str], images: int) -> bool:
    """Whether running sums have these names, finite values, and so many images."""
    numbers = all(isinstance(value, int | float) and math.isfinite(value) for value in running.values())
    return running.keys() == set(names) and numbers and running["images"] == images


def pack(
    model: dict[str, Tensor], optimizer: torch.optim.Optimizer, parts: Mapping[str, Mapping[str, Tensor]]
) -> dict[str, Tensor]:
    """Flatten model, optimiser and further ``parts`` by name into one dict of tensors of their own."""
    tensors = {f"model.{name}": tensor.detach().clone() for name, tensor in model.items()}
    for number, slots in optimizer.state_dict()["state"].items():
        for name, value in slots.items():
            if value is not None:
                tensors[f"optimizer.{number}.{name}"] = torch.as_tensor(value).clone()
    for kind, more in parts.items():
        for name, tensor in more.items():
            tensors[f"{kind}.{name}"] = tensor.clone()
    return tensors


def part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors under ``prefix``, without it."""
    return {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def unpack(
    path: Path,
    tensors: dict[str, Tensor],
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    ema: bool,
    best: bool = False,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Load what :func:`pack` made into ``model`` and ``optimizer``; returns the EMA's and the best epoch's tensors.

    Args:
        path: of the file.
        tensors: its tensors.
        model, optimizer: changed in place.
        ema, best: whether there must be such tensors; without, there must be none.

    Raises:
        InputError: tensors that do not fit.
    """
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    averaged, kept = part(tensors, "ema."), part(tensors, "best.")
    for what, found, wanted in (("averaged weights", averaged, ema), ("best weights", kept, best)):
        if {name: tensor.shape for name, tensor in found.items()} != (shapes if wanted else {}):
            raise InputError(f"{path}: its {what} do not fit the network; start anew with --force")
    try:
        model.load_state_dict(part(tensors, "model."))
        slots: dict[int, dict[str, Tensor]] = {}
        for name, tensor in part(tensors, "optimizer.").items():
            number, slot = name.split(".", 1)
            slots.setdefault(int(number), {})[slot] = tensor
        optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})
    except (RuntimeError, ValueError, KeyError) as error:
        raise InputError(f"{path}: training state does not fit the network; start anew with --force") from error
    return averaged, kept
