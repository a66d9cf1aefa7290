"""A matrix of rates or cosines as a heat map."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advkit.figures.canvas import canvas, text_colour
from advkit.figures.names import display_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_CELL = 0.62  # inches: room for "1000/1000" in 5 points
_MISSING = "#e6e6e6"


def draw(
    path: Path,
    matrix: Sequence[Sequence[float | None]],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    title: str,
    label: str,
    counts: Sequence[Sequence[str]] | None = None,
    white_box: Collection[tuple[int, int]] | None = None,
    limits: tuple[float, float] = (0.0, 1.0),
    axes: tuple[str, str] = ("surrogate (attack made on)", "victim (tried on)"),
) -> None:
    """Draw ``matrix`` to ``path``, whose suffix is ``.png``, ``.svg`` or ``.pdf``.

    The colour scale spans ``limits``, not the values, so that two figures can be compared. Limits from 0 give
    percentages on viridis; limits below 0 give two decimals on a scale with two ends (PuOr). Both are safe for the
    colour-blind and readable in grey.

    Args:
        path: where to; written atomically, equal input gives equal bytes.
        matrix: rows of values inside ``limits``; None where there is none: hatched.
        rows: names of the surrogates.
        columns: names of the victims.
        title: printed above; empty for none.
        label: what the values are, beside the colour scale.
        counts: what is printed below each value, such as ``"37/120"``.
        white_box: cells (row, column) to frame as white-box attacks; None: those whose two names are equal. Cosines
            have none: give ``()``.
        limits: ends of the colour scale.
        axes: what rows and columns are.

    Raises:
        InputError: unknown suffix, or the file can't be written.
        ValueError: shapes that don't fit, values outside ``limits``.
    """
    _check(matrix, rows, columns, counts, limits)
    if white_box is None:
        white_box = {(i, j) for i, row in enumerate(rows) for j, column in enumerate(columns) if row == column}
    width, height = _CELL * len(columns), _CELL * len(rows)
    with canvas(path, width + 3.0, height + 2.0) as figure:
        from matplotlib import colormaps
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize

        scale = ScalarMappable(Normalize(*limits), colormaps["PuOr" if limits[0] < 0 else "viridis"])
        size = (width + 3.0, height + 2.0)
        plot = figure.add_axes((1.5 / size[0], 1.0 / size[1], width / size[0], height / size[1]))
        _cells(plot, scale, limits, matrix, counts, white_box)
        _names(plot, rows, columns, axes)
        if title:
            lines = textwrap.wrap(title, width=int((width + 1.4) * 72 / (8 * 0.58)))
            plot.set_title("\n".join(lines), fontsize=8, pad=6)
        bar = figure.add_axes(((1.5 + width + 0.12) / size[0], 1.0 / size[1], 0.11 / size[0], height / size[1]))
        figure.colorbar(scale, cax=bar, label=label, ticks=_ticks(limits))
        bar.set_yticklabels([_text(tick, limits) for tick in _ticks(limits)], fontsize=6)
        bar.tick_params(length=2, width=0.5)
        _legend(plot, bool(white_box), any(value is None for row in matrix for value in row))


def _check(
    matrix: Sequence[Sequence[float | None]],
    rows: Sequence[str],
    columns: Sequence[str],
    counts: Sequence[Sequence[str]] | None,
    limits: tuple[float, float],
) -> None:
    for what, table in (("matrix", matrix), ("counts", counts)):
        if table is not None and [len(line) for line in table] != [len(columns)] * len(rows):
            raise ValueError(f"{what} does not have {len(rows)} rows of {len(columns)}")
    if not rows or not columns:
        raise ValueError("nothing to draw: no rows or no columns")
    slack = 1e-6 * (limits[1] - limits[0])
    for value in (v for row in matrix for v in row if v is not None):
        if not limits[0] - slack <= value <= limits[1] + slack:
            raise ValueError(f"value {value} is outside the scale {limits}")


def _text(value: float, limits: tuple[float, float], decimals: int = 0) -> str:
    if limits[0] < 0:
        return f"{value + 0.0:.2f}".replace("-0.00", "0.00").replace("-", "−")
    return f"{100 * value:.{decimals}f} %"


def _ticks(limits: tuple[float, float]) -> list[float]:
    return [limits[0] + (limits[1] - limits[0]) * part / 4 for part in range(5)]


def _cells(
    plot: Axes,
    scale: Any,  # a ScalarMappable, which matplotlib types for arrays only
    limits: tuple[float, float],
    matrix: Sequence[Sequence[float | None]],
    counts: Sequence[Sequence[str]] | None,
    white_box: Collection[tuple[int, int]],
) -> None:
    from matplotlib.patches import Rectangle

    for i, row in enumerate(matrix):
        for j, value in enumerate(row):
            colour = (0.9, 0.9, 0.9) if value is None else tuple(float(c) for c in scale.to_rgba(value))
            ink = text_colour(colour)
            if value is None:
                plot.add_patch(Rectangle((j, i), 1, 1, facecolor=_MISSING, edgecolor="#9a9a9a", hatch="////", lw=0))
            else:
                plot.add_patch(Rectangle((j, i), 1, 1, facecolor=colour, edgecolor="none"))
            if (i, j) in white_box:
                plot.add_patch(Rectangle((j + 0.07, i + 0.07), 0.86, 0.86, fill=False, edgecolor=ink, lw=1.0))
            backing = {"facecolor": _MISSING, "edgecolor": "none", "pad": 1.0} if value is None else None
            count = counts[i][j] if counts else ""
            plot.text(
                j + 0.5,
                i + (0.42 if count else 0.5),
                "n/a" if value is None else _text(value, limits, 0 if value == 1 else 1),
                ha="center",
                va="center",
                color=ink,
                fontsize=7.5,
                bbox=backing,
            )
            small = min(5.2, 0.8 * _CELL * 72 / (0.6 * max(len(count), 1)))
            plot.text(j + 0.5, i + 0.71, count, ha="center", va="center", color=ink, fontsize=small, bbox=backing)
    plot.set_xlim(0, len(matrix[0]))
    plot.set_ylim(len(matrix), 0)
    for edge in range(1, len(matrix)):
        plot.axhline(edge, color="white", lw=0.8)
    for edge in range(1, len(matrix[0])):
        plot.axvline(edge, color="white", lw=0.8)


def _names(plot: Axes, rows: Sequence[str], columns: Sequence[str], axes: tuple[str, str]) -> None:
    level = display_names(columns, width=12, lines=3)
    turned = any("…" in text for text in level)
    plot.set_xticks([j + 0.5 for j in range(len(columns))])
    if turned:
        texts = display_names(columns, width=22, lines=2)
        plot.set_xticklabels(texts, rotation=40, ha="right", rotation_mode="anchor", fontsize=6.5)
    else:
        plot.set_xticklabels(level, fontsize=min(6.5, _font_for(level)))
    plot.set_yticks([i + 0.5 for i in range(len(rows))], display_names(rows, width=20, lines=3), fontsize=6.5)
    plot.tick_params(length=0, pad=3)
    room = int(_CELL * len(rows) * 72 / (8 * 0.5))  # letters beside the rows
    plot.set_ylabel("\n".join(textwrap.wrap(axes[0], max(room, 12), break_long_words=False)), labelpad=5)
    plot.set_xlabel(axes[1], labelpad=5)
    for spine in plot.spines.values():
        spine.set_visible(False)


def _font_for(texts: Sequence[str]) -> float:
    """Points at which the longest line stays inside a cell."""
    longest = max(len(line) for text in texts for line in text.split("\n"))
    return math.floor(10 * 0.96 * _CELL * 72 / (0.6 * longest)) / 10


def _legend(plot: Axes, white_box: bool, missing: bool) -> None:
    from matplotlib.patches import Patch

    keys = [Patch(facecolor="none", edgecolor="black", lw=1.0, label="white box: made on the victim itself")]
    keys = keys if white_box else []
    if missing:
        keys.append(Patch(facecolor=_MISSING, edgecolor="#9a9a9a", hatch="//////", lw=0, label="no eligible image"))
    if keys:
        bottom = plot.get_figure(root=True)
        assert bottom is not None
        low = plot.get_tightbbox()
        assert low is not None
        below = plot.transAxes.inverted().transform((0, low.y0))[1]
        plot.legend(
            handles=keys,
            loc="upper center",
            bbox_to_anchor=(0.5, below - 0.05 / (_CELL * (plot.get_ylim()[0]))),
            ncols=1 if plot.get_xlim()[1] < 5 else 2,
            frameon=False,
            fontsize=6,
            handlelength=1.2,
            handleheight=1.2,
            borderaxespad=0.0,
        )
