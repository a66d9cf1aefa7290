"""FAB-T: the nearest fooling image by steps along linearised boundaries (Croce and Hein 2020), towards each class."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from advkit.attacks.attack import Attack
from advkit.attacks.hyperplane import to_hyperplane
from advkit.attacks.objective import Batch, Objective
from advkit.attacks.params import AttackParams
from advkit.attacks.target_ranks import likeliest_first, ranked_targets
from advkit.metrics.norms import flat_norm, per_image


def fab_t(
    objective: Objective,
    batch: Batch,
    params: AttackParams,
    *,
    steps: int = 100,
    targets: int = 9,
    alpha: float = 0.1,
    eta: float = 1.05,
    beta: float = 0.9,
) -> Tensor:
    """The nearest fooling image (N, C, H, W) found for each of ``batch``; the clean one where there is none.

    Each step goes beyond the linearised boundary with one of the ``targets`` likeliest wrong classes (the first by
    itself, then the others side by side) by a factor ``eta``, drawn by at most ``alpha`` towards the point of that
    boundary nearest to the clean image; from a fooling point it goes back to ``beta`` of the way. With an eps, images
    that need more stay clean, and for robustness an image leaves once it fools within eps. Differences of logits near a
    boundary are small: passes are of float32 whatever the attack's precision.
    """
    with objective.in_float32():
        return _nearest(objective, batch, params, steps, targets, alpha, eta, beta)


def _nearest(
    objective: Objective,
    batch: Batch,
    params: AttackParams,
    steps: int,
    targets: int,
    alpha: float,
    eta: float,
    beta: float,
) -> Tensor:
    best = batch.images.clone()
    best_norm = best.new_full((len(best),), torch.inf)
    wrong = objective.verdict(objective.outputs(batch.images), batch.images, batch)[0]
    best_norm[wrong] = 0.0
    aims = ranked_targets(objective, batch, targets)
    for group in likeliest_first(aims.shape[1]):
        places = (~_done(best_norm, params)).nonzero().squeeze(1)
        for block in objective.blocks(places, aims[:, group].shape[1]):
            part = batch.take(block).copied(aims[block][:, group])
            found, norm = _run(objective, part, params, steps, alpha, eta, beta)
            least, chosen = norm.view(len(block), -1).min(1)
            rows = torch.arange(len(block), device=best.device) * (len(norm) // len(block)) + chosen
            closer = least < best_norm[block]
            best[block[closer]], best_norm[block[closer]] = found[rows[closer]], least[closer]
    return torch.where(per_image(best_norm <= params.eps * (1.0 + 1e-6)), best, batch.images)


def _run(
    objective: Objective, batch: Batch, params: AttackParams, steps: int, alpha: float, eta: float, beta: float
) -> tuple[Tensor, Tensor]:
    """One run towards the aims: nearest fooling images and their norms, infinite where there is none."""
    best, best_norm = batch.images.clone(), batch.images.new_full((len(batch.rows),), torch.inf)
    places, x = torch.arange(len(best), device=best.device), batch.images
    ahead, gradient, _ = _boundary(objective, batch, x)
    for step in range(1, steps + 1):
        x = _step(x, batch.images, ahead, gradient, params, alpha, eta)
        if step < steps:
            ahead, gradient, outputs = _boundary(objective, batch, x)
        else:
            outputs = objective.outputs(x)
        hit = objective.verdict(outputs, x, batch)[0]
        norm = flat_norm(x - batch.images, params.norm)
        closer = hit & (norm < best_norm[places])
        best[places[closer]], best_norm[places[closer]] = x[closer], norm[closer]
        done = _done(best_norm[places], params)
        if bool(done.any()):
            left = batch.others(done)
            batch, places, x, hit = batch.take(left), places[left], x[left], hit[left]
            ahead, gradient = ahead[left], gradient[left]
        if not len(places):
            break
        if step < steps and bool(hit.any()):
            x = torch.where(per_image(hit), batch.images + beta * (x - batch.images), x)
            ahead, gradient = ahead.clone(), gradient.clone()  # which may be expanded in memory
            ahead[hit], gradient[hit], _ = _boundary(objective, batch.take(hit), x[hit])
    return best, best_norm


def _done(norm: Tensor, params: AttackParams) -> Tensor:
    """(N,) bool: nothing is left to find."""
    if params.goal == "robustness" and params.eps < float("inf"):
        return norm <= params.eps
    return norm == 0.0


def _boundary(objective: Objective, batch: Batch, x: Tensor) -> tuple[Tensor, Tensor, Any]:
    """(N,) how far ``x`` is beyond the boundary with the aims, in logits; its gradient; and the outputs at ``x``."""

    def difference(outputs: Any, part: Batch) -> Tensor:
        assert part.aims is not None
        wanted, own = (outputs.gather(1, one[:, None]).squeeze(1) for one in (part.aims, part.targets))
        return wanted - own  # type: ignore[no-any-return]

    gradient, outputs = objective.gradient(batch, x, loss=difference)
    return difference(outputs, batch).to(x.dtype), gradient, outputs


def _step(
    x: Tensor, images: Tensor, ahead: Tensor, gradient: Tensor, params: AttackParams, alpha: float, eta: float
) -> Tensor:
    """The next points."""
    w, here, clean = gradient.flatten(1), x.flatten(1), images.flatten(1)
    from_here = to_hyperplane(here, w, -ahead, params.norm)
    from_clean = to_hyperplane(clean, w, -(ahead + (w * (clean - here)).sum(1)), params.norm)
    sizes = [flat_norm(one.view_as(x), params.norm).clamp_min(1e-8) for one in (from_here, from_clean)]
    pull = (sizes[0] / (sizes[0] + sizes[1])).clamp_max(alpha)[:, None]
    mixed = (here + eta * from_here) * (1.0 - pull) + (clean + eta * from_clean) * pull
    return mixed.clamp(0.0, 1.0).view_as(x)


FAB_T = Attack(
    "fab-t",
    "nearest image beyond linearised boundaries (Croce and Hein 2020), towards each of the likeliest wrong classes",
    fab_t,
    {
        "steps": (1, 100_000),
        "targets": (1, 100_000),
        "alpha": (0.0, 1.0),
        "eta": (1.0, 10.0),
        "beta": (0.0, 1.0),
    },
    uses=(),
    loss="margin",
    minimal_norm=True,
    logits=True,
    chooses_targets=True,
)
