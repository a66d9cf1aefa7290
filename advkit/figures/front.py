"""What a search found: clean accuracy against transfer, with the front, its rivals and the accuracy floor."""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advkit.figures.canvas import RESOLUTION, canvas
from advkit.figures.labels import Box, placed
from advkit.figures.names import fitted_text
from advkit.figures.points import STEPPED, STYLES, Group, Point, places_of, spots_of, step_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Group", "Point", "draw"]

_WIDTH = 3.4  # inches: one column
_PLOT = Box(0.43, 1.5, 3.35, 4.1)  # inches; what is not needed beneath is cut off
_POINT = RESOLUTION / 72  # pixels
_LEAST_SPAN = 10.0  # a single point, or several alike, still get an axis that says something
_FLOOR: dict[str, Any] = {"color": "#404040", "lw": 0.8, "ls": (0, (4, 2.5))}
_LABEL: dict[str, Any] = {"fontsize": 6, "ha": "center", "va": "center", "linespacing": 0.95, "parse_math": False}


def draw(
    path: Path,
    groups: Sequence[Group],
    *,
    title: str,
    floor: float | None = None,
    axes: tuple[str, str] = ("clean accuracy", r"$T_\mathrm{cond}$ from R"),
    note: str = "",
) -> None:
    """Draw accuracy (x) against transfer (y) of ``groups`` as a figure one column wide.

    Points with a missing value are left out, and counted in the note beneath. Labels stand where they hide least,
    with a thin line to their point when that is not beside it.

    Args:
        path: ``.png``, ``.svg`` or ``.pdf``; written atomically, equal input gives equal bytes.
        groups: drawn and listed in this order; those without points are left out of the key.
        title: printed above; empty for none.
        floor: the least accuracy that the search accepted, in [0, 1]; a dashed line.
        axes: what x and y are; more of x and less of y is better.
        note: printed beneath, before the counts.

    Raises:
        InputError: unknown suffix, or the file can't be written.
        ValueError: nothing to draw, an unknown style, values or intervals outside [0, 1].
    """
    _check(groups, floor)
    height = _PLOT.top + 0.6
    with canvas(path, _WIDTH, height) as figure:
        wide, high = _PLOT.right - _PLOT.left, _PLOT.top - _PLOT.bottom
        plot = figure.add_axes((_PLOT.left / _WIDTH, _PLOT.bottom / height, wide / _WIDTH, high / height))
        _axes(plot, groups, floor, axes)
        for group in groups:
            _points(plot, group)
        if floor is not None:
            plot.axvline(100 * floor, zorder=1, **_FLOOR)
        _labels(plot, groups)
        if title:
            plot.set_title("\n".join(textwrap.wrap(title, width=52)), fontsize=8, pad=5, parse_math=False)
        below = _key(plot, groups, floor) / RESOLUTION / height
        lines = "\n".join(textwrap.wrap(_note(groups, note), width=86))
        figure.text(
            0.04 / _WIDTH, below - 0.06 / height, lines, va="top", fontsize=5.5, color="#404040", parse_math=False
        )


def _check(groups: Sequence[Group], floor: float | None) -> None:
    for group in groups:
        if group.style not in STYLES:
            raise ValueError(f"{group.name}: style {group.style} is none of {', '.join(STYLES)}")
    if not any(spots_of(group) for group in groups):
        raise ValueError("nothing to draw: no point has both values")
    points = [point for group in groups for point in group.points]
    intervals = [ends for point in points for ends in (point.x_interval, point.y_interval) if ends]
    values = [value for point in points for value in (point.x, point.y) if value is not None]
    for value in (*values, *(end for ends in intervals for end in ends), 0.0 if floor is None else floor):
        if not 0 <= value <= 1:
            raise ValueError(f"value {value} is outside [0, 1]")
    for low, high in intervals:
        if low > high:
            raise ValueError(f"interval ({low}, {high}) ends before it begins")


def _axes(plot: Axes, groups: Sequence[Group], floor: float | None, names: tuple[str, str]) -> None:
    from matplotlib.ticker import MaxNLocator

    spots = [spot for group in groups for spot in spots_of(group)]
    xs = [value for spot in spots for value in (spot.x, *(end for bar in spot.bars for end in bar[:2]))]
    ys = [value for spot in spots for value in (spot.y, *(end for bar in spot.bars for end in bar[2:]))]
    plot.set_xlim(*_limits([*xs, *([] if floor is None else [100 * floor])]))
    plot.set_ylim(*_limits(ys))
    for axis in (plot.xaxis, plot.yaxis):
        axis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
    plot.set_xlabel(f"{names[0]}, %   (better →)", labelpad=3)
    plot.set_ylabel(f"{names[1]}, %   (← better)", labelpad=3)  # turned with the label, this arrow points down
    plot.tick_params(length=2, width=0.5, labelsize=6.5, pad=2)
    plot.grid(color="#e8e8e8", lw=0.4)
    plot.set_axisbelow(True)
    for side in ("top", "right"):
        plot.spines[side].set_visible(False)


def _limits(percents: Sequence[float]) -> tuple[float, float]:
    """Ends of an axis, with room for markers and labels, hardly beyond what a rate can be."""
    low, high = min(percents), max(percents)
    more = max(_LEAST_SPAN - (high - low), 0.0) / 2
    low, high = low - more, high + more
    room, edge = 0.08 * (high - low), 0.025 * (high - low)
    return max(low - room, -edge), min(high + room, 100 + edge)


