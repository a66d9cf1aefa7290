"""Where several models look on the same images, side by side on one scale."""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from advkit.figures.boxes import draw_boxes
from advkit.figures.canvas import canvas
from advkit.figures.grid import BOXED_CELL, CELL, Grid
from advkit.figures.names import display_names, ellipsize, letter
from advkit.figures.saliency import agreement
from advkit.tasks.box_marks import BoxMark

if TYPE_CHECKING:
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

_WRONG = "#c8400a"  # vermilion: told from black by any eye, and the cross says it again
_COLOURS = "magma"
_TITLES = {"saliency": "Saliency (SmoothGrad)", "grad-cam": "Grad-CAM"}
_UNITS = "attention per pixel, in multiples of an even spread"
_BOXES = "Boxes: yellow, and dashed, true; blue, finds an object; vermilion, false; predicted ones with their scores."


@dataclass(frozen=True)
class Panel:
    """What one model sees.

    Attributes:
        model: its name.
        predictions: (N) what it predicts, in words: names of classes.
        correct: (N) whether that is right.
        maps: from the kind, ``saliency`` or ``grad-cam``, to N maps (h, w), 0 or more, finite.
        boxes: (N) the boxes that it finds; empty where the task has none.
    """

    model: str
    predictions: Sequence[str]
    correct: Sequence[bool]
    maps: Mapping[str, Sequence[Tensor]]
    boxes: Sequence[Sequence[BoxMark]] = ()


@dataclass(frozen=True)
class MapAgreement:
    """How alike two models' maps are.

    Attributes:
        kind: of the maps.
        first: position of a panel.
        second: position of a later panel.
        cosine: (N) one for each image, NaN where a map is all zero.
        rank_correlation: (N) Spearman's, NaN where a map is constant.
    """

    kind: str
    first: int
    second: int
    cosine: list[float]
    rank_correlation: list[float]


def compare(panels: Sequence[Panel]) -> list[MapAgreement]:
    """Agreement (:func:`advkit.figures.saliency.agreement`) of every two panels in every kind of map they have."""
    pairs = []
    for kind in panels[0].maps:
        for first, second in itertools.combinations(range(len(panels)), 2):
            maps = zip(panels[first].maps[kind], panels[second].maps[kind], strict=True)
            numbers = [agreement(a[None], b[None]) for a, b in maps]
            told = {name: [float(one[name]) for one in numbers] for name in numbers[0]}
            pairs.append(MapAgreement(kind, first, second, **told))
    return pairs


def density(maps: Tensor) -> Tensor:
    """Maps as multiples of an even spread: each divided by its own mean, an all-zero map stays zero.

    So a model with larger gradients doesn't look more attentive than another: what is compared is how each spreads
    the same amount of attention. (N, H, W) to (N, H, W) float64 on the CPU.
    """
    maps = maps.detach().cpu().double()
    peak = maps.amax(dim=(1, 2), keepdim=True)
    maps = maps / torch.where(peak > 0, peak, 1.0)  # sums of tiny gradients must not vanish
    mean = maps.mean(dim=(1, 2), keepdim=True)
    return maps / torch.where(mean > 0, mean, 1.0)


def draw(
    path: Path,
    images: Sequence[Tensor],
    labels: Sequence[str],
    panels: Sequence[Panel],
    *,
    title: str = "",
    footnote: str = "",
    objects: Sequence[Sequence[BoxMark]] = (),
    class_names: Sequence[str] = (),
) -> list[MapAgreement]:
    """Draw one row for each image: the image, then for each kind of map those of all models.

    All maps of a kind share one colour scale: multiples of an even spread (:func:`density`), from 0 to the 99.5 %
    quantile over all models and images, brighter pixels clipped. Beneath each row stand cosine and rank correlation
    of every two models; a wrong prediction is marked with a cross and another colour.

    Args:
        path: ``.png``, ``.svg`` or ``.pdf``; written atomically, equal input gives equal bytes.
        images: N images (C, h, w) float in [0, 1], grey or RGB, of one size or of many.
        labels: (N) names of the true classes, or what else is true.
        panels: one for each model, all with the same kinds of map.
        title: printed above; empty for none.
        footnote: printed beneath, such as how the maps were made.
        objects: (N) true boxes, where the task has boxes: then each model's own are drawn, too.
        class_names: of the boxes.

    Returns:
        The agreement that is printed, unrounded.

    Raises:
        InputError: unknown suffix, or the file can't be written.
        ValueError: nothing to draw, shapes that don't fit, maps that are negative or not finite.
    """
    _check(images, labels, panels)
    pairs = compare(panels)
    aspects = tuple(image.shape[-2] / image.shape[-1] for image in images)
    boxed = int(bool(objects))  # one more group, before the maps
    grid = Grid(len(panels), boxed + len(panels[0].maps), aspects, BOXED_CELL if boxed else CELL)
    with canvas(path, grid.width, grid.height) as figure:
        for row, image in enumerate(images):
            axes = grid.picture(figure, grid.left, row, image)
            if boxed:
                draw_boxes(axes, objects[row], class_names, image, grid.picture_width(row), beneath=False)
            middle, below = grid.left + grid.cell / 2, grid.row_top(row) + grid.cell_height(row) + 0.035
            grid.write(figure, middle, below, ellipsize(labels[row], 18, 1), fontsize=6.0, fontweight="bold")
        if boxed:
            _found(figure, grid, images, panels, objects, class_names)
        for group, kind in enumerate(panels[0].maps, start=boxed):
            _group(figure, grid, group, kind, panels, [pair for pair in pairs if pair.kind == kind], objects)
        _words(figure, grid, panels, title, footnote, boxed=bool(boxed))
    return pairs


