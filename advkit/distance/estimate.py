"""What a measure says of two samples, and of each image's share in it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Estimate:
    """A distance between two samples, with its empirical influence function (Hampel 1974).

    Attributes:
        value: the distance.
        influence_a: (n,) float64, influence of the images of the first sample, of mean 0: drawn ``m`` times instead of
            once, image ``i`` adds ``(m - 1) * influence_a[i] / n`` to the distance, to first order.
        influence_b: (m,) float64, likewise of the second sample.
        errors: wrong predictions that the distance is made of; None where it is made of none.
        ties: predictions that fall to neither domain, each half an error; None likewise.
        predictions: of how many.
    """

    value: float
    influence_a: Tensor
    influence_b: Tensor
    errors: int | None = None
    ties: int | None = None
    predictions: int | None = None


def check_samples(a: Tensor, b: Tensor, least: int = 2) -> None:
    """Raise ValueError unless ``a`` (n, d) and ``b`` (m, d) are finite and have ``least`` rows of as many numbers."""
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or not a.shape[1]:
        raise ValueError(f"features of shapes {list(a.shape)} and {list(b.shape)}; (n, d) and (m, d) are needed")
    if min(len(a), len(b)) < least:
        raise ValueError(f"{len(a)} and {len(b)} images; at least {least} of each are needed")
    if not bool(a.isfinite().all() and b.isfinite().all()):
        raise ValueError("features hold NaN or infinity")
