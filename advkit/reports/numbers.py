"""Numbers as reports and tables say them."""

from __future__ import annotations

from advkit.metrics.intervals import wilson
from advkit.reports.results import Rate


def rate(successes: int, total: int) -> Rate:
    """Counts with their proportion and interval."""
    return Rate(
        successes=successes,
        total=total,
        rate=successes / total if total else None,
        interval=wilson(successes, total),
    )


def duration(seconds: float) -> str:
    """``75`` as ``1:15``."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"
