"""An evolved architecture as a graph, drawn from top to bottom in layers (Sugiyama, Tagawa, Toda, 1981)."""

from __future__ import annotations

import itertools
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from advkit.figures import graphviz
from advkit.figures.canvas import canvas
from advkit.figures.genome_graph import GraphNode, graph_of, legend
from advkit.models.genome.genes import Genome

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_BOXES = 4  # side by side: the drawing stays about as wide as a page
_SWEEPS = 16  # down and up
_GAP, _LANE, _LINE, _PAD = 0.16, 0.12, 0.105, 0.06  # inches: between boxes, for a line that passes, of text, round it
# Of lines that pass boxes, by their source (Okabe, Ito, 2008, without what is too pale for a thin line).
_COLOURS = ("#0072b2", "#d55e00", "#007a5a", "#a64d8a", "#7a5c00")


class LayerItem(NamedTuple):
    """A node's box in its own layer; in a later layer, the place where lines from it pass the boxes there."""

    layer: int
    node: int


class Layout(NamedTuple):
    """Middles of all items in inches, segments from one layer to the next, and which items are boxes."""

    x: dict[LayerItem, float]
    segments: list[tuple[LayerItem, LayerItem]]
    boxes: set[LayerItem]


def draw(path: Path, genome: Genome, *, title: str, note: str, shapes: Mapping[int, tuple[int, int, int]]) -> None:
    """Draw the active part of a genome, what its output depends on.

    Args:
        path: ``.dot`` or ``.gv`` for Graphviz; ``.png``, ``.svg`` or ``.pdf`` for a picture, in which lines that skip
            a layer pass beside its boxes. Written atomically, equal input gives equal bytes.
        genome: what to draw.
        title: printed above; empty for none.
        note: printed with what the marks mean.
        shapes: channels, height and width of what a node puts out, by its id, 0 for the stem.

    Raises:
        InputError: unknown suffix, the file can't be written, or a graph that is not sound.
    """
    graph = graph_of(genome, shapes)
    note = f"{note} {legend(genome, graph)}".strip()
    if path.suffix in graphviz.SUFFIXES:
        graphviz.write(path, graph, title=title, note=note)
        return
    with canvas(path, 1, 1) as figure:
        box = 2 * _PAD + max(_width(line, line == node.operation) for node in graph.values() for line in node.lines)
        found = layout(graph, box)
        left, right = min(found.x.values()) - box / 2, max(max(found.x.values()), min(found.x.values()) + 1) + box / 2
        high = 2 * _PAD + max(len(node.lines) for node in graph.values()) * _LINE
        pitch = high + 0.2 + 0.03 * (right - left)  # a wide drawing has long lines, which must not lie flat
        bottom = pitch * max(item.layer for item in found.x) + high
        figure.set_size_inches(right - left, bottom)
        plot = figure.add_axes((0, 0, 1, 1), xlim=(left, right), ylim=(bottom, 0))
        plot.axis("off")
        _lines(plot, found, high, pitch)
        for item in sorted(found.boxes):
            _box(plot, graph[item.node], (found.x[item] - box / 2, pitch * item.layer), box, high)
        heading, notes = (textwrap.fill(text, int((right - left) * n)) for text, n in ((title, 14), (note, 20)))
        plot.text(left, -0.08, heading, fontsize=8, va="bottom", parse_math=False)
        plot.text(left, bottom + 0.08, notes, fontsize=6, va="top", color="#404040", parse_math=False)


