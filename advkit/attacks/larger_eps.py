"""An attack with all room there is, on images that resisted it: it has to succeed, or gradients are masked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from advkit.attacks.params import AttackParams
from advkit.attacks.run import attack
from advkit.metrics.norms import Norm
from advkit.tasks.prediction import predict
from advkit.tasks.task import task_of

MOST = 32  # images looked at
_HALF = 0.5  # of the range of pixels: from every image to the grey one


@dataclass(frozen=True)
class Beyond:
    """What came of it: ``fooled`` of ``total`` images at ``eps``."""

    eps: float
    fooled: int
    total: int


def unbounded_eps(norm: Norm, size: tuple[int, ...]) -> float:
    """The radius within which the grey image lies for every image of ``size`` (C, H, W)."""
    return _HALF if norm == "linf" else _HALF * math.sqrt(math.prod(size))


def applies(params: AttackParams, networks: Sequence[nn.Module]) -> bool:
    """Whether robust accuracy at ``params.eps`` has a larger radius to be held against."""
    return (
        params.goal == "robustness"
        and not params.targeted
        and not params.method.attack.minimal_norm
        and bool(params.method.attack.loss)
        and not params.method.hooked("mix")  # which needs other images
        and 0.0 < params.eps < float("inf")
        and task_of(networks).stops_early
    )


def attack_beyond(
    networks: Sequence[nn.Module],
    gradient_models: Sequence[nn.Module],
    images: Tensor,
    targets: Tensor,
    indices: Tensor,
    params: AttackParams,
) -> Beyond:
    """The same attack with the radius of :func:`unbounded_eps` (Carlini et al. 2019, an unbounded attack must succeed).

    Args:
        networks: as loaded; they judge, as an ensemble.
        gradient_models: the same, folded.
        images: (N, C, H, W) that resisted, on the networks' device.
        targets: (N, ...) what is true of them.
        indices: (N,) int64.
        params: the attack; the step is that of the larger radius.
    """
    eps = unbounded_eps(params.norm, tuple(images.shape[1:]))
    wide = replace(params, eps=eps, step_size=None, restarts=1, quantize=False)
    found = attack(gradient_models, images, targets, indices, wide).images
    with torch.no_grad():
        predictions = predict(networks, found)
    hit = task_of(networks).is_success(predictions, targets, targeted=False)
    return Beyond(eps, int(hit.sum()), len(images))
