"""When an adversarial training has overfitted: two alarms, each a function of the history alone.

Catastrophic overfitting (Wong et al. 2020; Andriushchenko and Flammarion 2020): single-step training learns to fool its
own attack. Accuracy under the training attack stays or rises, while PGD accuracy falls to nothing, often within one
epoch. Wong et al. stop when PGD accuracy has fallen by 20 points.

Robust overfitting (Rice et al. 2020): held-out PGD accuracy is best early, most often after the first decay of the
learning rate, and then falls for the rest of the training, by 5 to 8 points on CIFAR-10, while robust training accuracy
rises.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from advkit.metrics.intervals import wilson

CATASTROPHIC_FALL = 0.20  # of the check's images (Wong et al. 2020) ...
CATASTROPHIC_SHARE = 0.5  # ... or of what it was, for networks that never had much
DETECTOR_FALL = 0.05  # of average precision; of the few hundredths that a young detector has, half is chance
CLEAN_SHARE = 0.5  # of the fall: where clean accuracy falls as well, the network got worse, it did not overfit
RECENT = 2  # epochs within which a fall is sudden
ROBUST_FALL = 0.05  # below the best epoch, the least of what Rice et al. saw ...
ROBUST_EPOCHS = 2  # ... in so many epochs one after another
_SLACK = 1e-9  # 42 less 37 of 100 are 5 points, though not in binary fractions

History = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class OverfittingAlarm:
    """What was seen.

    Attributes:
        kind: ``catastrophic`` or ``robust``.
        epoch: after which, from 1.
        since: the epoch that it is compared with: before the fall, or the best one.
    """

    kind: Literal["catastrophic", "robust"]
    epoch: int
    since: int


def best_epoch(history: History) -> int | None:
    """The epoch, from 1, that did best under PGD (the first of several); None without a check."""
    checked = [record for record in history if record.get("check_images")]
    return max(checked, key=lambda record: (_robust(record), -record["epoch"]))["epoch"] if checked else None


def find_alarm(history: History) -> OverfittingAlarm | None:
    """What the last epoch of ``history`` says; None where it has no check, or the training no adversarial images."""
    now = history[-1]
    if not now.get("check_images") or not now.get("adversarial_images"):
        return None
    for before in reversed(history[-1 - RECENT : -1]):
        if _collapsed(before, now):
            return OverfittingAlarm("catastrophic", now["epoch"], before["epoch"])
    return _declined(history)


def first_alarm(history: History) -> OverfittingAlarm | None:
    """The first alarm of a training that went on."""
    found = (find_alarm(history[:count]) for count in range(1, len(history) + 1))
    return next((alarm for alarm in found if alarm is not None), None)


def _rate(record: Mapping[str, Any], correct: str, images: str) -> float:
    return float(record[correct]) / record[images] if record[images] else 0.0


def _precision(record: Mapping[str, Any], name: str) -> float | None:
    """A detector's average precision, of which hardly an image is wholly right; None for what is counted in images."""
    value = record.get(name)
    return None if value is None else float(value)


def _robust(record: Mapping[str, Any]) -> float:
    precision = _precision(record, "robust_map50")
    if precision is not None:
        return precision
    return _rate(record, "robust_right", "check_images")


def _attacked(record: Mapping[str, Any]) -> float:
    """How well the training does under its own attack: accuracy, or less loss where nothing is counted."""
    if record["adversarial_right"] is None:
        return -float(record["cross_entropy"])
    return _rate(record, "adversarial_right", "adversarial_images")


def _collapsed(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """A sudden fall under PGD, beyond chance (the 95 % intervals lie apart), that neither training nor clean shares.

    Of a detector, a fall of average precision, whose interval is not asked for; of 5 points at least.
    """
    fall = _robust(before) - _robust(now) + _SLACK
    if fall < CATASTROPHIC_FALL and fall < CATASTROPHIC_SHARE * _robust(before):
        return False
    clean = [_precision(record, "validation_map50") for record in (before, now)]
    if clean[0] is not None and clean[1] is not None:  # a detector's
        if fall < DETECTOR_FALL:
            return False
        clean_fall = clean[0] - clean[1]
    else:
        was = wilson(before["robust_right"], before["check_images"])
        now_is = wilson(now["robust_right"], now["check_images"])
        if was is None or now_is is None or now_is[1] >= was[0]:
            return False
        clean_fall = _rate(before, "check_right", "check_images") - _rate(now, "check_right", "check_images")
    return _attacked(now) >= _attacked(before) and clean_fall < CLEAN_SHARE * fall


def _declined(history: History) -> OverfittingAlarm | None:
    best = next(record for record in history if record["epoch"] == best_epoch(history))
    later = history[-ROBUST_EPOCHS:]
    if len(later) < ROBUST_EPOCHS or later[0]["epoch"] <= best["epoch"]:
        return None
    fell = all(_robust(best) - _robust(record) + _SLACK >= ROBUST_FALL for record in later)
    rose = _attacked(history[-1]) > _attacked(best)
    return OverfittingAlarm("robust", history[-1]["epoch"], best["epoch"]) if fell and rose else None
