"""The measures of distance by name: one file and one line each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from advkit.distance.estimate import Estimate
from advkit.distance.frechet import frechet
from advkit.distance.kernel import kernel
from advkit.distance.proxy_a import proxy_a
from advkit.distance.sliced_wasserstein import sliced_wasserstein


@dataclass(frozen=True)
class DistanceMeasure:
    """A measure of distance.

    Attributes:
        label: what tables and figures call it.
        estimate: from features (n, d) of two domains and a seed.
        never_negative: so are the ends of its intervals; then its floor is above 0, and a ratio to it means something.
    """

    label: str
    estimate: Callable[[Tensor, Tensor, int], Estimate]
    never_negative: bool = True


HEADLINE = "frechet"  # whose ratio to the floor advice, calibration and gates are about

MEASURES: dict[str, DistanceMeasure] = {
    "frechet": DistanceMeasure("Fréchet", frechet),
    "kernel": DistanceMeasure("KID", kernel, never_negative=False),
    "proxy_a": DistanceMeasure("proxy-A", proxy_a, never_negative=False),
    "sliced_wasserstein": DistanceMeasure("sliced W", sliced_wasserstein),
}
