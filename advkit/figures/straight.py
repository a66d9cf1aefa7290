"""Where the items of ordered rows stand, so that what is linked stands one below the other and lanes run straight."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_ROUNDS, _SWEEPS = 12, 40_000  # rounds, and demands looked at in each
_MANY = 300  # blocks; what has more is a thicket anyway, and gets two rounds
_BLUNT = 0.002  # ways below this part of a box count as none
_MAIN = 3.0  # how much more it counts that boxes stand below each other
_PULL = 0.001  # to the middle, where nothing else decides
_EXACT = 1e-5


class Item(NamedTuple):
    """Something that has a place in a row.

    Attributes:
        vertex: the box, or the box that a lane comes from.
        row: from 0, the topmost.
        is_box: or a lane.
    """

    vertex: int
    row: int
    is_box: bool


@dataclass(frozen=True)
class Sizes:
    """Widths, in any unit.

    Attributes:
        box: of a box.
        lane: of a lane.
        gap: between a box and its neighbours, at least.
        landing: between two links that arrive at one box.
        limit: of everything together, at most.
    """

    box: float
    lane: float
    gap: float
    landing: float
    limit: float

    def of(self, item: Item) -> float:
        """Width of ``item``."""
        return self.box if item.is_box else self.lane

    def width(self, row: Sequence[Item]) -> float:
        """Of ``row`` in the widest of its orders: each box between two lanes."""
        return sum(self.of(item) + 2 * self.gap * item.is_box for item in row)

    def step(self, left: Item, right: Item) -> float:
        """Least distance of the middles of two neighbours."""
        return (self.of(left) + self.of(right)) / 2 + self.gap * (left.is_box or right.is_box)


@dataclass(frozen=True)
class Blocks:
    """What moves as one.

    Attributes:
        of: the number of the block of each item.
        apart: least distance of two blocks that are neighbours anywhere, the left one first.
        least: the farthest left that each block can be.
        greatest: the farthest right.
        bends: how often a lane is interrupted.
    """

    of: dict[Item, int]
    apart: dict[tuple[int, int], float]
    least: Floats
    greatest: Floats
    bends: int

    def kept(self, x: Floats) -> Floats:
        """``x`` moved as little as it takes to keep all distances, first to the right, then to the left."""
        return np.minimum(_pushed(np.maximum(x, self.least), self.apart, np.inf), self.greatest)


def blocked(rows: Sequence[Sequence[Item]], links: Iterable[tuple[Item, Item]], sizes: Sizes) -> Blocks:
    """Boxes alone, and lanes that follow each other as one upright block: as many as the limit leaves room for.

    Lanes are interrupted where two cross, and then the longest that is in the way in its middle, until all fit.
    Every row must fit by itself.
    """
    follows = _uncrossed(rows, links)
    lanes = sum(1 for a, b in links if not a.is_box and not b.is_box)
    for attempt in itertools.count():
        of = _numbered(rows, follows)
        apart, least, greatest = _bounds(rows, of, sizes)
        tight = [upper for upper in follows if least[of[upper]] > greatest[of[upper]] + _EXACT]
        if not tight:
            return Blocks(of, apart, least, np.maximum(least, greatest), lanes - len(follows))
        columns: dict[int, list[Item]] = defaultdict(list)
        for upper in tight:
            columns[of[upper]].append(upper)
        tallest = sorted(columns.values(), key=len, reverse=True)
        for column in tallest[: 1 + attempt // 10]:  # a graph with hundreds of lanes must not take minutes
            del follows[column[len(column) // 2]]
    raise AssertionError("rows that fit by themselves fit when nothing holds them together")


def _uncrossed(rows: Sequence[Sequence[Item]], links: Iterable[tuple[Item, Item]]) -> dict[Item, Item]:
    """Lanes that follow one another, but of two that cross only the longer; from above to below."""
    place = {item: index for row in rows for index, item in enumerate(row)}
    length = Counter(item.vertex for item in place)
    upright = [(a, b) for a, b in links if not a.is_box and not b.is_box]
    kept: dict[int, list[tuple[Item, Item]]] = defaultdict(list)
    for upper, lower in sorted(upright, key=lambda link: (-length[link[0].vertex], link)):
        if all((place[a] < place[upper]) == (place[b] < place[lower]) for a, b in kept[upper.row]):
            kept[upper.row].append((upper, lower))
    return dict(link for row in sorted(kept) for link in kept[row])


def _numbered(rows: Sequence[Sequence[Item]], follows: Mapping[Item, Item]) -> dict[Item, int]:
    of: dict[Item, int] = {}
    count = 0
    for item in (item for row in rows for item in row):
        if item not in of:
            of[item] = count
            count += 1
        if item in follows:
            of[follows[item]] = of[item]
    return of


def _bounds(
    rows: Sequence[Sequence[Item]], of: Mapping[Item, int], sizes: Sizes
) -> tuple[dict[tuple[int, int], float], Floats, Floats]:
    """``apart``, ``least`` and ``greatest`` of :class:`Blocks`; least is above greatest where there is no room."""
    apart: dict[tuple[int, int], float] = {}
    half = np.zeros(max(of.values()) + 1)
    for row in rows:
        for item in row:
            half[of[item]] = sizes.of(item) / 2
        for left, right in itertools.pairwise(row):
            apart[of[left], of[right]] = max(sizes.step(left, right), apart.get((of[left], of[right]), 0.0))
    mirrored = {(right, left): step for (left, right), step in apart.items()}
    least, greatest = (_pushed(half, steps, sizes.limit) for steps in (apart, mirrored))
    return apart, least, sizes.limit - greatest


def _pushed(x: Floats, apart: Mapping[tuple[int, int], float], limit: float) -> Floats:
    """``x`` moved to the right until all distances are kept, or until some are past the limit (in a circle all get)."""
    x = x.copy()
    for _ in range(len(x)):
        moved = False
        for (left, right), step in apart.items():
            if x[right] < x[left] + step and x[left] <= limit:
                x[right], moved = x[left] + step, True
        if not moved:
            break
    return x


def straightened(blocks: Blocks, links: Mapping[tuple[Item, Item], float], sizes: Sizes) -> dict[Item, float]:
    """Middles of all items, between 0 and the limit, that keep the order and the least distances.

    The sum of the horizontal ways of all links is made small: as a quadratic programme (Hildreth, 1957) that is
    solved a few times, each time with every link weighted by the inverse of its way so far, which comes to the
    absolute ways.

    Args:
        blocks: what moves as one, and how far apart.
        links: what should stand one below the other, and how far to the right of its lower end's middle each arrives.
        sizes: the widths.
    """
    pairs = [
        (blocks.of[a], blocks.of[b], aside, _MAIN if a.is_box and b.is_box else 1.0)
        for (a, b), aside in links.items()
        if blocks.of[a] != blocks.of[b]
    ]
    x = blocks.kept(_solved(pairs, blocks, sizes))
    return {item: round(float(x[block]), 3) for item, block in blocks.of.items()}


def _solved(pairs: Sequence[tuple[int, int, float, float]], blocks: Blocks, sizes: Sizes) -> Floats:
    count = len(blocks.least)
    first = sorted(set(range(count)) - {right for _, right in blocks.apart})
    last = sorted(set(range(count)) - {left for left, _ in blocks.apart})
    matrix = np.concatenate([np.zeros((len(blocks.apart), count)), np.eye(count)[first], -np.eye(count)[last]])
    for row, (left, right) in enumerate(blocks.apart):
        matrix[row, left], matrix[row, right] = -1.0, 1.0
    demanded = np.concatenate([list(blocks.apart.values()), blocks.least[first], -blocks.greatest[last]])
    ends = np.array([pair[:2] for pair in pairs], dtype=int).reshape(-1, 2)
    aside, main = (np.array([pair[place] for pair in pairs]) for place in (2, 3))
    prices, weights = np.zeros(len(demanded)), main
    for _ in range(_ROUNDS if count < _MANY else 2):
        stiffness, wanted = _PULL * np.eye(count), np.full(count, _PULL * sizes.limit / 2)
        np.add.at(stiffness, (ends, ends), weights[:, None])
        np.add.at(stiffness, (ends, ends[:, ::-1]), -weights[:, None])
        np.add.at(wanted, ends, np.outer(weights * aside, (1, -1)))
        loose = np.linalg.inv(stiffness)
        prices = _prices(matrix @ loose @ matrix.T, demanded - matrix @ loose @ wanted, prices)
        x = loose @ (wanted + matrix.T @ prices)
        weights = main / (np.abs(x[ends[:, 0]] - x[ends[:, 1]] - aside) / sizes.box + _BLUNT)
    return x


def _prices(coupling: Floats, lacking: Floats, prices: Floats) -> Floats:
    """What each demand must pull with, 0 or more, so that all are met: the dual problem, one demand after the other."""
    prices = prices.copy()
    have = coupling @ prices
    for _ in range(max(_SWEEPS // max(len(prices), 1), 10)):
        largest = 0.0
        for row in range(len(prices)):
            change = max(-prices[row], (lacking[row] - have[row]) / coupling[row, row])
            if change:
                prices[row] += change
                have += change * coupling[row]
                largest = max(largest, abs(change) * coupling[row, row])
        if largest < _EXACT:
            break
    return prices
