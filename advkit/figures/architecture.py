"""An evolved architecture as a graph, drawn from top to bottom."""

from __future__ import annotations

import itertools
import textwrap
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advkit.figures.boxes import Box, boxes_of, explained
from advkit.figures.canvas import canvas
from advkit.figures.layers import Layout, arranged
from advkit.figures.names import fitted_text
from advkit.figures.straight import Item, Sizes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SIZES = Sizes(box=1.42, lane=0.13, gap=0.07, landing=0.1, limit=6.84)  # inches: with the margins, the 7 of two columns
_BOX, _TAB, _SHAPE = 0.29, 0.125, 0.11  # heights, inches
_TIGHT, _PAGE = 0.15, 8.4  # between rows at least; height up to which they are set further apart
_MARGIN, _NARROWEST = 0.04, 3.3
_INK, _LINE = "#202020", "#484848"
# Lines that pass nodes (Okabe, Ito, 2008, without what is too pale for a thin line).
_COLOURS = ("#0072b2", "#d55e00", "#007a5a", "#a64d8a", "#7a5c00")


def draw(
    path: Path,
    genome_json: Mapping[str, Any],
    *,
    title: str,
    note: str = "",
    shapes: Mapping[int, tuple[int, int, int]] | None = None,
) -> None:
    """Draw the active part of a genome, what its output depends on, at most 7 inches wide.

    Each box is one node; one with several inputs wears a tab that says how they are merged. A line that passes nodes
    runs beside the boxes, never through one, in a colour of its own, and a dot marks where it branches.

    Args:
        path: ``.png``, ``.svg`` or ``.pdf``; written atomically, equal input gives equal bytes.
        genome_json: ``stem``, ``nodes``, ``head`` and ``output``, as a genome is written to JSON.
        title: printed above; empty for none.
        note: printed beneath, before what the marks mean.
        shapes: channels, height and width of what a node puts out, by its id, 0 for the stem; printed below the boxes.

    Raises:
        InputError: unknown suffix, or the file can't be written.
        ValueError: two nodes of one id, an input or output that doesn't exist, a cycle.
    """
    boxes = boxes_of(genome_json)
    layout = arranged({vertex: box.inputs for vertex, box in boxes.items()}, _SIZES)
    width = max(layout.width, _NARROWEST) + 2 * _MARGIN
    heading = textwrap.wrap(title, width=int(width * 15))
    sentences = f"{note.strip()} {explained(genome_json, boxes)}".strip()
    lines = textwrap.wrap(sentences, width=int(width * 21))
    sheet = Sheet(layout, boxes, shapes or {}, (width - layout.width) / 2, 0.08 + 0.15 * len(heading))
    height = sheet.bottom + 0.14 + 0.1 * len(lines)
    with canvas(path, width, height) as figure:
        plot = figure.add_axes((0, 0, 1, 1))
        plot.set(xlim=(0, width), ylim=(height, 0))
        plot.axis("off")
        _lines(plot, sheet)
        for item in layout.x:
            if item.is_box:
                _box(plot, sheet, item)
        plot.text(width / 2, 0.02, "\n".join(heading), fontsize=8, ha="center", va="top", parse_math=False)
        plot.text(
            _MARGIN, sheet.bottom + 0.1, "\n".join(lines), fontsize=6, color="#404040", va="top", parse_math=False
        )


class Sheet:
    """Where things are, in inches from the top left corner.

    Args:
        layout: what stands beside what.
        boxes: what the boxes say.
        shapes: what each puts out.
        left: where the layout begins.
        top: where the first row begins.
    """

    def __init__(
        self,
        layout: Layout,
        boxes: Mapping[int, Box],
        shapes: Mapping[int, tuple[int, int, int]],
        left: float,
        top: float,
    ) -> None:
        self.layout, self.boxes, self.shapes, self.left = layout, boxes, shapes, left
        vertices = [[item.vertex for item in row if item.is_box] for row in layout.rows]
        tabs = [_TAB * any(boxes[vertex].merge for vertex in row) for row in vertices]
        heights = [tab + _BOX + _SHAPE * any(v in shapes for v in row) for tab, row in zip(tabs, vertices, strict=True)]
        gaps = [*self._gaps(sum(heights)), 0.0]
        tops = itertools.accumulate((height + gap for height, gap in zip(heights, gaps, strict=True)), initial=top)
        self.starts = list(tops)[:-1]  # of each row; from here to its end all lines are upright
        self.ends = [start + height for start, height in zip(self.starts, heights, strict=True)]
        self.box_tops = [start + tab for start, tab in zip(self.starts, tabs, strict=True)]
        self.bottom = self.ends[-1]

    def _gaps(self, filled: float) -> list[float]:
        """Heights between the rows: more where many lines go far aside, as long as all fits a page."""
        far: Counter[int] = Counter()
        for (upper, lower), aside in self.layout.links.items():
            far[upper.row] += abs(self.layout.x[lower] + aside - self.layout.x[upper]) > 0.4
        more = [0.06 + 0.02 * min(far[row], 12) for row in range(len(self.layout.rows) - 1)]
        room = _PAGE - filled - _TIGHT * len(more)
        share = min(1.0, max(0.0, room / max(sum(more), 1e-9)))
        return [_TIGHT + share * each for each in more]

    def x(self, item: Item) -> float:
        """Middle of ``item``."""
        return self.left + self.layout.x[item]

    def outline(self, upper: Item, lower: Item) -> list[tuple[float, float]]:
        """Corners of a link: straight down to the end of its row, a cubic curve to the next, straight to its end."""
        start = self.box_tops[upper.row] + _BOX if upper.is_box else self.ends[upper.row]
        leave, arrive, end = self.ends[upper.row], self.starts[lower.row], self.ends[lower.row]
        if lower.is_box:
            end = self.box_tops[lower.row] - _TAB * bool(self.boxes[lower.vertex].merge)
        x0, x1 = self.x(upper), self.x(lower) + self.layout.links[upper, lower]
        bend = (leave + arrive) / 2
        return [(x0, start), (x0, leave), (x0, bend), (x1, bend), (x1, arrive), (x1, end)]


