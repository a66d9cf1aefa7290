"""What networks make of images: pictures rebuilt from features and pictures that a score calls for, side by side."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from advkit.figures.boxes import draw_boxes
from advkit.figures.canvas import canvas
from advkit.figures.feature_images import Made
from advkit.figures.grid import BOXED_CELL, Grid
from advkit.figures.names import display_names, ellipsize, letter
from advkit.tasks.box_marks import BoxMark

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CELL = 1.25  # inches: image and two kinds of picture of two models fill the 7 inches of two columns
TITLES = {"inversion": "Rebuilt from its features", "maximisation": "Score maximised"}
_VALUES = {"inversion": "loss", "maximisation": "score"}
_STRETCHED = "Score maximised is drawn stretched: the range of values that stands beneath goes from black to white."
_BOXES = "Boxes: yellow, and dashed, where the objects are."


@dataclass(frozen=True)
class Picture:
    """One picture of the figure.

    Attributes:
        kind: ``inversion`` or ``maximisation``.
        model: position of the model that made it.
        row: position of the image.
        made: the picture, and what it reached.
        correlation: of its values with those of the image; NaN where one is flat.
        recognised: whether each of the models is right about it.
    """

    kind: str
    model: int
    row: int
    made: Made
    correlation: float
    recognised: Sequence[bool]


@dataclass(frozen=True)
class PictureGrid(Grid):
    """A grid with two lines beneath each picture."""

    prediction = 0.25

    @property
    def caption_blocks(self) -> int:
        """None."""
        return 0


def draw(
    path: Path,
    images: Sequence[Tensor],
    labels: Sequence[str],
    models: Sequence[str],
    pictures: Sequence[Picture],
    *,
    notes: Mapping[str, str],
    objects: Sequence[Sequence[BoxMark]] = (),
    class_names: Sequence[str] = (),
) -> None:
    """Draw one row for each image: the image, then for each kind the pictures of all models.

    Beneath a picture stands what it began with and what it reached: of inversion the relative squared distance of the
    features, of maximisation the score. Values of a maximised picture lie near its start's; they are drawn stretched
    to [0, 1], and their range stands beneath.

    Args:
        path: ``.png``, ``.svg`` or ``.pdf``; written atomically, equal input gives equal bytes.
        images: N images (C, h, w) float in [0, 1], grey or RGB, of one size or of many.
        labels: (N) what is true of them.
        models: names.
        pictures: one of each kind, model and image.
        notes: what to print beneath on each kind, and on ``all``.
        objects: (N) true boxes, where the task has boxes.
        class_names: of the boxes.

    Raises:
        InputError: unknown suffix, or the file can't be written.
        ValueError: a picture is missing, or there are two.
    """
    kinds = [kind for kind in TITLES if any(one.kind == kind for one in pictures)]
    by_place = {(one.kind, one.model, one.row): one for one in pictures}
    if not len(pictures) == len(by_place) == len(kinds) * len(models) * len(images) > 0:
        raise ValueError(f"{len(pictures)} pictures are not one of each kind, model and image")
    aspects = tuple(image.shape[-2] / image.shape[-1] for image in images)
    grid = PictureGrid(len(models), len(kinds), aspects, BOXED_CELL if objects else CELL)
    with canvas(path, grid.width, grid.height) as figure:
        for row, image in enumerate(images):
            axes = grid.picture(figure, grid.left, row, image)
            if objects:
                draw_boxes(axes, objects[row], class_names, image, grid.picture_width(row), beneath=False)
            _below(figure, grid, grid.left, row, ellipsize(labels[row], 22, 1), fontweight="bold")
        for group, kind in enumerate(kinds):
            for model in range(len(models)):
                for row, image in enumerate(images):
                    one, left = by_place[kind, model, row], grid.map_left(group, model)
                    picture, values = one.made.picture[0], _values(one)
                    if kind == "maximisation":
                        picture, (low, high) = stretched(picture)
                        values += f"\nin [{low:.2f}, {high:.2f}]"
                    axes = grid.picture(figure, left, row, picture)
                    if objects:
                        draw_boxes(axes, objects[row], (), image, grid.picture_width(row), beneath=True)
                    lost = objects and kind == "maximisation" and not any(not mark.difficult for mark in objects[row])
                    _below(figure, grid, left, row, values.replace(_values(one), "no object") if lost else values)
        _words(figure, grid, kinds, models, notes, boxed=bool(objects))


def stretched(picture: Tensor) -> tuple[Tensor, tuple[float, float]]:
    """``picture`` (C, h, w) with its least value at 0 and its largest at 1, and these; a flat one as it is.

    All channels are stretched alike, which leaves grey grey.
    """
    low, high = float(picture.min()), float(picture.max())
    return ((picture - low) / (high - low) if high > low else picture), (low, high)


def _values(one: Picture) -> str:
    return f"{_VALUES[one.kind]} {_number(one.made.values[0])} → {_number(one.made.values[-1])}"


def _below(figure: Figure, grid: Grid, left: float, row: int, text: str, **style: object) -> None:
    below = grid.row_top(row) + grid.cell_height(row) + 0.035
    grid.write(figure, left + grid.cell / 2, below, text, **style)


def _words(
    figure: Figure, grid: Grid, kinds: Sequence[str], models: Sequence[str], notes: Mapping[str, str], *, boxed: bool
) -> None:
    shown = "image and\ntrue boxes" if boxed else "image\n(true class)"
    grid.write(figure, grid.left + grid.cell / 2, grid.top - 0.05, shown, va="bottom", fontsize=6.5)
    names = display_names(models, width=20, lines=2)
    for group, kind in enumerate(kinds):
        middle = (grid.map_left(group, 0) + grid.map_left(group, grid.models - 1) + grid.cell) / 2
        grid.write(figure, middle, grid.top - 0.5, TITLES[kind], fontsize=7.5, fontweight="bold")
        for model, name in enumerate(names):
            text = f"{letter(model)}  {name}" if len(models) > 1 else name
            place = grid.map_left(group, model) + grid.cell / 2
            grid.write(figure, place, grid.top - 0.05, text, va="bottom", fontsize=6.5)
    said = [f"{TITLES[kind]}: {notes[kind]}." for kind in kinds if kind in notes]
    said += [_STRETCHED] if "maximisation" in kinds else []
    said += [f"{notes['all'][:1].upper()}{notes['all'][1:]}."] if "all" in notes else []
    said += [_BOXES] if boxed else []
    lines = [line for note in said for line in textwrap.wrap(note, width=int(grid.width * 20))]
    grid.write(figure, grid.left, grid.bottom + 0.05, "\n".join(lines), ha="left", color="#404040")


def _number(value: float) -> str:
    return f"{value:.3g}".replace("-", "−")
