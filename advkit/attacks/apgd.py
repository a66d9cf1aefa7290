"""APGD: projected gradients whose step halves by itself where the loss no longer rises (Croce and Hein 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from advkit.attacks import apgd_l1, budget
from advkit.attacks.attack import Attack
from advkit.attacks.iterative import keep_better
from advkit.attacks.objective import Batch, BatchLoss, Objective
from advkit.attacks.params import AttackParams
from advkit.attacks.target_ranks import likeliest_first, ranked_targets
from advkit.data import canvas, counter_rng
from advkit.metrics.norms import Norm, flat_norm, per_image
from advkit.tasks.dlr import targeted_dlr

_MOMENTUM = 0.75  # share of the new step, of which the last one has the rest
_FIRST, _SHORTER, _LEAST = 0.22, 0.03, 0.06  # of the steps: the first check, how much sooner each next one, the soonest


def apgd(objective: Objective, batch: Batch, params: AttackParams, *, steps: int = 100, rho: float = 0.75) -> Tensor:
    """The best image (N, C, H, W) found for each of ``batch`` by the attack's loss.

    From a random start on the budget's edge, with steps of twice eps at first. The step halves, and the best point is
    returned to, where the loss rose in no more than ``rho`` of the steps since the last check, or where neither the
    step nor the best loss changed since. Checks come sooner and sooner. In L1 the steps are sparse, from radii of three
    and two times eps down to eps, and ``rho`` says nothing (:mod:`~advkit.attacks.apgd_l1`).
    """
    streams = [counter_rng.streams("apgd start", [(restart,)]) for restart in range(params.restarts)]
    return _best_of(objective, batch, params, [(one, None) for one in streams], steps, rho)


def apgd_t(
    objective: Objective, batch: Batch, params: AttackParams, *, steps: int = 100, rho: float = 0.75, targets: int = 9
) -> Tensor:
    """As :func:`apgd` by the targeted difference of logits ratio, towards the ``targets`` likeliest wrong classes.

    After the likeliest by itself the others go side by side; for robustness an image leaves once any of them fools.
    """
    aims = ranked_targets(objective, batch, targets)
    ranks, runs = range(aims.shape[1]), []
    for restart in range(params.restarts):
        for group in likeliest_first(len(ranks)):
            numbers = [(1 + rank + len(ranks) * restart,) for rank in ranks[group]]
            runs.append((counter_rng.streams("apgd start", numbers), aims[:, group]))
    return _best_of(objective, batch, params, runs, steps, rho)


def _best_of(
    objective: Objective,
    batch: Batch,
    params: AttackParams,
    runs: Sequence[tuple[Tensor, Tensor | None]],
    steps: int,
    rho: float,
) -> Tensor:
    """The strongest result of several runs for each image, (N, C, H, W).

    Each of ``runs`` has (G,) streams that key the starts of G copies of every image, and (N, G) classes to aim at.
    """
    best, best_loss = batch.images.clone(), batch.images.new_full((len(batch.rows),), float("-inf"))
    places = torch.arange(len(batch.rows), device=best.device)
    if params.goal == "robustness":  # what is wrong already needs nothing
        hit = keep_better(best, best_loss, places, best.clone(), objective.outputs(best), objective, batch)
        places = places[~hit]
    for streams, aims in runs:
        for block in objective.blocks(places, len(streams)):
            part = batch.take(block) if aims is None else batch.take(block).copied(aims[block])
            images, losses = _run(objective, part, params, streams.to(best.device).repeat(len(block)), steps, rho)
            loss, chosen = losses.view(len(block), -1).max(1)
            rows = torch.arange(len(block), device=best.device) * len(streams) + chosen
            better = loss > best_loss[block]
            best[block[better]], best_loss[block[better]] = images[rows[better]], loss[better]
        if params.goal == "robustness":
            places = places[~torch.isposinf(best_loss[places])]
    return best


@dataclass
class _State:
    """Of the images still worked on; points and gradients (N, C, H, W), the others (N,).

    Attributes:
        x, before: the point, and the one before it.
        gradient, loss: at ``x``.
        best, best_gradient, best_loss: where the loss was largest.
        step: its size.
        rises: steps since the last check in which the loss rose.
        checked_loss: ``best_loss`` at the last check.
        halved: whether the last check halved the step; true at first, so that the first one goes by ``rises`` alone.
        places: positions in the batch that the run began with.
    """

    x: Tensor
    before: Tensor
    gradient: Tensor
    loss: Tensor
    best: Tensor
    best_gradient: Tensor
    best_loss: Tensor
    step: Tensor
    rises: Tensor
    checked_loss: Tensor
    halved: Tensor
    places: Tensor

    def take(self, which: Tensor) -> _State:
        """The images at ``which``."""
        return _State(**{one.name: getattr(self, one.name)[which] for one in fields(self)})


def _run(
    objective: Objective,
    batch: Batch,
    params: AttackParams,
    streams: Tensor,
    steps: int,
    rho: float,
) -> tuple[Tensor, Tensor]:
    """One run: images and losses, as judged. For robustness all copies of an image leave once one fools.

    The loss of that one is infinite. ``streams`` (N,) key the starts.
    """
    if params.norm == "l1":
        return apgd_l1.run(objective, batch, params, streams, steps, _loss(objective))
    result, result_loss = batch.images.clone(), batch.images.new_full((len(batch.rows),), float("-inf"))
    places = torch.arange(len(batch.rows), device=result.device)
    x = (batch.images + _edge_start(batch, params, streams)).clamp(0.0, 1.0)
    gradient, outputs = objective.gradient(batch, x, loss=_loss(objective))
    loss = objective.comparable_losses(outputs, batch, _loss(objective))
    zeros = torch.zeros_like(loss)
    state = _State(
        x, x, gradient, loss, x, gradient, loss, zeros + 2.0 * params.eps, zeros, loss, zeros == 0, places
    )  # fmt: skip
    check, since = max(int(_FIRST * steps), 1), 0
    hit = keep_better(result, result_loss, state.places, state.x, outputs, objective, batch)
    for step in range(steps):
        if params.goal == "robustness" and bool(hit.any()):
            left = batch.others(hit)
            batch, state = batch.take(left), state.take(left)
            if not len(state.places):
                break
        moved = _moved(state, batch, params, share=_MOMENTUM if step else 1.0)
        state.before, state.x = state.x, moved
        if step + 1 < steps:
            state.gradient, outputs = objective.gradient(batch, state.x, loss=_loss(objective))
        else:
            outputs = objective.outputs(state.x)
        _count(state, objective.comparable_losses(outputs, batch, _loss(objective)))
        hit = keep_better(result, result_loss, state.places, state.x, outputs, objective, batch)
        since += 1
        if since == check:  # after the verdict, for it moves points away from where the outputs were taken
            _halve(state, rho * check)
            check, since = max(check - max(int(_SHORTER * steps), 1), max(int(_LEAST * steps), 1)), 0
    return result, result_loss


def _loss(objective: Objective) -> BatchLoss:
    """The attack's own loss, or the targeted one towards the aims of the batch."""
    own = objective.task.attack_losses[objective.loss]

    def loss(outputs: Any, part: Batch) -> Tensor:
        if part.aims is None:
            return own(outputs, part.targets, objective.params.targeted)
        return targeted_dlr(outputs, part.targets, part.aims)

    return loss


