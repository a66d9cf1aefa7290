"""Whether bfloat16 pays on this machine for these networks: a short measurement, where the attack is long enough."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from advkit.attacks.objective import Batch, Objective
from advkit.attacks.params import AttackParams

IMAGES, ROUNDS = 64, 3
_SHARE = 8  # times what it costs to measure, or an attack is not worth measuring for
_MANY = 500  # passes of an image by an attack that has a number of its own
_CLEARLY = 0.95  # times float32's seconds, or rounding is not worth it


def faster_precision(
    networks: Sequence[nn.Module], images: Tensor, targets: Tensor, params: AttackParams, count: int
) -> Literal["float32", "bfloat16"]:
    """What passes of the attack are to take: bfloat16 where a pass forward and backward takes clearly less time.

    Args:
        networks: that give the gradients, on their device.
        images, targets: some of the data, on the same device; at most :data:`IMAGES` are used.
        params: the attack.
        count: how many images it is for; where they take few passes, float32 without a measurement.
    """
    images, targets = images[:IMAGES], targets[:IMAGES]
    steps = params.step_count if "steps" in params.method.attack.uses else _MANY
    passes = 2 * (ROUNDS + 1) * len(images)
    if not len(images) or count * steps * params.method.copies < _SHARE * passes:
        return "float32"
    best = {}
    for precision in ("float32", "bfloat16"):
        best[precision] = _fastest(networks, images, targets, replace(params, precision=precision))
    return "bfloat16" if best["bfloat16"] < _CLEARLY * best["float32"] else "float32"


def _fastest(networks: Sequence[nn.Module], images: Tensor, targets: Tensor, params: AttackParams) -> float:
    """Seconds of the fastest of a few passes, after one that warms up; without gradients, forward passes."""
    indices = torch.arange(len(images), device=images.device)
    objective, batch = Objective(networks, params, len(images), images.device), Batch(images, targets, indices, indices)
    times = []
    for _ in range(ROUNDS + 1):
        began = time.perf_counter()
        if params.method.attack.gradients:
            objective.gradient(batch, images)
        else:
            objective.outputs(images)
        if images.is_cuda:
            torch.cuda.synchronize(images.device)
        times.append(time.perf_counter() - began)
    return min(times[1:])
