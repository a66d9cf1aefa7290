"""What an attack is held against: noise of its size, and nothing at all."""

from __future__ import annotations

from torch import Tensor

from advkit.attacks import budget
from advkit.attacks.attack import Attack
from advkit.attacks.objective import Batch, Objective
from advkit.attacks.params import AttackParams


def noise(objective: Objective, batch: Batch, params: AttackParams) -> Tensor:
    """Noise of full norm, whatever the surrogates say."""
    return budget.noise(batch.images, batch.indices, params.eps, params.norm, params.seed)


def identity(objective: Objective, batch: Batch, params: AttackParams) -> Tensor:
    """The clean images."""
    return batch.images.clone()


NOISE = Attack(
    "noise",
    "random signs times eps, or a random direction of length eps: no gradient at all",
    noise,
    {},
    uses=(),
    loss="ce",
    gradients=False,
)
IDENTITY = Attack("identity", "the clean images", identity, {}, uses=(), loss="ce", gradients=False)
