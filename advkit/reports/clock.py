"""When a run began, and how long it has been running."""

from __future__ import annotations

import datetime
import time


class Clock:
    """Started when it is made."""

    def __init__(self) -> None:
        self.started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        self._began = time.perf_counter()

    def seconds(self) -> float:
        """Seconds since the start."""
        return round(time.perf_counter() - self._began, 3)