def _edge_start(batch: Batch, params: AttackParams, streams: Tensor) -> Tensor:
    """A random perturbation of full length: its largest entry, or its L2 norm, is eps; ``streams`` (N,) key it."""
    images, size = batch.images, batch.images[0].numel()
    if params.norm == "linf":
        drawn = counter_rng.uniform(params.seed, batch.indices, streams, size) * 2.0 - 1.0
    else:
        drawn = counter_rng.normal(params.seed, batch.indices, streams, size)
    drawn = canvas.where_pixels(drawn.view_as(images), images)
    length = flat_norm(drawn, params.norm).clamp_min(1e-12)
    return budget.project(drawn * per_image(params.eps / length), images, params.eps, params.norm)


def _moved(state: _State, batch: Batch, params: AttackParams, share: float) -> Tensor:
    """The next points: a projected step, mixed with the last one."""
    images, last = batch.images, state.x - state.before

    def inside(x: Tensor) -> Tensor:
        return (images + budget.project(x - images, images, params.eps, params.norm)).clamp(0.0, 1.0)

    ahead = inside(state.x + per_image(state.step) * budget.steepest_ascent(state.gradient, params.norm))
    return inside(state.x + share * (ahead - state.x) + (1.0 - share) * last)


def _count(state: _State, loss: Tensor) -> None:
    """Note the loss at the point that was just reached."""
    state.rises = state.rises + (loss > state.loss)
    better = loss > state.best_loss
    state.best = torch.where(per_image(better), state.x, state.best)
    state.best_gradient = torch.where(per_image(better), state.gradient, state.best_gradient)
    state.best_loss = torch.where(better, loss, state.best_loss)
    state.loss = loss


def _halve(state: _State, enough: float) -> None:
    """A check: halve the step where too few steps since the last one were any good, and go back to the best point."""
    stuck = ~state.halved & (state.checked_loss >= state.best_loss)
    state.halved = (state.rises <= enough) | stuck
    state.checked_loss, state.rises = state.best_loss, torch.zeros_like(state.rises)
    state.step = torch.where(state.halved, state.step / 2.0, state.step)
    back = per_image(state.halved)
    state.x = torch.where(back, state.best, state.x)
    state.gradient = torch.where(back, state.best_gradient, state.gradient)


_STEPS: dict[str, tuple[float, float]] = {"steps": (1, 100_000), "rho": (0.0, 1.0)}
_CITED = "steps that halve by themselves (Croce and Hein 2020)"
_IDLE: dict[Norm, tuple[str, ...]] = {"l1": ("rho",)}
APGD_CE = Attack("apgd-ce", f"cross-entropy, {_CITED}", apgd, _STEPS, idle=_IDLE, uses=("restarts",), logits=True)
APGD_DLR = Attack(
    "apgd-dlr",
    f"difference of logits ratio, {_CITED}",
    apgd,
    _STEPS,
    idle=_IDLE,
    uses=("restarts",),
    loss="dlr",
    logits=True,
)
APGD_T = Attack(
    "apgd-t",
    f"towards each of the likeliest wrong classes, {_CITED}",
    apgd_t,
    {**_STEPS, "targets": (1, 100_000)},
    idle=_IDLE,
    uses=("restarts",),
    loss="margin",
    logits=True,
    chooses_targets=True,
)
