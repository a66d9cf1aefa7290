"""What a search found: clean accuracy against transfer, with the front, its rivals and the accuracy floor."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advkit.figures.canvas import canvas
from advkit.figures.names import ellipsize
from advkit.figures.points import STEPPED, STYLES, Group, Point, places_of, plotted_points, step_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

__all__ = ["Group", "Point", "draw"]

_WIDTH = 3.4  # inches: one column
_LEFT, _BOTTOM, _RIGHT, _TOP = 0.43, 1.5, 3.35, 4.1  # of the axes, inches; what is not needed beneath is cut off
_LEAST_SPAN = 10.0  # a single point, or several alike, still get an axis that says something
_FLOOR: dict[str, Any] = {"color": "#404040", "lw": 0.8, "ls": (0, (4, 2.5))}
# Of labels from their points, in points; the first that is free is taken, with a thin line to those that are far.
_OFFSETS = [(x * far, y * far) for far in (1, 3, 5, 8, 12) for x, y in ((4, 3), (-4, 3), (4, -3), (-4, -3))]
_LABEL: dict[str, Any] = {
    "fontsize": 6,
    "linespacing": 0.95,
    "parse_math": False,
    "zorder": 8,
    "textcoords": "offset points",
    "arrowprops": {"arrowstyle": "-", "color": "#606060", "lw": 0.4, "shrinkA": 0, "shrinkB": 0},
}


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

    Points with a missing value are left out, and counted in the note beneath. Labels stand beside their points,
    and further off, with a thin line, in a crowd.

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
    height = _TOP + 0.6
    with canvas(path, _WIDTH, height) as figure:
        wide, high = _RIGHT - _LEFT, _TOP - _BOTTOM
        plot = figure.add_axes((_LEFT / _WIDTH, _BOTTOM / height, wide / _WIDTH, high / height))
        _axes(plot, groups, floor, axes)
        for group in groups:
            _points(plot, group)
        if floor is not None:
            plot.axvline(100 * floor, zorder=1, **_FLOOR)
        _labels(plot, groups)
        if title:
            plot.set_title("\n".join(textwrap.wrap(title, width=52)), fontsize=8, pad=5, parse_math=False)
        below = _key(plot, groups, floor, figure.dpi) / figure.dpi / height
        lines = "\n".join(textwrap.wrap(_note(groups, note), width=86))
        figure.text(
            0.04 / _WIDTH, below - 0.06 / height, lines, va="top", fontsize=5.5, color="#404040", parse_math=False
        )


def _check(groups: Sequence[Group], floor: float | None) -> None:
    for group in groups:
        if group.style not in STYLES:
            raise ValueError(f"{group.name}: style {group.style} is none of {', '.join(STYLES)}")
    if not any(plotted_points(group) for group in groups):
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

    plotted = [point for group in groups for point in plotted_points(group)]
    xs = [value for point in plotted for value in (point.x, *(end for bar in point.bars for end in bar[:2]))]
    ys = [value for point in plotted for value in (point.y, *(end for bar in point.bars for end in bar[2:]))]
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
    look, plotted = STYLES[group.style], plotted_points(group)
    colour = look.get("color", look.get("edgecolors"))
    if group.style in STEPPED:
        corners = step_line(places_of(group))
        line = {"lw": 1.0, "ls": STEPPED[group.style], "zorder": look["zorder"] - 0.5}
        plot.plot([x for x, _ in corners], [y for _, y in corners], color=colour, **line)
    for left, right, bottom, top in (bar for point in plotted for bar in point.bars):
        plot.plot([left, right], [bottom, top], color=colour, lw=0.6, zorder=look["zorder"] - 0.2)
    plot.scatter([point.x for point in plotted], [point.y for point in plotted], **look)


def _labels(plot: Axes, groups: Sequence[Group]) -> None:
    """Write labels beside their points, each on the first side where it hides no other label and no labelled point."""
    from matplotlib.patheffects import withStroke
    from matplotlib.transforms import Bbox

    named = sorted(point for group in groups for point in plotted_points(group) if point.label)
    markers = [plot.transData.transform((point.x, point.y)) for point in named]
    frame, taken = plot.get_window_extent(), list[Bbox]()
    for point in named:
        text = plot.annotate(ellipsize(point.label, 24, 2), (point.x, point.y), (0, 0), **_LABEL)
        text.set_path_effects([withStroke(linewidth=1.5, foreground="white")])
        costs = []
        for offset in _OFFSETS:
            extent = _moved(text, *offset)
            outside = extent.x0 < frame.x0 or extent.x1 > frame.x1 or extent.y0 < frame.y0 or extent.y1 > frame.y1
            costs.append(9 * outside + 3 * extent.count_overlaps(taken) + extent.count_contains(markers))
        place = costs.index(min(costs))
        taken.append(_moved(text, *_OFFSETS[place]))
        assert text.arrow_patch is not None
        text.arrow_patch.set_visible(place >= 4)


def _moved(text: Annotation, x: float, y: float) -> Bbox:
    """Move ``text`` to that offset; returns where its words now are, in pixels."""
    from matplotlib.text import Text

    text.set(position=(x, y), ha="left" if x > 0 else "right", va="bottom" if y > 0 else "top")
    text.get_window_extent()  # brings its parts up to date; what it returns covers the line too
    return Text.get_window_extent(text)


def _key(plot: Axes, groups: Sequence[Group], floor: float | None, dpi: float) -> float:
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
        if plotted_points(group):
            handles.append(Line2D([], [], color=colour, label=ellipsize(group.name, 30, 1), **line, **marker))
    if floor is not None:
        handles.append(Line2D([], [], label=f"accuracy floor, {100 * floor:.1f} %", **_FLOOR))
    inches = plot.get_window_extent().height / dpi
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
        drawn = len(plotted_points(group))
        missing = len(group.points) - drawn
        counts.append(f"{group.name} {drawn}" + (f" (and {missing} without a value, not drawn)" if missing else ""))
    texts = [note.strip(), f"Points: {'; '.join(counts)}."]
    if any(point.bars for group in groups for point in plotted_points(group)):
        texts.append("Bars: 95 % intervals.")
    if any(group.style in STEPPED and len(step_line(places_of(group))) > 1 for group in groups):
        texts.append("Steps: the least transfer at no less than that accuracy.")
    return " ".join(text for text in texts if text)