def _points(plot: Axes, group: Group) -> None:
    look, spots = STYLES[group.style], spots_of(group)
    colour = look.get("color", look.get("edgecolors"))
    if group.style in STEPPED:
        corners = step_line(places_of(group))
        line = {"lw": 1.0, "ls": STEPPED[group.style], "zorder": look["zorder"] - 0.5}
        plot.plot([x for x, _ in corners], [y for _, y in corners], color=colour, **line)
    for left, right, bottom, top in (bar for spot in spots for bar in spot.bars):
        plot.plot([left, right], [bottom, top], color=colour, lw=0.6, zorder=look["zorder"] - 0.2)
    plot.scatter([spot.x for spot in spots], [spot.y for spot in spots], **look)


def _labels(plot: Axes, groups: Sequence[Group]) -> None:
    """Write the points' labels, and a thin line to those that could not stand beside their point."""
    from matplotlib.patheffects import withStroke

    named = [spot for group in groups for spot in spots_of(group) if spot.label]
    texts = [plot.text(spot.x, spot.y, fitted_text(spot.label, 18, 2), zorder=8, **_LABEL) for spot in named]
    sizes = [(extent.width, extent.height) for extent in (text.get_window_extent() for text in texts)]
    for text in texts:
        text.set_path_effects([withStroke(linewidth=1.5, foreground="white")])
    to_pixels, to_data = plot.transData.transform, plot.transData.inverted().transform
    anchors = [(float(x), float(y)) for x, y in (to_pixels((spot.x, spot.y)) for spot in named)]
    frame = Box(*(float(end) for end in plot.get_window_extent().extents))
    for text, label in zip(texts, placed(anchors, sizes, _obstacles(plot, groups), frame, 4 * _POINT), strict=True):
        middle = (label.box.left + label.box.right) / 2, (label.box.bottom + label.box.top) / 2
        x, y = to_data(middle)
        text.set_position((float(x), float(y)))
        if label.line:
            (x0, y0), (x1, y1) = to_data(label.line)
            plot.plot([x0, x1], [y0, y1], color="#606060", lw=0.4, zorder=7)


def _obstacles(plot: Axes, groups: Sequence[Group]) -> list[Box]:
    """What labels had better not hide, in pixels: markers, bars, steps. Not the floor, which shows on both sides."""
    found = []
    for group in groups:
        radius = math.sqrt(STYLES[group.style]["s"]) / 2
        lines = [bar for spot in spots_of(group) for bar in spot.bars]
        if group.style in STEPPED:
            corners = step_line(places_of(group))
            lines += [(x0, x1, y0, y1) for (x0, y0), (x1, y1) in itertools.pairwise(corners)]
        boxes = [(spot.x, spot.x, spot.y, spot.y, radius) for spot in spots_of(group)]
        boxes += [(*line, 0.5) for line in lines]
        for left, right, bottom, top, margin in boxes:
            ends = plot.transData.transform([(left, bottom), (right, top)])
            found.append(Box(*(float(end) for end in ends.flatten())).grown(margin * _POINT))
    return found


def _key(plot: Axes, groups: Sequence[Group], floor: float | None) -> float:
    """Draw what the markers mean beneath the axes; returns where it ends, in pixels."""
    from matplotlib.lines import Line2D

    handles = []
    for group in groups:
        look = STYLES[group.style]
        colour = look.get("color", look.get("edgecolors"))
        line = {"ls": STEPPED[group.style], "lw": 1.0} if group.style in STEPPED else {"ls": "none"}
        marker = {
            "marker": look["marker"],
            "markersize": math.sqrt(look["s"]) + (look["s"] < 8),
            "markeredgewidth": look["linewidths"],
            "markerfacecolor": look.get("facecolors", colour),
            "markeredgecolor": look.get("edgecolors", colour),
        }
        if spots_of(group):
            handles.append(Line2D([], [], color=colour, label=fitted_text(group.name, 30, 1), **line, **marker))
    if floor is not None:
        handles.append(Line2D([], [], label=f"accuracy floor, {100 * floor:.1f} %", **_FLOOR))
    inches = plot.get_window_extent().height / RESOLUTION
    key = plot.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(-0.06, -0.34 / inches),
        ncols=2,
        frameon=False,
        fontsize=6,
        handlelength=2.2,
        columnspacing=1.2,
        labelspacing=0.35,
        borderpad=0.0,
        borderaxespad=0.0,
    )
    for text in key.get_texts():
        text.set_parse_math(False)
    return float(key.get_window_extent().y0)


def _note(groups: Sequence[Group], note: str) -> str:
    """What is printed beneath: how many points there are, how many could not be drawn, what bars and steps mean."""
    counts = []
    for group in groups:
        drawn = len(spots_of(group))
        missing = len(group.points) - drawn
        counts.append(f"{group.name} {drawn}" + (f" (and {missing} without a value, not drawn)" if missing else ""))
    texts = [note.strip(), f"Points: {'; '.join(counts)}."]
    if any(spot.bars for group in groups for spot in spots_of(group)):
        texts.append("Bars: 95 % intervals.")
    if any(group.style in STEPPED and len(step_line(places_of(group))) > 1 for group in groups):
        texts.append("Steps: the least transfer at no less than that accuracy.")
    return " ".join(text for text in texts if text)
