"""Robust accuracy over eps, of an attack that looks for the smallest perturbation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from advkit.figures.canvas import canvas

_WIDTH, _HEIGHT = 3.4, 2.5  # inches
_AXES = (0.14, 0.17, 0.83, 0.73)  # left, bottom, width, height, as parts
_COLOUR = "#0072b2"
_OUTLIER = 1.5  # times the radius that nine in ten need: what lies beyond is left to the report


def draw(
    path: Path,
    eps: Sequence[float],
    accuracies: Sequence[float],
    intervals: Sequence[tuple[float, float]],
    *,
    title: str,
    norm: str,
) -> None:
    """Draw accuracy (y) at each of ``eps`` (x), with a band for the intervals.

    Args:
        path: ``.png``, ``.svg`` or ``.pdf``; written atomically, equal input gives equal bytes.
        eps: radii at which it falls, ascending, in pixels of [0, 1]; Linf ones are labelled in 255ths too.
        accuracies, intervals: at each of them, in [0, 1].
        title: printed above.
        norm: ``linf``, ``l2`` or ``l1``.

    Raises:
        InputError: unknown suffix, or the file can't be written.
    """
    with canvas(path, _WIDTH, _HEIGHT) as figure:
        plot = figure.add_axes(_AXES)
        scale = 255.0 if norm == "linf" else 1.0
        x = [scale * one for one in eps]
        plot.fill_between(
            x,
            [100 * low for low, _ in intervals],
            [100 * high for _, high in intervals],
            color=_COLOUR,
            alpha=0.2,
            lw=0,
            step="post",
        )
        plot.plot(x, [100 * one for one in accuracies], color=_COLOUR, lw=1.2, drawstyle="steps-post")
        plot.set_xlim(0, max(min(x[-1], _OUTLIER * x[9 * len(x) // 10]), 1e-12))
        plot.set_ylim(0, 100)
        plot.set_xlabel("eps, Linf, 255ths" if norm == "linf" else f"eps, {norm.upper()}", labelpad=3)
        plot.set_ylabel("robust accuracy, %", labelpad=3)
        plot.set_title(title, fontsize=8, pad=5, parse_math=False)
        plot.tick_params(length=2, width=0.5, labelsize=6.5, pad=2)
        plot.grid(color="#e8e8e8", lw=0.4)
        plot.set_axisbelow(True)
        for side in ("top", "right"):
            plot.spines[side].set_visible(False)
