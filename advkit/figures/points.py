"""Points of a figure that compares networks by two rates, and how each kind looks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

# Told apart by shape and by lightness as well as by colour (Okabe, Ito, 2008).
STYLES: dict[str, dict[str, Any]] = {
    "candidates": {"marker": "o", "s": 5, "color": "#9db4cc", "linewidths": 0, "zorder": 2},
    "random": {"marker": "^", "s": 10, "facecolors": "none", "edgecolors": "#d55e00", "linewidths": 0.6, "zorder": 3},
    "front": {"marker": "o", "s": 20, "color": "#0072b2", "edgecolors": "white", "linewidths": 0.5, "zorder": 5},
    "random-front": {"marker": "^", "s": 24, "color": "#d55e00", "edgecolors": "white", "linewidths": 0.5, "zorder": 4},
    "chosen": {"marker": "*", "s": 50, "color": "#0072b2", "edgecolors": "black", "linewidths": 0.5, "zorder": 7},
    "reference": {"marker": "x", "s": 20, "color": "black", "linewidths": 1.1, "zorder": 6},
    "control": {"marker": "s", "s": 13, "facecolors": "white", "edgecolors": "black", "linewidths": 0.8, "zorder": 6},
}
STEPPED: dict[str, Any] = {"front": "-", "random-front": (0, (3, 1.5))}


@dataclass(frozen=True)
class Point:
    """One network.

    Attributes:
        x: its accuracy, in [0, 1]; None where there is none.
        y: its rate of transfer, in [0, 1]; None where there is none, such as no eligible image.
        x_interval: lower and upper end of the 95 % interval of ``x``; None: no bar is drawn.
        y_interval: the same for ``y``.
        label: what is written beside it; empty for nothing.
    """

    x: float | None
    y: float | None
    x_interval: tuple[float, float] | None = None
    y_interval: tuple[float, float] | None = None
    label: str = ""


@dataclass(frozen=True)
class Group:
    """Points that look alike.

    Attributes:
        name: for the key.
        points: in any order.
        style: one of :data:`STYLES`. Of a ``front`` or ``random-front``, those that no other of the group dominates
            are connected by steps.
    """

    name: str
    points: Sequence[Point]
    style: str


class PlottedPoint(NamedTuple):
    """A point that can be drawn, in percent, and its bars as (x, x, y, y)."""

    x: float
    y: float
    bars: list[tuple[float, float, float, float]]
    label: str


def plotted_points(group: Group) -> list[PlottedPoint]:
    """Those of the group that have both values, in its order."""
    plotted = []
    for point in group.points:
        if point.x is not None and point.y is not None:
            x, y = 100 * point.x, 100 * point.y
            bars = [(100 * point.x_interval[0], 100 * point.x_interval[1], y, y)] if point.x_interval else []
            bars += [(x, x, 100 * point.y_interval[0], 100 * point.y_interval[1])] if point.y_interval else []
            plotted.append(PlottedPoint(x, y, bars, point.label))
    return plotted


def places_of(group: Group) -> list[tuple[float, float]]:
    """(x, y) of :func:`plotted_points`."""
    return [(point.x, point.y) for point in plotted_points(group)]


def step_line(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Corners of the least y that (x, y) ``points`` offer at no less than each x, ascending in x.

    These are the non-dominated points and what joins them.
    """
    best: list[tuple[float, float]] = []
    for x, y in sorted(points, key=lambda point: (-point[0], point[1])):
        if not best or y < best[-1][1]:
            best.append((x, y))
    corners = [best[-1]] if best else []
    for x, y in reversed(best[:-1]):
        corners += [(corners[-1][0], y), (x, y)]
    return corners
