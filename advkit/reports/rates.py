"""Counts, and the proportions made of them: in this one place."""

from __future__ import annotations

import math

from pydantic import BaseModel, ConfigDict, Field

from advkit.metrics.intervals import wilson


class StrictModel(BaseModel):
    """Unknown fields are mistakes."""

    model_config = ConfigDict(extra="forbid")


class Rate(StrictModel):
    """A proportion with its counts. ``rate`` and ``interval`` are null when ``total`` is 0."""

    successes: int
    total: int
    rate: float | None
    interval: tuple[float, float] | None = Field(description="Wilson, 95 %")


def rate(successes: int, total: int) -> Rate:
    """Counts with their proportion and interval."""
    proportion = successes / total if total else None
    return Rate(successes=successes, total=total, rate=proportion, interval=wilson(successes, total))


def percent(value: Rate) -> str:
    """``43.2 % [40.1, 46.3] (432/1000)``."""
    if value.rate is None or value.interval is None:
        return "- (0/0)"
    low, high = value.interval
    return f"{100 * value.rate:.1f} % [{100 * low:.1f}, {100 * high:.1f}] ({value.successes}/{value.total})"


def budget(norm: str, eps: float) -> str:
    """``Linf eps 8/255``: in levels of 8 bits where eps is a whole number of them; infinite is no bound."""
    name = "Linf" if norm == "linf" else norm.upper()
    if math.isinf(eps):
        return f"smallest {name}"
    levels = round(eps * 255)
    whole = norm == "linf" and levels and abs(eps * 255 - levels) < 1e-6
    return f"{name} eps {f'{levels}/255' if whole else f'{eps:.4g}'}"
