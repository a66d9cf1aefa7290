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
from advkit.attacks.objective import Batch, Objective, View
from advkit.attacks.params import AttackParams
from advkit.data import counter_rng
from advkit.metrics.norms import per_image


def best_of_restarts(objective: Objective, batch: Batch, params: AttackParams) -> Tensor:
    """The strongest result of ``params.restarts`` runs for each image, (N, C, H, W)."""
    best = batch.images.clone()
    best_loss = best.new_full((len(best),), float("-inf"))
    for restart in range(params.restarts):
        if not len(batch.rows):
            break
        images, loss = _run_unchecked(objective, batch, params, restart)
        rows = batch.rows
        better = loss > best_loss[rows]
        best[rows[better]], best_loss[rows[better]] = images[better], loss[better]
        if params.goal == "robustness":
            batch = batch.take(loss < float("inf"))
    return best


def _run_unchecked(objective: Objective, batch: Batch, params: AttackParams, restart: int) -> tuple[Tensor, Tensor]:
    """:func:`run_restart`, where a device computes while the host runs ahead of it.

    No step looks whether a gradient is zero; images that had such a one are run again, with a look at each, and both
    runs count.
    """
    if objective.synchronises:
        return run_restart(objective, batch, params, restart)
    with objective.unchecked_gradients() as unchecked:
        images, loss = run_restart(objective, batch, params, restart)
    again = unchecked[batch.rows]
    if bool(again.any()):
        images[again], loss[again] = run_restart(objective, batch.take(again), params, restart)
    return images, loss


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
    direction = variance = torch.zeros_like(x)
    for step in range(params.step_count):
        direction, variance, outputs = _direction(objective, batch, x, direction, variance, restart, step)
        if params.goal == "robustness":
            outputs = objective.outputs(x) if outputs is None else outputs
            hit = keep_better(result, result_loss, places, x, outputs, objective, batch)
            if bool(hit.any()):
                left = ~hit
                batch, places, x = batch.take(left), places[left], x[left]
                direction, variance = direction[left], variance[left]
                if not len(places):
                    return result, result_loss
        moved = x - batch.images + budget.ascent(direction, x, params.step, params.norm)
        x = (batch.images + budget.project(moved, batch.images, params.eps, params.norm)).clamp(0.0, 1.0)
    if params.goal == "transfer" and params.restarts == 1:
        return x, torch.zeros_like(result_loss)  # nothing to compare with: no pass spent on its loss
    keep_better(result, result_loss, places, x, objective.outputs(x), objective, batch)
    return result, result_loss


def _direction(
    objective: Objective,
    batch: Batch,
    x: Tensor,
    momentum: Tensor,
    variance: Tensor,
    restart: int,
    step: int,
) -> tuple[Tensor, Tensor, Any | None]:
    """The direction to follow from ``x``, the variance there, and the outputs where the gradient was taken just there.

    Args:
        objective: the surrogates.
        batch: the clean images and their keys.
        x: (N, C, H, W) current points.
        momentum: the last direction, same shape.
        variance: of the gradients around the last points, same shape.
        restart, step: they key what is drawn.
    """
    params, method, point = objective.params, objective.params.method, x
    for one in method.hooked("look_ahead"):
        point = one.function(x, momentum, params.step, params.norm, **method.of(one.name))
    gradient, outputs = _mean_gradient(objective, batch, point, restart, step)
    found = gradient + variance if method.hooked("variance") else gradient
    for one in method.hooked("variance") if step + 1 < params.step_count else ():  # the last is used by no step
        key = (restart, step)
        around = one.function(point, batch.indices, params.seed, key, params.eps, params.norm, **method.of(one.name))
        there = [_mean_gradient(objective, batch, neighbour, restart, step)[0] for neighbour in around]
        variance = torch.stack(there).mean(0) - gradient
    for one in method.hooked("filter"):
        found = one.function(found, **method.of(one.name))
    for one in method.hooked("accumulate"):
        found = one.function(found, momentum, **method.of(one.name))
    return found, variance, None if method.gradient_off_iterate else outputs


def _mean_gradient(objective: Objective, batch: Batch, point: Tensor, restart: int, step: int) -> tuple[Tensor, Any]:
    """The mean of the gradients at all views of ``point``, and the outputs at the first."""
    params, method = objective.params, objective.params.method
    changes = [one for one in method.modifiers if one.hook in ("mix", "copies", "view")]

    def seen(number: int) -> View | None:
        copy = method.numbered(number)

        def view(points: Tensor, part: Batch) -> Tensor:
            for one in method.hooked("mix"):  # by its own number: the copies of a mixture share the partner
                drawn = counter_rng.stream(one.name, restart, step, copy[one.name])
                points = one.function(points, part.indices, params.seed, drawn, part.partners, **method.of(one.name))
            for one in method.hooked("copies"):
                points = one.function(points, copy[one.name], **method.of(one.name))
            for one in method.hooked("view"):
                drawn = counter_rng.stream(one.name, restart, step, number)
                points = one.function(points, part.indices, params.seed, drawn, **method.of(one.name))
            return points

        return view if changes else None

    gradient, outputs = objective.gradient(batch, point, seen(0))
    for number in range(1, method.copies):
        gradient = gradient + objective.gradient(batch, point, seen(number))[0]
    return gradient / method.copies, outputs


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
    loss = objective.comparable(loss.to(result_loss.dtype))
    if objective.params.goal == "robustness":
        loss = torch.where(hit, torch.inf, loss)
    before = result_loss[places]
    better = loss > before  # without a mask as an index, for whose length the host would wait
    result[places] = torch.where(per_image(better), written, result[places])
    result_loss[places] = torch.where(better, loss, before)
    return hit


FGSM = Attack("fgsm", "one step of size eps (Goodfellow et al. 2015)", best_of_restarts, {}, base=True)
PGD = Attack("pgd", "steps of 2.5 eps/steps from a random start (Madry et al. 2018)", best_of_restarts, {}, base=True)
ITERATIVE = Attack(
    "iterative", "steps of eps/steps (Kurakin et al. 2017), for modifiers", best_of_restarts, {}, base=True
)