def _lines(plot: Axes, sheet: Sheet) -> None:
    from matplotlib.patches import Circle, PathPatch, Polygon
    from matplotlib.path import Path as Outline

    codes = [Outline.MOVETO, Outline.LINETO, Outline.CURVE4, Outline.CURVE4, Outline.CURVE4, Outline.LINETO]
    colours = _colours(sheet.layout)
    branches: Counter[Item] = Counter()
    for upper, lower in sheet.layout.links:
        branches[upper] += 1
        direct = upper.is_box and lower.is_box
        colour = _LINE if direct else colours[upper.vertex]
        corners = sheet.outline(upper, lower)
        name = f"link {upper.vertex}-{lower.vertex}" if lower.is_box else f"lane {upper.vertex} row {lower.row}"
        look: dict[str, Any] = {"fc": "none", "ec": colour, "lw": 0.9, "zorder": 3 if direct else 2}
        x, y = corners[-1]
        if lower.is_box:
            corners[-1] = (x, y - 0.04)  # the rest is the arrow's
        plot.add_patch(PathPatch(Outline(corners, codes), gid=name, capstyle="round", **look))
        if lower.is_box:
            head = [(x, y), (x - 0.026, y - 0.065), (x + 0.026, y - 0.065)]
            plot.add_patch(Polygon(head, fc=colour, ec="none", zorder=4))
    for item, count in branches.items():
        if count > 1 and not item.is_box:
            at = (sheet.x(item), sheet.ends[item.row])
            plot.add_patch(Circle(at, 0.022, fc=colours[item.vertex], ec="none", zorder=4))


def _colours(layout: Layout) -> dict[int, str]:
    """A colour for each vertex with lanes: the one that its neighbours have least, and the least used of those."""
    near: dict[int, Counter[int]] = {}
    for row in layout.rows:
        lanes = [item.vertex for item in row if not item.is_box]
        for place, vertex in enumerate(lanes):
            beside = near.setdefault(vertex, Counter())
            beside.update(lanes[max(place - 2, 0) : place] + lanes[place + 1 : place + 3])
    chosen: dict[int, int] = {}
    for vertex in near:
        used = Counter(chosen.values())
        costs = [
            (sum(n for other, n in near[vertex].items() if chosen.get(other) == colour), used[colour], colour)
            for colour in range(len(_COLOURS))
        ]
        chosen[vertex] = min(costs)[2]
    return {vertex: _COLOURS[colour] for vertex, colour in chosen.items()}


def _box(plot: Axes, sheet: Sheet, item: Item) -> None:
    from matplotlib.patches import FancyBboxPatch

    box, x, top = sheet.boxes[item.vertex], sheet.x(item), sheet.box_tops[item.row]
    left = x - _SIZES.box / 2
    look: dict[str, Any] = {"ec": _INK, "lw": 0.7, "zorder": 5}
    style = "round,pad=0,rounding_size=0.05"
    plot.add_patch(FancyBboxPatch((left, top), _SIZES.box, _BOX, style, fc=box.fill, gid=f"box {item.vertex}", **look))
    words: dict[str, Any] = {"ha": "center", "va": "center", "color": "black", "parse_math": False, "zorder": 6}
    first, second = (top + 0.09, top + 0.205) if box.more else (top + _BOX / 2, 0.0)
    plot.text(x, first, fitted_text(box.words, 24, 1), fontsize=6.3, fontweight="bold", **words)
    if box.more:
        plot.text(x, second, fitted_text(box.more, 30, 1), fontsize=6, **words)
    if box.merge:
        wide = min(_SIZES.box, max(0.42, 0.1 * len(box.inputs) + 0.08))
        tab = (x - wide / 2, top - _TAB)
        fill, ink = (_INK, "white") if box.merge == "concat" else ("white", "black")
        plot.add_patch(FancyBboxPatch(tab, wide, _TAB, "round,pad=0,rounding_size=0.03", fc=fill, **look))
        plot.text(x, top - _TAB / 2 + 0.005, box.merge, fontsize=5.8, **{**words, "color": ink})
    if item.vertex in sheet.shapes:
        shape = "×".join(str(number) for number in sheet.shapes[item.vertex])
        plot.text(x + 0.05, top + _BOX + 0.06, shape, fontsize=5.5, **{**words, "ha": "left", "color": _LINE})
