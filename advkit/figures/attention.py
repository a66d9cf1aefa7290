"""Where several models look on the same images, side by side on one scale."""

from __future__ import annotations

import itertools
import math
import string
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from advkit.figures.canvas import canvas
from advkit.figures.grid import CELL, Grid
from advkit.figures.names import display_names, ellipsize
from advkit.figures.saliency import agreement

if TYPE_CHECKING:
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

_WRONG = "#c8400a"  # vermilion: told from black by any eye, and the cross says it again
_COLOURS = "magma"
_TITLES = {"saliency": "Saliency (SmoothGrad)", "grad-cam": "Grad-CAM"}
_UNITS = "attention per pixel, in multiples of an even spread"


@dataclass(frozen=True)
class Panel:
    """What one model sees.

    Attributes:
        model: its name.
        predictions: (N) names of the classes it puts first.
        correct: (N) whether that is the true class.
        maps: from the kind, ``saliency`` or ``grad-cam``, to (N, H, W) maps, 0 or more, finite.
    """

    model: str
    predictions: Sequence[str]
    correct: Sequence[bool]
    maps: dict[str, Tensor]


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
            numbers = agreement(panels[first].maps[kind], panels[second].maps[kind])
            pairs.append(MapAgreement(kind, first, second, **{name: value.tolist() for name, value in numbers.items()}))
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
    images: Tensor,
    labels: Sequence[str],
    panels: Sequence[Panel],
    *,
    title: str = "",
    footnote: str = "",
) -> list[MapAgreement]:
    """Draw one row for each image: the image, then for each kind of map those of all models.

    All maps of a kind share one colour scale: multiples of an even spread (:func:`density`), from 0 to the 99.5 %
    quantile over all models and images, brighter pixels clipped. Beneath each row stand cosine and rank correlation
    of every two models; a wrong prediction is marked with a cross and another colour.

    Args:
        path: ``.png``, ``.svg`` or ``.pdf``; written atomically, equal input gives equal bytes.
        images: (N, C, H, W) float in [0, 1], grey or RGB.
        labels: (N) names of the true classes.
        panels: one for each model, all with the same kinds of map.
        title: printed above; empty for none.
        footnote: printed beneath, such as how the maps were made.

    Returns:
        The agreement that is printed, unrounded.

    Raises:
        InputError: unknown suffix, or the file can't be written.
        ValueError: nothing to draw, shapes that don't fit, maps that are negative or not finite.
    """
    _check(images, labels, panels)
    pairs = compare(panels)
    grid = Grid(len(images), len(panels), len(panels[0].maps), images.shape[-2] / images.shape[-1])
    with canvas(path, grid.width, grid.height) as figure:
        _pictures(figure, grid, images, labels)
        for group, kind in enumerate(panels[0].maps):
            _group(figure, grid, group, kind, panels, [pair for pair in pairs if pair.kind == kind])
        _words(figure, grid, panels, title, footnote)
    return pairs


def _check(images: Tensor, labels: Sequence[str], panels: Sequence[Panel]) -> None:
    if len(images) == 0 or not panels or not panels[0].maps:
        raise ValueError("nothing to draw: no images, no models or no maps")
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ValueError(f"images of {tuple(images.shape)} are not (N, 1 or 3, H, W)")
    for panel in panels:
        if list(panel.maps) != list(panels[0].maps):
            raise ValueError(f"{panel.model} has other kinds of map than {panels[0].model}")
        if not len(images) == len(labels) == len(panel.predictions) == len(panel.correct):
            raise ValueError(f"{panel.model} has not one label and one prediction for each of {len(images)} images")
        for kind, maps in panel.maps.items():
            if maps.shape != (len(images), *images.shape[-2:]):
                raise ValueError(f"{panel.model}: {kind} maps of {tuple(maps.shape)} don't fit the images")
            if not bool((torch.isfinite(maps) & (maps >= 0)).all()):
                raise ValueError(f"{panel.model}: {kind} maps have negative or not finite values")


def _pictures(figure: Figure, grid: Grid, images: Tensor, labels: Sequence[str]) -> None:
    names = [ellipsize(label, 18, 1) for label in labels]
    for row, image in enumerate(images.detach().cpu().float().clamp(0, 1)):
        axes = grid.axes(figure, grid.left, grid.row_top(row), CELL, grid.cell_height)
        pixels = image.permute(1, 2, 0).expand(-1, -1, 3)
        axes.imshow(pixels.numpy(), interpolation="nearest")
        middle = grid.left + CELL / 2
        below = grid.row_top(row) + grid.cell_height + 0.035
        grid.write(figure, middle, below, names[row], fontsize=6.0, fontweight="bold")


