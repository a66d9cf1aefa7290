"""The one loop behind every attack.

Images never influence each other: losses are per image, randomness is keyed to the image, and a step uses the image's
own gradient only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from advkit.attacks import budget
from advkit.attacks.losses import LOSSES, fooled
from advkit.attacks.params import AttackParams
from advkit.attacks.surrogate_gradients import Batch, SurrogateGradients

_STREAMS = 1 << 20  # random streams kept for each restart: its start, then its transforms
_TRANSFORMS = 1 << 10


@dataclass
class AttackBatch:
    """Result for one batch.

    Attributes:
        images: (N, C, H, W) float32 in [0, 1], inside the budget around the clean ones.
        forwards, backwards: passes summed over images and surrogates.
        zero_gradients: (N,) bool, the loss gave an all-zero or NaN gradient at some step and the margin loss took over.
        dead: (N,) bool, no loss gave a gradient at some step.
    """

    images: Tensor
    forwards: int
    backwards: int
    zero_gradients: Tensor
    dead: Tensor


def attack(
    networks: Sequence[nn.Module], images: Tensor, classes: Tensor, indices: Tensor, params: AttackParams
) -> AttackBatch:
    """Adversarial images for one batch.

    Args:
        networks: surrogates in eval mode, frozen, from images in [0, 1] to logits (N, K); several make an ensemble.
        images: (N, C, H, W) float32 in [0, 1].
        classes: (N,) int64: true classes when untargeted, wanted classes when targeted.
        indices: (N,) int64: identities of the images in their data set; they key the randomness.
        params: the attack.
    """
    gradients = SurrogateGradients(networks, params, len(images), images.device)
    if params.method.control == "noise":
        found = budget.noise(images, indices, params.eps, params.norm, params.seed)
    elif params.method.control == "identity" or params.eps == 0.0:
        found = images.clone()
    else:
        rows = torch.arange(len(images), device=images.device)
        found = _best_of_restarts(Batch(images, classes, indices, rows), gradients, params)
    return AttackBatch(found, gradients.forwards, gradients.backwards, gradients.zero, gradients.dead)


def _best_of_restarts(batch: Batch, gradients: SurrogateGradients, params: AttackParams) -> Tensor:
    best = batch.images.clone()
    best_loss = best.new_full((len(best),), float("-inf"))
    for restart in range(params.restarts):
        if not len(batch.rows):
            break
        images, loss = run_restart(batch, gradients, params, restart)
        rows = batch.rows
        better = loss > best_loss[rows]
        best[rows[better]], best_loss[rows[better]] = images[better], loss[better]
        if params.goal == "robustness":
            batch = batch.take(loss < float("inf"))
    return best


def run_restart(
    batch: Batch, gradients: SurrogateGradients, params: AttackParams, restart: int
) -> tuple[Tensor, Tensor]:
    """One run over ``batch``: the images reached and their loss.

    For transfer that is the last iterate. For robustness it is the first fooling iterate, whose loss counts as
    infinite and which leaves the batch at once, or else the iterate with the largest loss.
    """
    result, result_loss = batch.images.clone(), batch.images.new_full((len(batch.rows),), float("-inf"))
    places = torch.arange(len(batch.rows), device=result.device)  # of the images still worked on, in result
    stream = restart * _STREAMS
    x = batch.images
    if params.starts_random or restart:
        x = x + budget.random_start(x, batch.indices, params.eps, params.norm, params.seed, stream)
    direction = torch.zeros_like(x)
    for step in range(params.step_count):
        first_stream = stream + _TRANSFORMS + step * params.si_scales
        direction, logits = gradients.direction(batch, x, direction, first_stream)
        if params.goal == "robustness":
            logits = gradients.logits(x) if logits is None else logits
            logits = gradients.confirmed(logits, x, batch.classes)
            hit = _keep_better(result, result_loss, places, x, logits, batch.classes, params)
            if bool(hit.any()):
                left = ~hit
                batch, places, x, direction = batch.take(left), places[left], x[left], direction[left]
                if not len(places):
                    return result, result_loss
        moved = x - batch.images + params.step * budget.steepest_ascent(direction, params.norm)
        x = (batch.images + budget.project(moved, batch.images, params.eps, params.norm)).clamp(0.0, 1.0)
    if params.goal == "transfer" and params.restarts == 1:
        return x, torch.zeros_like(result_loss)  # nothing to compare with: no pass spent on its loss
    logits = gradients.confirmed(gradients.logits(x), x, batch.classes)
    _keep_better(result, result_loss, places, x, logits, batch.classes, params)
    return result, result_loss


def _keep_better(
    result: Tensor,
    result_loss: Tensor,
    places: Tensor,
    x: Tensor,
    logits: Tensor,
    classes: Tensor,
    params: AttackParams,
) -> Tensor:
    """Write those images of ``x`` into ``result`` whose loss there is larger; returns which are fooled, (N,) bool."""
    loss = LOSSES[params.loss](logits, classes, params.targeted).nan_to_num(nan=torch.inf)
    hit = fooled(logits, classes, params.targeted)
    if params.goal == "robustness":
        loss = torch.where(hit, torch.inf, loss)
    better = loss > result_loss[places]
    result[places[better]], result_loss[places[better]] = x[better], loss[better]
    return hit
