"""Average precisions of detectors in a transfer matrix: the numbers, and the table."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from advkit.reports.average_precision import AveragePrecisions, average_precisions
from advkit.reports.rates import StrictModel
from advkit.transfer.outcomes import Matrix

_NAME = 14  # characters of a victim's name at most
_ROW = 30  # characters of a row's name at most


class CleanPrecision(StrictModel):
    """One victim on the clean images."""

    victim: str
    precision: AveragePrecisions


class TransferPrecision(StrictModel):
    """One victim on one surrogate's images under one method, and on noise of the same norm."""

    surrogate: str
    victim: str
    method: str
    white_box: bool = Field(description="the victim is the network that the images were made on")
    adversarial: AveragePrecisions
    noise: AveragePrecisions = Field(description="noise of the attack's norm, one draw for each method")


class TransferPrecisions(StrictModel):
    """Average precisions of all victims."""

    clean: list[CleanPrecision]
    pairs: list[TransferPrecision]


def transfer_precisions(names: Sequence[str], found: Matrix, class_names: Sequence[str]) -> TransferPrecisions | None:
    """What was counted of the models ``names``; None where the task has no such figures."""
    if found.figures is None:
        return None
    return TransferPrecisions(
        clean=[
            CleanPrecision(victim=name, precision=average_precisions(own, class_names))
            for name, own in zip(names, found.figures, strict=True)
        ],
        pairs=[
            TransferPrecision(
                surrogate=run.surrogate,
                victim=name,
                method=run.method,
                white_box=victim in run.crafted_on,
                adversarial=average_precisions(run.figures[victim], class_names),
                noise=average_precisions(run.noise_figures[victim], class_names),
            )
            for run in found.attempts
            if run.figures is not None and run.noise_figures is not None
            for victim, name in enumerate(names)
        ],
    )


def precision_grid(found: TransferPrecisions) -> list[str]:
    """mAP@.5 for people: a row for the clean images, one for each surrogate and method, one for each method's noise."""
    victims = [one.victim for one in found.clean]
    methods = list(dict.fromkeys(pair.method for pair in found.pairs))
    rows = [("clean", [_cell(one.precision) for one in found.clean])]
    for surrogate, method in dict.fromkeys((pair.surrogate, pair.method) for pair in found.pairs):
        own = [pair for pair in found.pairs if (pair.surrogate, pair.method) == (surrogate, method)]
        name = surrogate if len(methods) == 1 else f"{surrogate}, {method}"
        rows.append((name, [_cell(pair.adversarial, "*" if pair.white_box else " ") for pair in own]))
    first = found.pairs[0].surrogate if found.pairs else ""
    for method in methods:  # of one method every surrogate has the same noise
        own = [pair for pair in found.pairs if (pair.surrogate, pair.method) == (first, method)]
        name = "noise" if len(methods) == 1 else f"noise, {method}"
        rows.append((name, [_cell(pair.noise) for pair in own]))
    left = max(14, *(min(len(name), _ROW) for name, _ in rows))
    wide = max(9, *(min(len(name), _NAME) + 2 for name in victims))
    lines = ["mAP@.5 of each victim, by what it is shown"]
    lines.append(f"  {'made on':{left}}" + "".join(_cut(name, wide - 2).rjust(wide) for name in victims))
    lines += [f"  {_cut(name, left):{left}}" + "".join(cell.rjust(wide) for cell in cells) for name, cells in rows]
    return [line.rstrip() for line in lines]


def _cut(name: str, width: int) -> str:
    return name if len(name) <= width else f"{name[: width - 1]}…"


def _cell(found: AveragePrecisions, mark: str = " ") -> str:
    return ("-" if found.map50 is None else f"{found.map50:.3f}") + mark
