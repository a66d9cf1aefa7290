"""Drawing without a display and without a trace: no pyplot, no settings of the user's, no dates in the file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advkit.files.atomic import atomic_write
from advkit.files.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RESOLUTION = 300  # dots per inch of a PNG: what journals ask for half-tones
_MARGIN = 0.04  # inches
_FORMATS: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "ModDate": None, "Creator": None, "Producer": None},
}
_SETTINGS = {
    "font.family": ["DejaVu Sans"],  # comes with matplotlib: the same glyphs on every machine
    "font.size": 7.0,
    "axes.linewidth": 0.6,
    "hatch.linewidth": 0.6,
    "svg.hashsalt": "advkit",
    "svg.fonttype": "path",
    "pdf.fonttype": 42,  # Type 3 fonts are refused by several publishers
    "savefig.bbox": None,
}


def format_of(path: Path) -> str:
    """The picture format that the suffix of ``path`` names: ``png``, ``svg`` or ``pdf``.

    Raises:
        InputError: any other suffix, or none.
    """
    suffix = Path(path).suffix.lower().removeprefix(".")
    if suffix not in _FORMATS:
        raise InputError(f"{path}: no picture format for this suffix; use .png, .svg or .pdf")
    return suffix


@contextlib.contextmanager
def canvas(path: Path, width: float, height: float) -> Iterator[Figure]:
    """Yield an empty figure of ``width`` × ``height`` inches; when the block ends well it is written to ``path``.

    matplotlib's own defaults hold inside the block whatever the user's settings are, and the settings are as they
    were afterwards. The file is cut to what was drawn, written atomically, and equal figures give equal bytes (for
    one version of matplotlib).

    Raises:
        InputError: unknown suffix, or the file can't be written.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    kind = format_of(path)
    settings: Any = {key: value for key, value in matplotlib.rcParamsDefault.items() if not key.startswith("backend")}
    settings.update(_SETTINGS)
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=(width, height), dpi=RESOLUTION, facecolor="white")
        agg = FigureCanvasAgg(figure)
        yield figure
        renderer: Any = agg.get_renderer()  # type: ignore[no-untyped-call]
        box = figure.get_tightbbox(renderer).padded(_MARGIN)  # "tight" would draw everything twice
        with atomic_write(path) as temporary:
            figure.savefig(temporary, format=kind, dpi=RESOLUTION, metadata=_FORMATS[kind], bbox_inches=box)


def text_colour(colour: tuple[float, ...]) -> str:
    """``"black"`` or ``"white"``, whichever stands out more on ``colour`` (contrast ratio of WCAG 2.2).

    Args:
        colour: red, green, blue in [0, 1]; further entries are ignored.
    """
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "black" if (luminance + 0.05) / 0.05 >= 1.05 / (luminance + 0.05) else "white"
