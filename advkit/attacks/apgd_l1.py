"""L1-APGD: sparse steps in the L1 ball cut by the box, from larger radii down to eps (Croce and Hein 2021)."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from advkit.attacks import l1_ball
from advkit.attacks.iterative import keep_better
from advkit.attacks.objective import Batch, BatchLoss, Objective
from advkit.attacks.params import AttackParams
from advkit.data import counter_rng
from advkit.metrics.norms import per_image

_WIDER, _SHARE = (3.0, 2.0), 0.3  # radii before the last, in eps, and the part of the steps that each gets
_CHECK = 0.04  # of the steps at a radius: from one check to the next
_RESTART_BELOW = 0.95  # part of the entries moved at the last check below which the step starts anew
_SPARSITY_FACTOR = 1.5  # by which the entries of a step are fewer than those moved, and by which a step shrinks
_MIN_STEP_RATIO = 10.0  # times smaller than the radius the step may become


def phases(steps: int) -> list[tuple[float, int]]:
    """Radii in eps and the steps at each: 30, 30 and 40 of 100. The last has one at least, whatever ``steps`` is."""
    wide = min(math.ceil(_SHARE * steps), (steps - 1) // 2)
    found = [*((factor, wide) for factor in _WIDER), (1.0, steps - len(_WIDER) * wide)]
    return [(factor, count) for factor, count in found if count]


@dataclass
class _State:
    """Of the images still worked on; points and gradients (N, C, H, W), the others (N,).

    Attributes:
        x, gradient: the point, and the loss's gradient there.
        best, best_gradient, best_loss: where the loss was largest at this radius.
        step: L1 length.
        moved: entries in which the best point differed from the image at the last check.
        places: positions in the batch that the run began with.
    """

    x: Tensor
    gradient: Tensor
    best: Tensor
    best_gradient: Tensor
    best_loss: Tensor
    step: Tensor
    moved: Tensor
    places: Tensor

    def take(self, which: Tensor) -> _State:
        """The images at ``which``."""
        return _State(**{one.name: getattr(self, one.name)[which] for one in fields(self)})


def run(
    objective: Objective, batch: Batch, params: AttackParams, streams: Tensor, steps: int, loss: BatchLoss
) -> tuple[Tensor, Tensor]:
    """One run: images and losses, as judged at the last radius, which is eps.

    Each radius starts from the best point of the one before, the first from normal noise, all projected onto it. For
    robustness all copies of an image leave once one fools within eps; the loss of that one is infinite.

    Args:
        objective, batch, params: as of the attack.
        streams: (N,) that key the starts.
        steps: at all radii together.
        loss: larger is better.
    """
    drawn = counter_rng.normal(params.seed, batch.indices, streams, batch.images[0].numel()).view_as(batch.images)
    x, found = batch.images + drawn.to(batch.images.dtype), None
    for factor, count in phases(steps):
        radius = factor * params.eps
        x, found = _at_radius(objective, batch, params, _inside(x, batch.images, radius), radius, count, loss)
    assert found is not None
    return found


def _inside(x: Tensor, images: Tensor, radius: float) -> Tensor:
    return (images + l1_ball.project(x - images, images, radius)).clamp(0.0, 1.0)


def _at_radius(
    objective: Objective, batch: Batch, params: AttackParams, x: Tensor, radius: float, steps: int, loss: BatchLoss
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """``steps`` from ``x`` in the ball of ``radius``: where the loss was largest, and what came of it within eps."""
    reached = x.clone()
    result, result_loss = batch.images.clone(), batch.images.new_full((len(x),), float("-inf"))
    places, last = torch.arange(len(x), device=x.device), radius <= params.eps
    gradient, outputs = objective.gradient(batch, x, loss=loss)
    moved, step = l1_ball.entries_moved(x, batch.images), torch.full_like(result_loss, radius)
    state = _State(x, gradient, x, gradient, objective.comparable_losses(outputs, batch, loss), step, moved, places)
    check = max(int(_CHECK * steps), 1)
    hit = torch.zeros_like(places, dtype=torch.bool)
    if last:
        hit = keep_better(result, result_loss, state.places, x, outputs, objective, batch)
    for number in range(1, steps + 1):
        if params.goal == "robustness" and bool(hit.any()):
            left = batch.others(hit)
            batch, state = batch.take(left), state.take(left)
            if not len(state.places):
                break
        signs = l1_ball.ranked_signs(state.gradient, (state.moved / _SPARSITY_FACTOR).ceil().long())
        state.x = _inside(state.x + per_image(state.step) * signs, batch.images, radius)
        if number < steps:
            state.gradient, outputs = objective.gradient(batch, state.x, loss=loss)
        else:
            outputs = objective.outputs(state.x)
        _note(state, objective.comparable_losses(outputs, batch, loss))
        reached[state.places] = state.best
        if last:
            hit = keep_better(result, result_loss, state.places, state.x, outputs, objective, batch)
        if number % check == 0:
            _adapt(state, l1_ball.entries_moved(state.best, batch.images), radius)
    return reached, (result, result_loss)


def _note(state: _State, loss: Tensor) -> None:
    """Keep the point that was just reached where its loss is the largest so far."""
    better = loss > state.best_loss
    state.best = torch.where(per_image(better), state.x, state.best)
    state.best_gradient = torch.where(per_image(better), state.gradient, state.best_gradient)
    state.best_loss = torch.where(better, loss, state.best_loss)


def _adapt(state: _State, moved: Tensor, radius: float) -> None:
    """A check: the step is the radius again, from the best point, where that became sparser; elsewhere it shrinks."""
    sparser = moved < _RESTART_BELOW * state.moved
    state.step = torch.where(sparser, radius, (state.step / _SPARSITY_FACTOR).clamp(radius / _MIN_STEP_RATIO, radius))
    state.moved = moved
    state.x = torch.where(per_image(sparser), state.best, state.x)
    state.gradient = torch.where(per_image(sparser), state.best_gradient, state.gradient)
