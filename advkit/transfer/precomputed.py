"""Adversarial sets that were made before: every victim looks, nobody attacks."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from advkit.attacks import budget
from advkit.attacks.dataset import CLEAN_WRONG
from advkit.data.images import ImageSet
from advkit.files.adversarial import AdversarialSet
from advkit.tasks.prediction import predict_all
from advkit.tasks.task import task_of
from advkit.transfer.matrix import Plan, SurrogateRun


def precomputed(
    plan: Plan,
    data: ImageSet,
    found: AdversarialSet,
    name: str,
    crafted_on: tuple[int, ...],
    positions: Tensor,
    check: Callable[[Tensor, Tensor], None],
) -> SurrogateRun:
    """Let every victim look at a ready-made adversarial set.

    Args:
        plan: models, batch size, device.
        data: clean images.
        found: the set; what its surrogates said of it stands in the file.
        name: of the row.
        crafted_on: positions of the models that it was made on.
        positions: (N,) where in ``data`` the clean image of each adversarial one is.
        check: called with each batch of adversarial and clean images; raises when they don't belong together.
    """
    attack = found.meta["attack"]
    eps, norm, seed = float(attack["eps"]), attack["norm"], int(attack["seed"])
    # Made beforehand, as in matrix.merged: small arrays kept from every batch would let the heap grow.
    victims, flipped, noise = torch.empty(3, len(plan.networks), *found.prediction.shape, dtype=torch.int64)
    for start in range(0, len(positions), plan.batch_size):
        rows = torch.arange(start, min(start + plan.batch_size, len(positions)))
        adversarial = found.images(rows).to(plan.device)
        clean = data.batch(positions[rows])[0].to(plan.device)
        check(adversarial, clean)
        victims[:, rows] = predict_all(plan.networks, adversarial)
        flipped[:, rows] = predict_all(plan.networks, budget.negated_perturbation(adversarial, clean))
        indices = found.index[rows].to(plan.device)
        noise[:, rows] = predict_all(plan.networks, budget.noise(clean, indices, eps, norm, seed))
    return SurrogateRun(
        task_of(plan.networks),
        name,
        attack["method"],
        positions.numpy(),
        found.target.numpy(),
        attack["targeted"],
        norm,
        eps,
        attack["goal"],
        crafted_on,
        victims.numpy(),
        flipped.numpy(),
        found.prediction.numpy(),
        found.outcome.numpy() != CLEAN_WRONG,
        noise.numpy(),
    )
