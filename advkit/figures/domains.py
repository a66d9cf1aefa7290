"""Domains as clouds of points, and how far each lies from the source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from advkit.figures.canvas import canvas, text_colour
from advkit.figures.names import display_names, without_common_start

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WIDTH, _SIDE, _BARS, _LEAST, _ROW = 7.0, 2.7, 2.0, 3.4, 0.145  # inches
_APART = 0.115  # inches between numbers of means
_NAMES = 28  # characters
_SOURCE = "#303030"
# Told apart by lightness too (Okabe and Ito 2008); more domains share a scale in the order of their distance.
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9")
DOTS = 300  # of a domain


@dataclass(frozen=True)
class PlottedDomain:
    """A target.

    Attributes:
        name: of the domain.
        ratio: its distance over the floor; None where there is none.
        interval: of that.
        features: (n, d) of some of its images.
    """

    name: str
    ratio: float | None
    interval: tuple[float, float] | None
    features: Tensor


def principal_plane(domains: Sequence[Tensor]) -> tuple[list[Tensor], tuple[float, float]]:
    """Each of ``domains`` (n, d), as many images of each, in the plane of their largest variance together.

    Returns:
        (n, 2) of each, turned so that the largest entry of each axis is positive; and the axes' shares of all variance.
    """
    every = torch.cat([one.double() for one in domains])
    mean = every.mean(0)
    _, s, vh = torch.linalg.svd(every - mean, full_matrices=False)
    axes = torch.zeros(2, every.shape[1], dtype=torch.float64)
    axes[: min(2, len(vh))] = vh[:2]
    axes *= torch.where(axes.gather(1, axes.abs().max(1, keepdim=True).indices) < 0, -1.0, 1.0)
    shares = (s.square() / s.square().sum().clamp_min(1e-300)).tolist()
    return [(one.double() - mean) @ axes.T for one in domains], (shares[0], shares[1] if len(shares) > 1 else 0.0)


def draw(
    path: Path, source: str, features: Tensor, targets: Sequence[PlottedDomain], *, axis: str, note: str = ""
) -> tuple[float, float]:
    """Draw the domains in their common plane, and beside it the ratio of each with its interval.

    Args:
        path: ``.png``, ``.svg`` or ``.pdf``; written atomically, equal input gives equal bytes.
        source: its name.
        features: (n, d) of some of its images.
        targets: the others.
        axis: what the ratios are.
        note: printed beneath.

    Returns:
        the shares of all variance that the two axes of the plane have.

    Raises:
        InputError: unknown suffix, or the file can't be written.
    """
    clouds, shares = principal_plane([features, *(one.features for one in targets)])
    names = [one.name for one in targets]
    if max(map(len, names)) > _NAMES:
        names = without_common_start(names)
    names = display_names(names, width=_NAMES, lines=1)
    ranked = sorted(range(len(targets)), key=lambda k: targets[k].ratio or 0.0)
    colours = _colours(ranked)
    many = len(targets) > len(_COLOURS)  # colours alone no longer tell them apart
    if many:
        names = [f"{name}  {ranked.index(k) + 1}" for k, name in enumerate(names)]
    size = 6.0 if len(targets) <= 20 else 5.0
    left = _SIDE + 0.55 + max(_inches(name, size) for name in names)
    height = max(_LEAST + many * _SIDE, 0.9 + _ROW * len(targets))
    width = max(_WIDTH, left + _BARS + 0.14)
    with canvas(path, width, height) as figure:
        plot = figure.add_axes((0.42 / width, 1 - (_SIDE + 0.3) / height, _SIDE / width, _SIDE / height))
        _clouds(plot, clouds, colours, shares)
        if many:
            means = figure.add_axes((0.42 / width, 1 - (2 * _SIDE + 0.5) / height, _SIDE / width, _SIDE / height))
            _means(means, [cloud.mean(0) for cloud in clouds], colours, ranked)
        tall = min(height - 0.7, 0.4 + 0.4 * len(targets))
        right = width - 0.14 - left
        bars = figure.add_axes((left / width, 1 - (tall + 0.3) / height, right / width, tall / height))
        _ratios(bars, [(names[k], targets[k], colours[k]) for k in ranked], axis, size)
        (title,) = display_names([source], width=40, lines=1)
        plot.set_title(f"× {title}", fontsize=7, color=_SOURCE, parse_math=False)
        if note:
            below = 1 - ((2 * _SIDE + 0.72 if many else _SIDE + 0.52) / height)
            figure.text(0.02, below, note, va="top", fontsize=5.5, color="#404040", parse_math=False)
    return shares


def _colours(ranked: Sequence[int]) -> list[str]:
    """A colour for each target."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    if len(ranked) <= len(_COLOURS):
        return list(_COLOURS[: len(ranked)])
    found = [""] * len(ranked)
    for rank, k in enumerate(ranked):
        found[k] = to_hex(colormaps["viridis"](0.95 * rank / (len(ranked) - 1)))
    return found


def _inches(text: str, size: float) -> float:
    """Width of ``text`` in a font of ``size`` points."""
    from matplotlib.textpath import TextPath

    return float(TextPath((0, 0), text.replace("$", "S"), size=size).get_extents().width) / 72


