"""One attack on one batch, by whatever method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from advkit.attacks import budget
from advkit.attacks.objective import Batch, Objective
from advkit.attacks.params import AttackParams


@dataclass
class AttackBatch:
    """Result for one batch.

    Attributes:
        images: (N, C, H, W) float32 in [0, 1], inside the budget around the clean ones.
        forwards, backwards: passes summed over images and surrogates.
        zero_gradients: (N,) bool, the loss gave an all-zero or NaN gradient at some step and the task's fallback loss
            took over.
        dead: (N,) bool, no loss gave a gradient at some step.
    """

    images: Tensor
    forwards: int
    backwards: int
    zero_gradients: Tensor
    dead: Tensor


def attack(
    networks: Sequence[nn.Module], images: Tensor, targets: Tensor, indices: Tensor, params: AttackParams
) -> AttackBatch:
    """Adversarial images for one batch.

    Args:
        networks: surrogates in eval mode, frozen, from images in [0, 1] to raw outputs; several make an ensemble.
        images: (N, C, H, W) float32 in [0, 1].
        targets: (N, ...) what the task wants of each image when untargeted, what the attacker wants when targeted.
        indices: (N,) int64: identities of the images in their data set; they key the randomness.
        params: the attack.

    Raises:
        InputError: surrogates of different tasks, without gradients where the method needs them; 8-bit results asked
            for where no level lies in reach.
    """
    objective = Objective(networks, params, len(images), images.device)
    method = params.method
    if params.eps == 0.0:
        found = images.clone()
    else:
        batch = Batch(images, targets, indices, torch.arange(len(images), device=images.device))
        found = method.attack.function(objective, batch, params, **method.of(method.attack.name))
    if params.quantize and len(images):
        found = budget.quantize(found, images, params.eps, params.norm).to(images.dtype) / budget.LEVELS
    return AttackBatch(found, objective.forwards, objective.backwards, objective.zero, objective.dead)
