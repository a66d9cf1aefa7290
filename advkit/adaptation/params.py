"""The settings of an adaptation."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

RULES = ("last", "source-val", "im", "snd", "bnm", "oracle")


@dataclass(frozen=True)
class AdaptationParams:
    """Everything that decides an adaptation besides the training itself.

    Attributes:
        method: a name in :data:`advkit.adaptation.registry.METHODS`.
        weight: of what the method adds: factor of its gradient reversal, or of its loss.
        threshold: least score of a pseudo-label, in [0, 1], where the method makes any.
        teacher_ema: decay for each step of the mean teacher's average.
        select: which epoch is kept, of :data:`RULES`.
        target_labels: whether the target's labels are read, for ``oracle`` and for comparison.
    """

    method: str = "none"
    weight: float = 1.0
    threshold: float = 0.9
    teacher_ema: float = 0.9996
    select: str = "last"
    target_labels: bool = False

    def to_json(self) -> dict[str, Any]:
        """The settings as JSON values."""
        return asdict(self)
