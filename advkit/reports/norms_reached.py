"""Sizes of the perturbations of an attack, in each norm."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from pydantic import Field

from advkit.metrics.norms import Norm
from advkit.reports.rates import StrictModel


class Norms(StrictModel):
    """Over the images: sizes of the perturbations reached."""

    linf_mean: float
    linf_max: float
    l2_mean: float
    l2_max: float
    l1_mean: float | None = None
    l1_max: float | None = None
    fooled: int | None = Field(default=None, description="images right before that fool all surrogates together")
    linf_median_fooled: float | None = Field(default=None, description="over these; null where there are none")
    l2_median_fooled: float | None = None
    l1_median_fooled: float | None = None


def norms_reached(
    sums: Mapping[Norm, float], most: Mapping[Norm, float], fooled: Mapping[Norm, Sequence[float]], images: int
) -> Norms:
    """Of ``images``: the sums and the largest of their perturbations' norms, and those of each that is ``fooled``."""
    medians = {norm: statistics.median(sizes) if sizes else None for norm, sizes in fooled.items()}
    return Norms(
        linf_mean=sums["linf"] / images,
        linf_max=most["linf"],
        l2_mean=sums["l2"] / images,
        l2_max=most["l2"],
        l1_mean=sums["l1"] / images,
        l1_max=most["l1"],
        fooled=len(fooled["l2"]),
        linf_median_fooled=medians["linf"],
        l2_median_fooled=medians["l2"],
        l1_median_fooled=medians["l1"],
    )


def norm_lines(found: Norms, norm: Norm) -> list[str]:
    """Lines for people: Linf and L2, and L1 where the attack is bounded in it."""
    linf, l2 = found.linf_median_fooled, found.l2_median_fooled
    mean = f"norms reached         Linf {found.linf_max:.5f} at most, L2 {found.l2_mean:.4f}"
    lines = [f"{mean}, L1 {found.l1_mean:.4f} on average" if norm == "l1" else f"{mean} on average"]
    if linf is not None and l2 is not None:
        medians = f"Linf {linf:.5f}, L2 {l2:.4f}"
        medians += f", L1 {found.l1_median_fooled:.4f}" if norm == "l1" else ""
        lines.append(f"median, {found.fooled} fooled".ljust(22) + medians)
    return lines
