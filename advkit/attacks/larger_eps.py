"""An unbounded attack on images that resisted a bounded one: it has to succeed, or gradients are masked."""

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
class Unbounded:
    """What came of it: ``fooled`` of ``total`` images at ``eps``."""

    eps: float
    fooled: int
    total: int


def unbounded_eps(norm: Norm, size: tuple[int, ...]) -> float:
    """The radius within which the grey image lies for every image of ``size`` (C, H, W)."""
    return _HALF * {"linf": 1.0, "l2": math.sqrt(math.prod(size)), "l1": float(math.prod(size))}[norm]


def applies(params: AttackParams, networks: Sequence[nn.Module], size: tuple[int, ...]) -> bool:
    """Whether robust accuracy at ``params.eps`` on images of ``size`` has a larger radius to be held against."""
    return (
        params.goal == "robustness"
        and not params.targeted
        and not params.method.attack.minimal_norm
        and bool(params.method.attack.loss)
        and not params.method.hooked("mix")  # which needs other images
        and 0.0 < params.eps < unbounded_eps(params.norm, size)
        and task_of(networks).stops_early
    )


def attack_unbounded(
    networks: Sequence[nn.Module],
    gradient_models: Sequence[nn.Module],
    images: Tensor,
    targets: Tensor,
    indices: Tensor,
    params: AttackParams,
    at_once: int,
) -> Unbounded:
    """The same attack with the radius of :func:`unbounded_eps`, once (Carlini et al. 2019: unbounded ones succeed).

    Args:
        networks: as loaded; they judge, as an ensemble.
        gradient_models: the same, folded.
        images: (N, C, H, W) that resisted, on the networks' device.
        targets: (N, ...) what is true of them.
        indices: (N,) int64.
        params: the attack; the step is that of the larger radius.
        at_once: images in a pass.
    """
    eps = unbounded_eps(params.norm, tuple(images.shape[1:]))
    wide = replace(params, eps=eps, step_size=None, restarts=1, quantize=False)
    found = attack(gradient_models, images, targets, indices, wide, at_once=at_once).images
    with torch.no_grad():
        predictions = torch.cat([predict(networks, part) for part in torch.split(found, at_once)])
    hit = task_of(networks).is_success(predictions, targets, targeted=False)
    return Unbounded(eps, int(hit.sum()), len(images))
