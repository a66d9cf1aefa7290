"""AutoAttack: four attacks one after the other, each on what is left; the worst case of every image counts."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from advkit.attacks.apgd import APGD_CE, APGD_T
from advkit.attacks.attack import Attack
from advkit.attacks.fab import FAB_T
from advkit.attacks.objective import Batch, Objective
from advkit.attacks.params import AttackParams
from advkit.attacks.square import SQUARE

_LEAST_CLASSES = 4  # of the targeted difference of logits ratio
_L1_RESTARTS, _L1_TARGETS = 5, 5  # of the standard version in L1: of apgd-ce, and of apgd-t


def autoattack(
    objective: Objective,
    batch: Batch,
    params: AttackParams,
    *,
    steps: int = 100,
    targets: int = 9,
    queries: int = 5000,
) -> Tensor:
    """A fooling image (N, C, H, W) for each of ``batch`` that has one; the others as the last attack left them.

    The standard four in their order (Croce and Hein 2020): apgd-ce, apgd-t, fab-t with ``steps`` each, the latter two
    towards ``targets`` classes, and square with ``queries``. In L1 apgd-ce has 5 restarts and apgd-t 5 classes at most
    (Croce and Hein 2021). With fewer than 4 classes apgd-t has no loss and is left out.
    """
    several = objective.outputs(batch.images[:1]).shape[1] >= _LEAST_CLASSES
    restarts, likeliest = (_L1_RESTARTS, min(targets, _L1_TARGETS)) if params.norm == "l1" else (1, targets)
    stages: list[tuple[Attack, int, dict[str, int]]] = [
        (APGD_CE, restarts, {"steps": steps}),
        *([(APGD_T, 1, {"steps": steps, "targets": likeliest})] if several else []),
        (FAB_T, 1, {"steps": steps, "targets": targets}),
        (SQUARE, 1, {"queries": queries, "rescale": 0}),
    ]
    begun = objective.load_stage()
    if begun is None:
        done, found = 0, batch.images.clone()
        with objective.in_float32():
            wrong = objective.verdict(objective.outputs(found), found, batch)[0]
        places = (~wrong).nonzero().squeeze(1)  # what is wrong already needs nothing, and counts with no attack
    else:
        done, found, places = begun
    for number, (attack, restarts, given) in enumerate(stages):
        if number < done:
            continue
        if not len(places):
            break
        part = batch.take(places)
        with objective.using(attack.loss):
            images = attack.function(objective, part, replace(params, restarts=restarts), **given)
        with objective.in_float32():  # what a stage found, no rounding takes back
            hit = objective.verdict(objective.outputs(images), images, part)[0]
        found[places] = images
        objective.stages[attack.name] = objective.stages.get(attack.name, 0) + int(hit.sum())
        places = places[~hit]
        objective.save_stage(number + 1, attack.name, found=found, places=places)
    return found


AUTOATTACK = Attack(
    "autoattack",
    "apgd-ce, apgd-t, fab-t and square in this order, the worst case of each image (Croce and Hein 2020)",
    autoattack,
    {"steps": (1, 100_000), "targets": (1, 100_000), "queries": (1, 1_000_000)},
    uses=(),
    loss="margin",
    logits=True,
    chooses_targets=True,
    worst_case=True,
)
