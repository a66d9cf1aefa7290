"""Which wrong classes an attack aims at by itself."""

from __future__ import annotations

from torch import Tensor

from advkit.attacks.objective import Batch, Objective


def ranked_targets(objective: Objective, batch: Batch, most: int) -> Tensor:
    """(N, K) int64: the wrong classes of the images of ``batch``, the likeliest first, ``most`` at most."""
    logits: Tensor = objective.outputs(batch.images)
    wrong = logits.scatter(1, batch.targets[:, None], float("-inf")).argsort(dim=1, descending=True, stable=True)
    return wrong[:, : min(most, logits.shape[1] - 1)]


def likeliest_first(targets: int) -> list[slice]:
    """Which of ``targets`` ranks are tried together: the likeliest class by itself, which often does, then the rest."""
    return [group for group in (slice(0, 1), slice(1, targets)) if targets > group.start]
