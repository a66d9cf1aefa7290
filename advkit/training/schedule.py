"""Learning rates as closed functions of the step, so that resuming needs no state."""

from __future__ import annotations

import math
from typing import Literal

Schedule = Literal["one-cycle", "cosine", "constant"]
_WARM_UP = 0.2  # part of a one-cycle run in which the rate rises


def lr_factor(schedule: Schedule, step: int, steps: int) -> float:
    """What the peak learning rate is multiplied by at ``step`` of ``steps`` (counted from 0).

    ``one-cycle`` rises linearly over the first fifth and falls to 0 along a cosine (Smith and Topin 2018);
    ``cosine`` only falls (Loshchilov and Hutter 2017); ``constant`` is 1.
    """
    if schedule == "constant":
        return 1.0
    rise = _WARM_UP * steps if schedule == "one-cycle" else 0.0
    if step < rise:
        return (step + 1) / (rise + 1)
    return 0.5 * (1.0 + math.cos(math.pi * (step - rise) / max(steps - rise, 1)))


def warm_up(step: int, steps: float) -> float:
    """A weight's ramp from 0 to 1 over the first ``steps`` steps."""
    return 1.0 if steps <= 0 else min(1.0, step / steps)
