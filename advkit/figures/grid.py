"""The grid of pictures that the attention figure is laid out on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CELL = 0.94  # inches: image and six maps fill the 7 inches of two columns
_GAP = 0.05


@dataclass(frozen=True)
class Grid:
    """Where things are, in inches from the top left corner.

    Attributes:
        rows: images.
        models: maps side by side in a group.
        kinds: groups.
        aspect: height of an image over its width.
    """

    rows: int
    models: int
    kinds: int
    aspect: float

    top = 0.62  # titles of the groups and names of the models
    left = 0.05
    between = 0.16  # groups
    prediction = 0.15
    line = 0.115

    @property
    def cell_height(self) -> float:
        """Height of one picture."""
        return CELL * min(max(self.aspect, 0.5), 2.0)

    @property
    def caption_blocks(self) -> int:
        """Lines of blocks beneath a row: each line has room for one pair below each model."""
        return math.ceil((self.models - 1) / 2)

    @property
    def row_height(self) -> float:
        """Height of one picture with the words beneath it."""
        return self.cell_height + self.prediction + self.caption_blocks * (3 * self.line + 0.04) + 0.14

    @property
    def width(self) -> float:
        """Width of the whole figure."""
        return self.map_left(self.kinds - 1, self.models - 1) + CELL + 0.05

    @property
    def bottom(self) -> float:
        """Where the last row ends."""
        return self.top + self.rows * self.row_height

    @property
    def height(self) -> float:
        """Height of the whole figure."""
        return self.bottom + 0.6

    def map_left(self, group: int, model: float) -> float:
        """Left edge of the map of ``model`` (fractions lie between two) in ``group``."""
        before = self.left + CELL + self.between
        return before + group * (self.models * (CELL + _GAP) + self.between) + model * (CELL + _GAP)

    def row_top(self, row: int) -> float:
        """Upper edge of the pictures of ``row``."""
        return self.top + row * self.row_height

    def axes(self, figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
        """Axes without ticks at that place."""
        box = (left / self.width, 1 - (top + height) / self.height, width / self.width, height / self.height)
        axes = figure.add_axes(box)
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set(linewidth=0.4, color="#808080")
        return axes

    def write(self, figure: Figure, left: float, top: float, text: str, **style: object) -> None:
        """Write ``text`` at that place, small, centred, hanging, unless ``style`` says otherwise."""
        look = {"ha": "center", "va": "top", "fontsize": 6.0, **style}
        figure.text(left / self.width, 1 - top / self.height, text, **look)  # type: ignore[arg-type]