def _check(images: Sequence[Tensor], labels: Sequence[str], panels: Sequence[Panel]) -> None:
    if len(images) == 0 or not panels or not panels[0].maps:
        raise ValueError("nothing to draw: no images, no models or no maps")
    for image in images:
        if image.ndim != 3 or image.shape[0] not in (1, 3):
            raise ValueError(f"an image of {tuple(image.shape)} is not (1 or 3, h, w)")
    for panel in panels:
        if list(panel.maps) != list(panels[0].maps):
            raise ValueError(f"{panel.model} has other kinds of map than {panels[0].model}")
        if not len(images) == len(labels) == len(panel.predictions) == len(panel.correct):
            raise ValueError(f"{panel.model} has not one label and one prediction for each of {len(images)} images")
        for kind, maps in panel.maps.items():
            if [one.shape for one in maps] != [image.shape[-2:] for image in images]:
                raise ValueError(f"{panel.model}: its {kind} maps don't fit the images")
            if not all(bool((torch.isfinite(one) & (one >= 0)).all()) for one in maps):
                raise ValueError(f"{panel.model}: {kind} maps have negative or not finite values")


def _found(
    figure: Figure,
    grid: Grid,
    images: Sequence[Tensor],
    panels: Sequence[Panel],
    objects: Sequence[Sequence[BoxMark]],
    class_names: Sequence[str],
) -> None:
    """What each model finds, over the image and the true boxes."""
    for model, panel in enumerate(panels):
        for row, image in enumerate(images):
            left = grid.map_left(0, model)
            axes = grid.picture(figure, left, row, image)
            draw_boxes(axes, objects[row], class_names, image, grid.picture_width(row), beneath=True)
            draw_boxes(axes, panel.boxes[row], class_names, image, grid.picture_width(row), beneath=False)
            _prediction(figure, grid, left, row, panel)
    middle = (grid.map_left(0, 0) + grid.map_left(0, grid.models - 1) + grid.cell) / 2
    grid.write(figure, middle, grid.top - 0.5, "Found", fontsize=7.5, fontweight="bold")


def _prediction(figure: Figure, grid: Grid, left: float, row: int, panel: Panel) -> None:
    """What ``panel`` predicts of an image, beneath the picture at ``left``; marked where it is wrong."""
    right = panel.correct[row]
    name = ellipsize(panel.predictions[row], round(15 * grid.cell / CELL), 1)
    style = {} if right else {"color": _WRONG, "fontweight": "bold"}
    below = grid.row_top(row) + grid.cell_height(row) + 0.035
    grid.write(figure, left + grid.cell / 2, below, name if right else f"✗ {name}", **style)


