"""Boxes of objects over a picture, their names where they hide least."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from advkit.tasks.box_marks import BoxMark, named

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from torch import Tensor

# Told apart by any eye (Okabe, Ito, 2008), on dark and on light pictures.
TRUE_COLOUR, RIGHT_COLOUR, FALSE_COLOUR = "#f0e442", "#56b4e9", "#d55e00"
_FONT = 4.6  # points
_LETTER, _LINE, _PAD = 0.62, 1.5, 0.9  # of the font's size: width of a letter, height of a label, its two margins
_POINTS = 72.0  # an inch


class _Place(NamedTuple):
    """A rectangle in pixels of the picture."""

    left: float
    top: float
    right: float
    bottom: float

    def shared(self, other: _Place) -> float:
        """The area of both."""
        wide = min(self.right, other.right) - max(self.left, other.left)
        high = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(wide, 0.0) * max(high, 0.0)


def draw_boxes(
    axes: Axes,
    marks: Sequence[BoxMark],
    class_names: Sequence[str],
    image: Tensor,
    inches: float,
    *,
    beneath: bool,
) -> None:
    """Draw ``marks`` over a picture.

    Args:
        axes: where the picture is.
        marks: the boxes.
        class_names: of all classes.
        image: (..., h, w), the picture.
        inches: its width on paper.
        beneath: draw thin and dashed, without names, as what other boxes are held against.
    """
    from matplotlib.patches import Rectangle
    from matplotlib.patheffects import withStroke

    texts = [] if beneath else [_text(mark, class_names) for mark in marks]
    size = (image.shape[-2], image.shape[-1])
    places = [] if beneath else label_places([mark.box for mark in marks], texts, size, inches)
    for mark in marks:
        x0, y0, x1, y1 = mark.box
        style = {"linewidth": 0.45, "linestyle": (0, (3, 2))} if beneath or mark.difficult else {"linewidth": 0.75}
        drawn = Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, fill=False, edgecolor=_colour(mark), **style)
        drawn.set_path_effects([withStroke(linewidth=1.1, foreground=(0, 0, 0, 0.45))])
        axes.add_patch(drawn)
    for mark, text, place in zip(marks, texts, places, strict=False):
        wide, high = place.right - place.left, place.bottom - place.top
        ground = Rectangle(
            (place.left - 0.5, place.top - 0.5), wide, high, facecolor=_colour(mark), alpha=0.85, linewidth=0
        )
        axes.add_patch(ground)
        middle = ((place.left + place.right) / 2 - 0.5, (place.top + place.bottom) / 2 - 0.5)
        white = mark.score is not None and not mark.right
        colour = "white" if white else "black"
        axes.text(*middle, text, fontsize=_FONT, color=colour, ha="center", va="center_baseline", clip_on=True)


def _text(mark: BoxMark, class_names: Sequence[str]) -> str:
    (name,) = named([mark.label], class_names)
    return name if mark.score is None else f"{name} {mark.score:.2f}"


def _colour(mark: BoxMark) -> str:
    if mark.score is None:
        return TRUE_COLOUR
    return RIGHT_COLOUR if mark.right else FALSE_COLOUR


def label_places(
    found: Sequence[tuple[float, float, float, float]], texts: Sequence[str], size: tuple[int, int], inches: float
) -> list[_Place]:
    """Where the name of each box stands: inside the picture, at an edge of its box, off other names if it can be.

    Args:
        found: x0, y0, x1, y1 of the boxes.
        texts: their names.
        size: height and width of the picture in pixels.
        inches: its width on paper.
    """
    height, width = size
    em = _FONT / _POINTS / inches * width  # pixels of the picture
    placed: list[_Place] = []
    for (x0, y0, x1, y1), text in zip(found, texts, strict=True):
        wide, high = min((_LETTER * len(text) + _PAD) * em, width), min(_LINE * em, height)
        corners = [
            (left, top)
            for top in (y0 - high, y1, y0, y1 - high, (y0 + y1 - high) / 2)  # above, below, inside
            for left in (x0, x1 - wide)
        ]
        inside = [(min(max(left, 0.0), width - wide), min(max(top, 0.0), height - high)) for left, top in corners]
        options = [_Place(left, top, left + wide, top + high) for left, top in inside]
        placed.append(min(options, key=lambda place: sum(place.shared(other) for other in placed)))
    return placed
