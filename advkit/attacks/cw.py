"""C&W: the smallest L2 perturbation by Adam on distance and margin together (Carlini and Wagner 2017)."""

from __future__ import annotations

import torch
from torch import Tensor

from advkit.attacks.attack import Attack
from advkit.attacks.objective import Batch, Objective
from advkit.attacks.params import AttackParams
from advkit.metrics.norms import flat_norm, per_image

_INSIDE = 0.999999  # of the range of tanh, so that black and white have a finite preimage
_BETAS, _TINY = (0.9, 0.999), 1e-8  # of Adam
_LARGEST = 1e10  # of the constant
_PROGRESS = 0.9999  # part of its loss that an image may keep over a tenth of the steps, or it is left alone


def cw(
    objective: Objective,
    batch: Batch,
    params: AttackParams,
    *,
    steps: int = 10_000,
    searches: int = 9,
    constant: float = 1e-3,
    confidence: float = 0.0,
    rate: float = 0.01,
) -> Tensor:
    """The nearest fooling image (N, C, H, W) found for each of ``batch``; the clean one where there is none.

    Adam with learning rate ``rate`` lowers the squared distance plus a constant times how far the margin is from
    ``confidence``, over pixels that tanh keeps in the box; ``searches`` find the least constant of each image by
    bisection, from ``constant`` on. An image is left alone where a tenth of a search's steps did
    not lower its loss. With an eps, images that need more stay clean.
    """
    best = batch.images.clone()
    outputs = objective.outputs(best)
    hit, margin, _ = objective.verdict(outputs, best, batch)
    best_norm = torch.where(hit & (margin >= confidence), 0.0, torch.inf).to(best.dtype)
    places = (best_norm > 0.0).nonzero().squeeze(1)  # the others need nothing
    part = batch.take(places)
    start = torch.atanh((2.0 * part.images - 1.0) * _INSIDE)
    found, norm = part.images.clone(), best_norm[places]
    factor = torch.full_like(norm, constant)
    low, high = torch.zeros_like(norm), torch.full_like(norm, _LARGEST)
    for _ in range(searches if len(places) else 0):
        fooled = _search(objective, part, start, factor, found, norm, steps, confidence, rate)
        high, low = torch.where(fooled, torch.minimum(high, factor), high), torch.where(fooled, low, factor)
        factor = torch.where(high < _LARGEST, (low + high) / 2.0, factor * 10.0).clamp_max(_LARGEST)
    best[places] = torch.where(per_image(norm <= params.eps), found, part.images)
    return best


def _search(
    objective: Objective,
    batch: Batch,
    start: Tensor,
    factor: Tensor,
    best: Tensor,
    best_norm: Tensor,
    steps: int,
    confidence: float,
    rate: float,
) -> Tensor:
    """One run of Adam, which writes what is nearer to ``best``, ``best_norm``; (N,) bool, which images it fooled."""
    fooled, places = torch.zeros_like(factor, dtype=torch.bool), torch.arange(len(factor), device=factor.device)
    point, mean, square = start, torch.zeros_like(start), torch.zeros_like(start)
    least, lately = torch.full_like(factor, torch.inf), torch.full_like(factor, torch.inf)
    patience = max(1, steps // 10)
    for step in range(1, steps + 1):
        x, images = (torch.tanh(point) + 1.0) / 2.0, batch.images
        gradient, outputs = objective.gradient(batch, x)
        hit, margin, _ = objective.verdict(outputs, x, batch)
        lacking = (confidence - margin.to(x.dtype)).clamp_min(0.0)
        hit &= lacking == 0.0
        norm = flat_norm(x - images, "l2")
        closer = hit & (norm < best_norm[places])
        best[places[closer]], best_norm[places[closer]] = x[closer], norm[closer]
        fooled[places[hit]] = True
        slope = 2.0 * (x - images) - per_image(torch.where(lacking > 0.0, factor, 0.0)) * gradient
        slope = slope * (1.0 - torch.tanh(point).square()) / 2.0
        mean = _BETAS[0] * mean + (1.0 - _BETAS[0]) * slope
        square = _BETAS[1] * square + (1.0 - _BETAS[1]) * slope.square()
        scaled = (square / (1.0 - _BETAS[1] ** step)).sqrt() + _TINY
        point = point - rate * mean / (1.0 - _BETAS[0] ** step) / scaled
        lately = torch.minimum(lately, norm.square() + factor * lacking)
        if step % patience == 0:
            left = lately <= _PROGRESS * least
            batch, places, factor, least = batch.take(left), places[left], factor[left], lately[left]
            point, mean, square = point[left], mean[left], square[left]
            lately = torch.full_like(least, torch.inf)
            if not len(places):
                break
    return fooled


CW = Attack(
    "cw",
    "Adam on distance and margin together (Carlini and Wagner 2017)",
    cw,
    {
        "steps": (1, 1_000_000),
        "searches": (1, 100),
        "constant": (1e-10, 1e10),
        "confidence": (0.0, 1000.0),
        "rate": (1e-6, 1000.0),
    },
    norms=("l2",),
    uses=(),
    loss="margin",
    minimal_norm=True,
)
