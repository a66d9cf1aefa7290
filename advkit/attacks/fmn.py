"""FMN: fast minimum-norm attack (Pintor et al. 2021): the smallest perturbation that fools, not one of a given size."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from advkit.attacks import l1_ball
from advkit.attacks.attack import Attack
from advkit.attacks.budget import steepest_ascent
from advkit.attacks.objective import Batch, Objective
from advkit.attacks.params import AttackParams
from advkit.metrics.norms import flat_norm, per_image

_FINAL_STEP, _FINAL_GAMMA = 0.01, 0.001  # of the paper: the last step as a part of the first, the last gamma


def fmn(
    objective: Objective,
    batch: Batch,
    params: AttackParams,
    *,
    steps: int = 100,
    step: float = 1.0,
    gamma: float = 0.05,
) -> Tensor:
    """The nearest fooling image (N, C, H, W) found for each of ``batch``; the clean one where there is none.

    The radius of a ball shrinks by ``gamma`` while the point in it fools and grows while it does not; until it fools
    for the first time, it is where the boundary of a linear model would lie. ``step`` is the L2 length of the first of
    ``steps`` steps; step and gamma fall along a cosine. With an eps, images that need more stay clean.
    """
    images, dual = batch.images, {"linf": 1.0, "l2": 2.0, "l1": math.inf}[params.norm]
    best = images.clone()
    best_norm = images.new_full((len(images),), torch.inf)
    radius = best_norm.clone()
    delta = torch.zeros_like(images)
    for number in range(steps + 1):
        x = images + delta
        norm = flat_norm(delta, params.norm)
        if number == steps:  # what the last step reached is judged too
            hit = objective.verdict(objective.outputs(x), x, batch)[0]
            gradient = delta
        else:
            gradient, outputs = objective.gradient(batch, x)
            hit, losses, _ = objective.verdict(outputs, x, batch)
        closer = hit & (norm < best_norm)
        best, best_norm = torch.where(per_image(closer), x, best), torch.where(closer, norm, best_norm)
        if number == steps:
            break
        fall = (1.0 + math.cos(math.pi * number / steps)) / 2.0
        now = _FINAL_GAMMA + (gamma - _FINAL_GAMMA) * fall
        slope = torch.linalg.vector_norm(gradient.flatten(1), dual, dim=1).clamp_min(1e-12)
        # A little beyond the boundary: on it, rounding decides, and a point may stay there for good.
        boundary = (norm + losses.abs() / slope) * (1.0 + now)
        wider = torch.where(best_norm < torch.inf, radius * (1.0 + now), boundary)
        radius = torch.where(
            hit, torch.minimum(radius.clamp_max(torch.finfo(x.dtype).max) * (1.0 - now), best_norm), wider
        )
        length = step * (_FINAL_STEP + (1.0 - _FINAL_STEP) * fall)
        delta = _projected(delta + length * steepest_ascent(gradient, "l2"), images, radius, params)
        delta = (images + delta).clamp(0.0, 1.0) - images
    return best


def _projected(delta: Tensor, images: Tensor, radius: Tensor, params: AttackParams) -> Tensor:
    """``delta`` in each image's own ball, which lies in that of eps."""
    if params.norm == "l1":
        return l1_ball.project(delta, images, radius.clamp_max(params.eps))
    bound = per_image(radius.clamp_max(params.eps))
    if params.norm == "linf":
        return torch.minimum(torch.maximum(delta, -bound), bound)
    length = per_image(flat_norm(delta, "l2").clamp_min(1e-30))
    return delta * (bound / length).clamp_max(1.0)


FMN = Attack(
    "fmn",
    "fast minimum-norm attack (Pintor et al. 2021)",
    fmn,
    {"steps": (1, 100_000), "step": (1e-6, 1000.0), "gamma": (0.0, 0.999)},
    uses=(),
    loss="margin",
    minimal_norm=True,
)
