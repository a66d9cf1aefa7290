"""Steps along gradients: fgsm, pgd, and the plain iterative method that modifiers turn into mi, di, ti and the rest.

Images never influence each other: losses are per image, randomness is keyed to the image, and a step uses the image's
own gradient only.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from advkit.attacks import budget
from advkit.attacks.attack import Attack
from advkit.attacks.objective import Batch, Objective
from advkit.attacks.params import AttackParams
from advkit.data import counter_rng


def best_of_restarts(objective: Objective, batch: Batch, params: AttackParams) -> Tensor:
    """The strongest result of ``params.restarts`` runs for each image, (N, C, H, W)."""
    best = batch.images.clone()
    best_loss = best.new_full((len(best),), float("-inf"))
    for restart in range(params.restarts):
        if not len(batch.rows):
            break
        images, loss = run_restart(objective, batch, params, restart)
        rows = batch.rows
        better = loss > best_loss[rows]
        best[rows[better]], best_loss[rows[better]] = images[better], loss[better]
        if params.goal == "robustness":
            batch = batch.take(loss < float("inf"))
    return best


def run_restart(objective: Objective, batch: Batch, params: AttackParams, restart: int) -> tuple[Tensor, Tensor]:
    """One run over ``batch``: the images reached and their loss.

    For transfer that is the last iterate. For robustness it is the first fooling iterate, whose loss counts as
    infinite and which leaves the batch at once, or else the iterate with the largest loss.
    """
    result, result_loss = batch.images.clone(), batch.images.new_full((len(batch.rows),), float("-inf"))
    places = torch.arange(len(batch.rows), device=result.device)  # of the images still worked on, in result
    x = batch.images
    if params.starts_random or restart:
        x = x + budget.random_start(x, batch.indices, params.eps, params.norm, params.seed, restart)
    direction = torch.zeros_like(x)
    for step in range(params.step_count):
        direction, outputs = _direction(objective, batch, x, direction, restart, step)
        if params.goal == "robustness":
            outputs = objective.outputs(x) if outputs is None else outputs
            hit = keep_better(result, result_loss, places, x, outputs, objective, batch)
            if bool(hit.any()):
                left = ~hit
                batch, places, x, direction = batch.take(left), places[left], x[left], direction[left]
                if not len(places):
                    return result, result_loss
        moved = x - batch.images + params.step * budget.steepest_ascent(direction, params.norm)
        x = (batch.images + budget.project(moved, batch.images, params.eps, params.norm)).clamp(0.0, 1.0)
    if params.goal == "transfer" and params.restarts == 1:
        return x, torch.zeros_like(result_loss)  # nothing to compare with: no pass spent on its loss
    keep_better(result, result_loss, places, x, objective.outputs(x), objective, batch)
    return result, result_loss


def _direction(
    objective: Objective, batch: Batch, x: Tensor, momentum: Tensor, restart: int, step: int
) -> tuple[Tensor, Any | None]:
    """The direction to follow from ``x``, and the outputs at ``x`` where the gradient was taken just there.

    Args:
        objective: the surrogates.
        batch: the clean images and their keys.
        x: (N, C, H, W) current points.
        momentum: the last direction, same shape.
        restart, step: they key what is drawn.
    """
    params, method, point = objective.params, objective.params.method, x
    for one in method.hooked("look_ahead"):
        point = one.function(x, momentum, params.step, params.norm, **method.of(one.name))
    views, copiers = method.hooked("view"), method.hooked("copies")
    count = max([1, *(len(one.function(x[:0], **method.of(one.name))) for one in copiers)])

    def seen(copy: int) -> Any:
        def view(points: Tensor, part: Batch) -> Tensor:
            for one in copiers:
                points = one.function(points, **method.of(one.name))[copy]
            for one in views:
                drawn = counter_rng.stream(one.name, restart, step, copy)
                points = one.function(points, part.indices, params.seed, drawn, **method.of(one.name))
            return points

        return view if views or copiers else None

    gradient, outputs = objective.gradient(batch, point, seen(0))
    for copy in range(1, count):
        gradient = gradient + objective.gradient(batch, point, seen(copy))[0]
    gradient = gradient / count
    for one in method.hooked("filter"):
        gradient = one.function(gradient, **method.of(one.name))
    for one in method.hooked("accumulate"):
        gradient = one.function(gradient, momentum, **method.of(one.name))
    return gradient, None if method.gradient_off_iterate else outputs


def keep_better(
    result: Tensor,
    result_loss: Tensor,
    places: Tensor,
    x: Tensor,
    outputs: Any,
    objective: Objective,
    batch: Batch,
) -> Tensor:
    """Write those images of ``x`` into ``result`` whose loss there is larger; returns which are fooled, (N,) bool.

    Args:
        result, result_loss: (M, C, H, W) and (M,), written to.
        places: (N,) int64, where in them the images of ``batch`` are.
        x: (N, C, H, W) points around the images of ``batch``.
        outputs: of the networks at ``x``.
        objective, batch: as of the attack.
    """
    hit, loss, written = objective.verdict(outputs, x, batch)
    loss = loss.to(result_loss.dtype).nan_to_num(nan=torch.inf)
    if objective.params.goal == "robustness":
        loss = torch.where(hit, torch.inf, loss)
    better = loss > result_loss[places]
    result[places[better]], result_loss[places[better]] = written[better], loss[better]
    return hit


FGSM = Attack("fgsm", "one step of size eps (Goodfellow et al. 2015)", best_of_restarts, {}, base=True)
PGD = Attack("pgd", "steps of 2.5 eps/steps from a random start (Madry et al. 2018)", best_of_restarts, {}, base=True)
ITERATIVE = Attack(
    "iterative", "steps of eps/steps (Kurakin et al. 2017), for modifiers", best_of_restarts, {}, base=True
)
