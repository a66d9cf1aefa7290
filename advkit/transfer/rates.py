"""The four transfer rates, with their counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RATES = ("cond", "both", "raw", "same")


@dataclass(frozen=True)
class SurrogateOutcome:
    """What is known of the surrogate, image by image.

    Attributes:
        correct: (N,) bool, right on the clean image.
        fooled: (N,) bool, the attack's aim is reached: another prediction than the true one, or the target.
    """

    correct: np.ndarray
    fooled: np.ndarray


@dataclass(frozen=True)
class VictimOutcome:
    """The same for the victim.

    Attributes:
        correct, fooled: as of :class:`SurrogateOutcome`.
        alike: (N,) bool, its prediction for the adversarial image is the surrogate's, see :func:`alike`.
    """

    correct: np.ndarray
    fooled: np.ndarray
    alike: np.ndarray


@dataclass(frozen=True)
class TransferCounts:
    """Successes among the images that count, for each rate (see :func:`count`)."""

    cond: tuple[int, int]
    both: tuple[int, int]
    raw: tuple[int, int]
    same: tuple[int, int]


def count(pairs: Sequence[tuple[SurrogateOutcome, VictimOutcome]]) -> TransferCounts:
    """Count the successes of one method, or of the union of several.

    ``cond``: S and V right on clean and S fooled; V fooled by the same image (LOTOS, 2025).
    ``both``: S and V right on clean; V fooled (DVERGE, 2020).
    ``raw``: all images; V wrong (or hit the target): clean mistakes count.
    ``same``: over the images of ``cond``; V fooled into the prediction that S is fooled into (Waseda et al. 2023).
    For a union, an image counts when any method does it: for ``cond`` and ``same`` the *same* method must fool both.

    Args:
        pairs: for each method, surrogate and victim over the same N images.
    """
    correct = pairs[0][0].correct & pairs[0][1].correct
    surrogate = np.any([s.fooled for s, _ in pairs], axis=0)
    victim = np.any([v.fooled for _, v in pairs], axis=0)
    together = np.any([s.fooled & v.fooled for s, v in pairs], axis=0)
    same = np.any([s.fooled & v.fooled & v.alike for s, v in pairs], axis=0)
    held = correct & surrogate
    return TransferCounts(
        cond=(int((held & together).sum()), int(held.sum())),
        both=(int((correct & victim).sum()), int(correct.sum())),
        raw=(int(victim.sum()), len(victim)),
        same=(int((held & same).sum()), int(held.sum())),
    )


def alike(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N,) bool: two predictions (N, ...) of an image are the same."""
    return np.asarray((a == b).reshape(len(a), -1).all(1))


def eligible(surrogate: SurrogateOutcome, victims: Sequence[VictimOutcome]) -> np.ndarray:
    """(N,) bool: surrogate and all victims right on the clean image, surrogate fooled."""
    return np.asarray(surrogate.correct & surrogate.fooled & np.all([v.correct for v in victims], axis=0))
