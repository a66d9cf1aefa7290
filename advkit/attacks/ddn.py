"""DDN: direction and norm of the perturbation decoupled (Rony et al. 2019): the smallest L2 one that fools."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from advkit.attacks.attack import Attack
from advkit.attacks.budget import steepest_ascent
from advkit.attacks.objective import Batch, Objective
from advkit.attacks.params import AttackParams
from advkit.metrics.norms import flat_norm, per_image

_FIRST_RADIUS = 1.0  # of the paper
_FINAL_STEP = 0.01  # of the paper: the last step as a part of the first


def ddn(
    objective: Objective,
    batch: Batch,
    params: AttackParams,
    *,
    steps: int = 100,
    step: float = 1.0,
    gamma: float = 0.05,
) -> Tensor:
    """The nearest fooling image (N, C, H, W) found for each of ``batch``; the clean one where there is none.

    Each step goes ``step`` along the gradient of the cross-entropy, falling along a cosine, and onto a sphere whose
    radius shrinks by ``gamma`` where the point before fooled and grows where it did not. With an eps, images that need
    more stay clean.
    """
    images = batch.images
    best, delta = images.clone(), torch.zeros_like(images)
    best_norm, radius = images.new_full((len(images),), torch.inf), images.new_full((len(images),), _FIRST_RADIUS)
    for number in range(steps + 1):
        x = images + delta
        if number == steps:  # what the last step reached is judged too
            hit = objective.verdict(objective.outputs(x), x, batch)[0]
        else:
            gradient, outputs = objective.gradient(batch, x)
            hit = objective.verdict(outputs, x, batch)[0]
        norm = flat_norm(delta, "l2")
        closer = hit & (norm < best_norm)
        best, best_norm = torch.where(per_image(closer), x, best), torch.where(closer, norm, best_norm)
        if number == steps:
            break
        fall = (1.0 + math.cos(math.pi * number / steps)) / 2.0
        length = step * (_FINAL_STEP + (1.0 - _FINAL_STEP) * fall)
        delta = delta + length * steepest_ascent(gradient, "l2")
        radius = radius * torch.where(hit, 1.0 - gamma, 1.0 + gamma)
        delta = delta * per_image(radius.clamp_max(params.eps) / flat_norm(delta, "l2").clamp_min(1e-12))
        delta = (images + delta).clamp(0.0, 1.0) - images
    return best


DDN = Attack(
    "ddn",
    "direction and norm decoupled (Rony et al. 2019)",
    ddn,
    {"steps": (1, 100_000), "step": (1e-6, 1000.0), "gamma": (1e-6, 0.999)},
    norms=("l2",),
    uses=(),
    minimal_norm=True,
)