def layout(graph: Mapping[int, GraphNode], box: float) -> Layout:
    """Longest-path layers of a few boxes, ``box`` inches wide, as near to their neighbours' barycentres as fits."""
    layer: dict[int, int] = {}
    last: dict[int, int] = {}  # layer in which the lines from a node end
    filled: Counter[int] = Counter()
    for name, node in graph.items():
        layer[name] = max((layer[source] + 1 for source in node.inputs), default=0)
        while filled[layer[name]] == _MOST_BOXES:
            layer[name] += 1
        filled[layer[name]] += 1
        last.update((source, max(last.get(source, 0), layer[name])) for source in node.inputs)
    boxes = {LayerItem(row, name) for name, row in layer.items()}
    links = {(LayerItem(row - 1, source), LayerItem(row, name)) for row, name in boxes for source in graph[name].inputs}
    links |= {(LayerItem(k, name), LayerItem(k + 1, name)) for name in last for k in range(layer[name], last[name] - 1)}
    near: dict[LayerItem, list[LayerItem]] = {item: [] for item in sorted(boxes | {lower for _, lower in links})}
    for upper, lower in sorted(links):
        near[upper].append(lower)
        near[lower].append(upper)
    rows = [list(row) for _, row in itertools.groupby(near, lambda item: item.layer)]
    x = {item: float(place) for row in rows for place, item in enumerate(row)}
    for sweep in range(2 * _SWEEPS):
        ordering, down = sweep < _SWEEPS, sweep % 2 == 0
        for row in rows if down else rows[::-1]:
            wish = {}
            for item in row:
                seen = [x[o] for o in near[item] if not ordering or (o.layer < item.layer) == down] or [x[item]]
                wish[item] = sum(seen) / len(seen)
            if ordering:
                row.sort(key=lambda item: (wish[item], item))
            wide = [box + _GAP if item in boxes else _LANE for item in row]
            x.update(zip(row, _spread([wish[item] for item in row], wide), strict=True))
    return Layout(x, sorted(links), boxes)


def _spread(wishes: Sequence[float], widths: Sequence[float]) -> list[float]:
    """Middles as near to ``wishes`` as ``widths`` allow: the mean of what is only pushed right and only pushed left."""
    steps = [0.0, *itertools.accumulate((a + b) / 2 for a, b in itertools.pairwise(widths))]
    free = [wish - step for wish, step in zip(wishes, steps, strict=True)]  # these must not descend
    pushed = zip(itertools.accumulate(free, max), [*itertools.accumulate(free[::-1], min)][::-1], steps, strict=True)
    return [(right + left) / 2 + step for right, left, step in pushed]


def _width(text: str, bold: bool) -> float:
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    return float(TextPath((0, 0), text, 6, FontProperties(weight="bold" if bold else "normal")).get_extents().x1) / 72


def _lines(plot: Axes, found: Layout, high: float, pitch: float) -> None:
    for upper, lower in found.segments:
        colour = "#484848" if {upper, lower} <= found.boxes else _COLOURS[upper.node % len(_COLOURS)]
        xs, top = [found.x[upper], found.x[lower]], pitch * lower.layer
        look: dict[str, Any] = {"color": colour, "lw": 0.8, "gid": f"{upper.node}-{lower.node} {lower.layer}"}
        if lower in found.boxes:
            look |= {"arrowstyle": "-|>,head_width=0.1,head_length=0.25", "shrinkA": 0, "shrinkB": 0}
            plot.annotate("", (xs[1], top), (xs[0], top - pitch + high), arrowprops=look)
        else:
            plot.plot([*xs, xs[1]], [top - pitch + high, top, top + high], solid_capstyle="round", **look)


def _box(plot: Axes, node: GraphNode, corner: tuple[float, float], wide: float, high: float) -> None:
    from matplotlib.patches import Rectangle

    plot.add_patch(Rectangle(corner, wide, high, fc=node.fill, ec="#202020", lw=0.7, zorder=5, clip_on=False))
    first = corner[1] + (high - (len(node.lines) - 1) * _LINE) / 2
    for number, line in enumerate(node.lines):
        look: dict[str, Any] = {"fontweight": "bold" if line == node.operation else "normal", "fontsize": 6}
        plot.text(corner[0] + wide / 2, first + number * _LINE, line, ha="center", va="center", zorder=6, **look)
