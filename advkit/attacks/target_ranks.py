"""Which wrong classes an attack aims at by itself."""

from __future__ import annotations

from torch import Tensor

from advkit.attacks.objective import Batch, Objective


def ranked_targets(objective: Objective, batch: Batch, most: int) -> list[Tensor]:
    """(N,) int64 each: the wrong classes of the images of ``batch``, the likeliest first, ``most`` at most."""
    logits = objective.outputs(batch.images)
    wrong = logits.scatter(1, batch.targets[:, None], float("-inf")).argsort(dim=1, descending=True, stable=True)
    return [wrong[:, rank] for rank in range(min(most, logits.shape[1] - 1))]
