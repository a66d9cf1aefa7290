"""The grid of pictures that the figures of attention and of features are laid out on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch import Tensor

CELL = 0.94  # inches: image and six maps fill the 7 inches of two columns
BOXED_CELL = 1.6  # of pictures with boxes and their names
_GAP = 0.05


@dataclass(frozen=True)
class Grid:
    """Where things are, in inches from the top left corner.

    Attributes:
        models: pictures side by side in a group.
        kinds: groups.
        aspects: height of each image over its width; one row for each.
        cell: width of a picture.
    """

    models: int
    kinds: int
    aspects: tuple[float, ...]
    cell: float = CELL

    top = 0.62  # titles of the groups and names of the models
    left = 0.05
    between = 0.16  # groups
    prediction = 0.15
    line = 0.115

    @property
    def rows(self) -> int:
        """Images."""
        return len(self.aspects)

    def cell_height(self, row: int) -> float:
        """Height of one picture of ``row``."""
        return self.cell * min(max(self.aspects[row], 0.5), 2.0)

    def picture_width(self, row: int) -> float:
        """Width of what is drawn in a cell of ``row``: a very high image does not fill it."""
        return min(self.cell, self.cell_height(row) / self.aspects[row])

    @property
    def caption_blocks(self) -> int:
        """Lines of blocks beneath a row: each line has room for one pair below each model."""
        return math.ceil((self.models - 1) / 2)

    def row_height(self, row: int) -> float:
        """Height of one picture with the words beneath it."""
        return self.cell_height(row) + self.prediction + self.caption_blocks * (3 * self.line + 0.04) + 0.14

    @property
    def width(self) -> float:
        """Width of the whole figure."""
        return self.map_left(self.kinds - 1, self.models - 1) + self.cell + 0.05

    @property
    def bottom(self) -> float:
        """Where the last row ends."""
        return self.row_top(self.rows)

    @property
    def height(self) -> float:
        """Height of the whole figure."""
        return self.bottom + 0.6

    def map_left(self, group: int, model: float) -> float:
        """Left edge of the map of ``model`` (fractions lie between two) in ``group``."""
        before, step = self.left + self.cell + self.between, self.cell + _GAP
        return before + group * (self.models * step + self.between) + model * step

    def row_top(self, row: int) -> float:
        """Upper edge of the pictures of ``row``."""
        return self.top + sum(self.row_height(before) for before in range(row))

    def axes(self, figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
        """Axes without ticks at that place."""
        box = (left / self.width, 1 - (top + height) / self.height, width / self.width, height / self.height)
        axes = figure.add_axes(box)
        axes.set_xticks([])
        axes.set_yticks([])
        for spine in axes.spines.values():
            spine.set(linewidth=0.4, color="#808080")
        return axes

    def picture(self, figure: Figure, left: float, row: int, image: Tensor) -> Axes:
        """Draw ``image`` (C, h, w) in a cell of ``row``."""
        axes = self.axes(figure, left, self.row_top(row), self.cell, self.cell_height(row))
        pixels = image.detach().cpu().float().clamp(0, 1).permute(1, 2, 0).expand(-1, -1, 3)
        axes.imshow(pixels.numpy(), interpolation="nearest")
        return axes

    def write(self, figure: Figure, left: float, top: float, text: str, **style: object) -> None:
        """Write ``text`` at that place, small, centred, hanging, unless ``style`` says otherwise."""
        look = {"ha": "center", "va": "top", "fontsize": 6.0, **style}
        figure.text(left / self.width, 1 - top / self.height, text, **look)  # type: ignore[arg-type]
