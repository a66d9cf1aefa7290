"""Predictions of networks of any task: float32, each network as loaded, no gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from advkit.models.passes import in_parts
from advkit.tasks.task import task_of


def outputs_of(networks: Sequence[nn.Module], images: Tensor, at_once: int | None = None) -> Any:
    """Raw float32 outputs of a network, or of an ensemble as one, for ``images`` (N, C, H, W) in [0, 1].

    ``at_once`` images go through together, by default all, and no more than memory holds.
    """
    with torch.inference_mode():  # channels-last: convolutions take 0.85 of the time, the rest doesn't mind
        images = images.float().contiguous(memory_format=torch.channels_last)
        task = task_of(networks)
        return task.joined(*in_parts(lambda part: task.outputs(networks, images[part]), len(images), at_once))


def predict(networks: Sequence[nn.Module], images: Tensor) -> Tensor:
    """(N, ...) predictions of a network, or of an ensemble as one."""
    with torch.inference_mode():
        found = task_of(networks).predictions(outputs_of(networks, images))
    return found.clone()  # an inference tensor must not reach autograd


def predict_all(networks: Sequence[nn.Module], images: Tensor) -> Tensor:
    """(M, N, ...) predictions of each of M networks, on the CPU."""
    return torch.stack([predict([network], images) for network in networks]).cpu()


def predict_in_batches(network: nn.Module, images: Tensor, batch_size: int = 250) -> Tensor:
    """(N, ...) predictions, on the CPU, ``batch_size`` images at a time."""
    parts = [predict([network], images[start : start + batch_size]) for start in range(0, len(images), batch_size)]
    return torch.cat(parts).cpu()


def not_finite(predictions: Tensor) -> Tensor:
    """(N,) bool: ``predictions`` (N, ...) that say of themselves that the outputs were NaN or infinite."""
    rows = predictions.reshape(len(predictions), -1)
    return ~torch.isfinite(rows).all(1) if rows.is_floating_point() else (rows == -1).all(1)