def _clouds(plot: Axes, clouds: Sequence[Tensor], colours: Sequence[str], shares: tuple[float, float]) -> None:
    size = 9.0 if len(colours) <= len(_COLOURS) else 4.0
    for cloud, colour in zip(clouds[1:], colours, strict=True):
        x, y = cloud[:DOTS].T.tolist()
        plot.scatter(x, y, s=size, color=colour, alpha=0.7, linewidths=0, zorder=2)
    x, y = clouds[0][:DOTS].T.tolist()
    plot.scatter(x, y, s=10, color=_SOURCE, marker="x", linewidths=0.6, zorder=3)
    plot.set_xlabel(f"first component, {100 * shares[0]:.0f} % of the variance", labelpad=2)
    plot.set_ylabel(f"second, {100 * shares[1]:.0f} %", labelpad=2)
    plot.set_xticks([])
    plot.set_yticks([])
    plot.set_aspect("equal", adjustable="datalim")


def _means(plot: Axes, means: Sequence[Tensor], colours: Sequence[str], ranked: Sequence[int]) -> None:
    """The means alone, enlarged, each with the number of its row, moved off where others lie."""
    from matplotlib.colors import to_rgb

    every = torch.stack(list(means))
    low, high = every.min(0).values, every.max(0).values
    scale = float((high - low).max().clamp_min(1e-12)) / (_SIDE - 0.5)  # units of the plane to an inch
    middle = (low + high) / 2
    inches = (every - middle) / scale
    numbers = spread(inches, _APART)[1:]
    for rank, k in enumerate(ranked):
        (x, y), (at_x, at_y) = inches[k + 1].tolist(), numbers[k].tolist()
        plot.plot((x, at_x), (y, at_y), color=colours[k], lw=0.5, zorder=2)
        plot.scatter([x], [y], s=2, color=colours[k], linewidths=0, zorder=3)
        plot.scatter([at_x], [at_y], s=38, color=colours[k], linewidths=0, zorder=4)
        ink = text_colour(to_rgb(colours[k]))
        plot.annotate(f"{rank + 1}", (at_x, at_y), ha="center", va="center", fontsize=4, color=ink, zorder=5)
    x, y = inches[0].tolist()
    plot.scatter([x], [y], s=16, color=_SOURCE, marker="x", linewidths=0.8, zorder=6)
    plot.set_xlim(-_SIDE / 2, _SIDE / 2)
    plot.set_ylim(-_SIDE / 2, _SIDE / 2)
    plot.set_xlabel("their means, enlarged", labelpad=2)
    plot.set_xticks([])
    plot.set_yticks([])


def spread(points: Tensor, apart: float, steps: int = 300) -> Tensor:
    """``points`` (n, 2), but for the first, moved until no two are nearer than ``apart``, or for so many ``steps``."""
    found = points.clone()
    turn = torch.arange(len(found), dtype=found.dtype) * 2.399963  # golden angle: points of one place go all ways
    found[1:] += 1e-3 * apart * torch.stack([turn.cos(), turn.sin()], 1)[1:]
    for _ in range(steps):
        ways = found[:, None] - found[None, :]
        lengths = ways.norm(dim=2).clamp_min(1e-12)
        short = (apart - lengths).clamp_min(0.0).fill_diagonal_(0.0)
        if not bool(short.any()):
            break
        found[1:] += (0.505 * short / lengths)[1:, :, None].mul(ways[1:]).sum(1)  # each of a pair by half
    return found


def _ratios(plot: Axes, rows: Sequence[tuple[str, PlottedDomain, str]], axis: str, size: float) -> None:
    for row, (_, one, colour) in enumerate(rows):
        if one.ratio is None:
            continue
        if one.interval is not None:
            plot.plot(one.interval, (row, row), color=colour, lw=1.2, zorder=2)
        plot.scatter([one.ratio], [row], s=16, color=colour, edgecolors="white", linewidths=0.4, zorder=3)
        if len(rows) <= len(_COLOURS):
            place = (one.ratio, row)
            plot.annotate(f"{one.ratio:.2f}", place, (0, 5), textcoords="offset points", ha="center", fontsize=6)
    plot.axvline(1.0, color=_SOURCE, lw=0.8, ls=(0, (4, 2.5)), zorder=1)
    plot.set_ylim(-0.7, len(rows) - 0.3)
    plot.set_yticks(range(len(rows)))
    plot.set_yticklabels([name for name, _, _ in rows], parse_math=False)
    plot.tick_params(length=2, width=0.5, labelsize=size, pad=2)
    ends = [end for _, one, _ in rows for end in (*(one.interval or ()), one.ratio or 1.0)]
    reach = max(1.0, *ends) if ends else 1.0
    plot.set_xlim(min(0.9, *ends, 0.9) - 0.04 * reach, reach + 0.06 * (reach - 0.9) + 0.02)
    if reach > 20:
        plot.set_xscale("log")
        plot.set_xlim(max(0.5, 0.9 * min(1.0, *(end for end in ends if end > 0))), 1.2 * reach)
    plot.set_xlabel(axis, labelpad=3)
    plot.grid(axis="x", color="#e8e8e8", lw=0.4)
    plot.set_axisbelow(True)
    for side in ("top", "right"):
        plot.spines[side].set_visible(False)