def _group(
    figure: Figure, grid: Grid, group: int, kind: str, panels: Sequence[Panel], pairs: Sequence[MapAgreement]
) -> None:
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    maps = [density(panel.maps[kind]) for panel in panels]
    top = _quantile(torch.stack(maps)) or 1.0
    even = Normalize(0.0, top)
    scale = ScalarMappable(even, colormaps[_COLOURS])
    left, right = grid.map_left(group, 0), grid.map_left(group, grid.models - 1) + CELL
    for model, panel in enumerate(panels):
        names = [ellipsize(prediction, 15, 1) for prediction in panel.predictions]
        for row in range(grid.rows):
            at = (grid.map_left(group, model), grid.row_top(row))
            axes = grid.axes(figure, *at, CELL, grid.cell_height)
            axes.imshow(maps[model][row].numpy(), cmap=scale.cmap, norm=even, interpolation="nearest")
            if not bool(maps[model][row].any()):
                axes.text(0.5, 0.5, "all zero", color="white", ha="center", va="center", transform=axes.transAxes)
            right_class = panel.correct[row]
            style = {} if right_class else {"color": _WRONG, "fontweight": "bold"}
            text = names[row] if right_class else f"✗ {names[row]}"
            grid.write(figure, at[0] + CELL / 2, at[1] + grid.cell_height + 0.035, text, **style)
    for row in range(grid.rows):
        _captions(figure, grid, group, row, pairs)
    grid.write(figure, (left + right) / 2, grid.top - 0.5, _TITLES.get(kind, kind), fontsize=7.5, fontweight="bold")
    _scale(figure, grid, scale, left, right)


def _captions(figure: Figure, grid: Grid, group: int, row: int, pairs: Sequence[MapAgreement]) -> None:
    """The numbers of all pairs, in lines of as many as there are models."""
    low = grid.row_top(row) + grid.cell_height + grid.prediction + 0.05
    for place, pair in enumerate(pairs):
        line, column = divmod(place, grid.models)
        beside = min(grid.models, len(pairs) - line * grid.models)  # a line that is not full stands in the middle
        middle = grid.map_left(group, column + (grid.models - beside) / 2) + CELL / 2
        top = low + line * (3 * grid.line + 0.04)
        letters = f"{_letter(pair.first)} – {_letter(pair.second)}"
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


def _words(figure: Figure, grid: Grid, panels: Sequence[Panel], title: str, footnote: str) -> None:
    heading = "\n".join(textwrap.wrap(title, width=int(grid.width * 14)))
    grid.write(figure, grid.width / 2, 0.02, heading, fontsize=8.5, va="bottom")
    grid.write(figure, grid.left + CELL / 2, grid.top - 0.05, "image\n(true class)", va="bottom", fontsize=6.5)
    names = display_names([panel.model for panel in panels], width=16, lines=2)
    for group in range(grid.kinds):
        for model, name in enumerate(names):
            text = f"{_letter(model)}  {name}" if len(panels) > 1 else name
            middle = grid.map_left(group, model) + CELL / 2
            grid.write(figure, middle, grid.top - 0.05, text, va="bottom", fontsize=6.5)
    notes = [f"Colour: {_UNITS}; ✗: wrong class."]
    if len(panels) > 1:
        notes.append("cos: cosine, rank: Spearman's correlation of the two maps' pixels.")
    lines = [line for note in (" ".join(notes), footnote) for line in textwrap.wrap(note, width=int(grid.width * 20))]
    grid.write(figure, grid.left, grid.bottom + 0.3, "\n".join(lines), ha="left", color="#404040")


def _letter(position: int) -> str:
    return string.ascii_uppercase[position % 26] + (str(position // 26) if position >= 26 else "")


def _number(value: float) -> str:
    return "n/a" if math.isnan(value) else f"{value:.2f}".replace("-0.00", "0.00").replace("-", "−")


def _quantile(values: Tensor) -> float:
    """The 99.5 % quantile; sorting takes any number of values, torch.quantile does not."""
    ordered = values.flatten().sort().values
    return float(ordered[min(len(ordered) - 1, math.ceil(0.995 * len(ordered)) - 1)])