def _group(
    figure: Figure,
    grid: Grid,
    group: int,
    kind: str,
    panels: Sequence[Panel],
    pairs: Sequence[MapAgreement],
    objects: Sequence[Sequence[BoxMark]],
) -> None:
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    maps = [[density(one[None])[0] for one in panel.maps[kind]] for panel in panels]
    top = _quantile(torch.cat([one.flatten() for own in maps for one in own])) or 1.0
    even = Normalize(0.0, top)
    scale = ScalarMappable(even, colormaps[_COLOURS])
    left, right = grid.map_left(group, 0), grid.map_left(group, grid.models - 1) + grid.cell
    for model, panel in enumerate(panels):
        for row in range(grid.rows):
            place = grid.map_left(group, model)
            axes = grid.axes(figure, place, grid.row_top(row), grid.cell, grid.cell_height(row))
            axes.imshow(maps[model][row].numpy(), cmap=scale.cmap, norm=even, interpolation="nearest")
            if objects:
                draw_boxes(axes, objects[row], (), maps[model][row], grid.picture_width(row), beneath=True)
            if not bool(maps[model][row].any()):
                axes.text(0.5, 0.5, "all zero", color="white", ha="center", va="center", transform=axes.transAxes)
            _prediction(figure, grid, place, row, panel)
    for row in range(grid.rows):
        _captions(figure, grid, group, row, pairs)
    grid.write(figure, (left + right) / 2, grid.top - 0.5, _TITLES.get(kind, kind), fontsize=7.5, fontweight="bold")
    _scale(figure, grid, scale, left, right)


def _captions(figure: Figure, grid: Grid, group: int, row: int, pairs: Sequence[MapAgreement]) -> None:
    """The numbers of all pairs, in lines of as many as there are models."""
    low = grid.row_top(row) + grid.cell_height(row) + grid.prediction + 0.05
    for place, pair in enumerate(pairs):
        line, column = divmod(place, grid.models)
        beside = min(grid.models, len(pairs) - line * grid.models)  # a line that is not full stands in the middle
        middle = grid.map_left(group, column + (grid.models - beside) / 2) + grid.cell / 2
        top = low + line * (3 * grid.line + 0.04)
        letters = f"{letter(pair.first)} – {letter(pair.second)}"
        grid.write(figure, middle, top, letters, fontweight="bold", color="#303030")
        grid.write(figure, middle, top + grid.line, f"cos {_number(pair.cosine[row])}", color="#303030")
        ranks = f"rank {_number(pair.rank_correlation[row])}"
        grid.write(figure, middle, top + 2 * grid.line, ranks, color="#303030")


def _scale(figure: Figure, grid: Grid, scale: ScalarMappable, left: float, right: float) -> None:
    wide = min(right - left, 2.6)
    bar = grid.axes(figure, (left + right - wide) / 2, grid.bottom + 0.02, wide, 0.08)
    drawn = figure.colorbar(scale, cax=bar, orientation="horizontal", extend="max", extendfrac=0.03)
    drawn.outline.set_linewidth(0.4)
    bar.tick_params(labelsize=5.5, length=1.5, width=0.4, pad=1.5)


def _words(figure: Figure, grid: Grid, panels: Sequence[Panel], title: str, footnote: str, *, boxed: bool) -> None:
    heading = "\n".join(textwrap.wrap(title, width=int(grid.width * 14)))
    grid.write(figure, grid.width / 2, 0.02, heading, fontsize=8.5, va="bottom")
    shown = "image and\ntrue boxes" if boxed else "image\n(true class)"
    grid.write(figure, grid.left + grid.cell / 2, grid.top - 0.05, shown, va="bottom", fontsize=6.5)
    names = display_names([panel.model for panel in panels], width=16, lines=2)
    for group in range(grid.kinds):
        for model, name in enumerate(names):
            text = f"{letter(model)}  {name}" if len(panels) > 1 else name
            middle = grid.map_left(group, model) + grid.cell / 2
            grid.write(figure, middle, grid.top - 0.05, text, va="bottom", fontsize=6.5)
    notes = [f"Colour: {_UNITS}; ✗: {'an object missed, or one seen where none is' if boxed else 'wrong class'}."]
    notes += [_BOXES] if boxed else []
    if len(panels) > 1:
        notes.append("cos: cosine, rank: Spearman's correlation of the two maps' pixels.")
    lines = [line for note in (" ".join(notes), footnote) for line in textwrap.wrap(note, width=int(grid.width * 20))]
    grid.write(figure, grid.left, grid.bottom + 0.3, "\n".join(lines), ha="left", color="#404040")


def _number(value: float) -> str:
    return "n/a" if math.isnan(value) else f"{value:.2f}".replace("-0.00", "0.00").replace("-", "−")


def _quantile(values: Tensor) -> float:
    """The 99.5 % quantile; sorting takes any number of values, torch.quantile does not."""
    ordered = values.flatten().sort().values
    return float(ordered[min(len(ordered) - 1, math.ceil(0.995 * len(ordered)) - 1)])
