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
from advkit.transfer.matrix import Plan
from advkit.transfer.outcomes import SurrogateRun, Verdicts, predicted


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
    attack, task = found.meta["attack"], task_of(plan.networks)
    eps, norm, seed, targeted = float(attack["eps"]), attack["norm"], int(attack["seed"]), attack["targeted"]
    # Made beforehand, as in matrix.merged: small arrays kept from every batch would let the heap grow.
    victims = Verdicts.room(len(plan.networks), len(positions))
    for start in range(0, len(positions), plan.batch_size):
        rows = torch.arange(start, min(start + plan.batch_size, len(positions)))
        adversarial = found.images(rows).to(plan.device)
        clean = data.batch(positions[rows])[0].to(plan.device)
        check(adversarial, clean)
        noise = budget.noise(clean, found.index[rows].to(plan.device), eps, norm, seed)
        seen = predicted(plan.networks, adversarial, clean, predict_all(plan.networks, noise))
        victims.put(rows, seen.verdicts(task, found.prediction[rows], found.target[rows], targeted))
    return SurrogateRun(
        name,
        attack["method"],
        positions.numpy(),
        norm,
        eps,
        attack["goal"],
        crafted_on,
        found.outcome.numpy() != CLEAN_WRONG,
        task.is_success(found.prediction, found.target, targeted).numpy(),
        victims,
    )
