"""A graph in rows, from top to bottom, whose long links run in lanes of their own and never through a box.

After Sugiyama, Tagawa, Toda (1981): rows first, then the order within each row, then the places; a link that passes
rows takes a narrow lane in each of them. All links that leave one box share its lanes.
"""

from __future__ import annotations

import bisect
import itertools
import random
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from advkit.figures.straight import Item, Sizes, blocked, straightened

_STARTS, _SWEEPS = 12, 6
_MANY = 400  # items; what has more is a thicket anyway, and gets one start
_WIDEST = (4, 3, 2, 1)  # boxes side by side at most: that with the straightest lanes is taken, if not too tall
_ROW = 2  # bends that one row less is worth
_NARROW = (1.0, 0.7, 0.5, 0.0)  # parts of their width that lanes get, the first with which rows fit


@dataclass(frozen=True)
class Layout:
    """Where everything goes.

    Attributes:
        rows: items from left to right.
        links: from an item to one in the next row, and how far to the right of that one's middle the link arrives.
        x: middles; the left edge of the leftmost item is at 0.
        width: the right edge of the rightmost item.
    """

    rows: list[list[Item]]
    links: dict[tuple[Item, Item], float]
    x: dict[Item, float]
    width: float


def arranged(inputs: Mapping[int, Sequence[int]], sizes: Sizes) -> Layout:
    """Lay out the graph in which each vertex has those ``inputs``.

    Args:
        inputs: in an order in which every vertex comes after its inputs.
        sizes: what must fit beside what. Lanes get narrower where rows don't fit otherwise, and bend where upright
            ones would not.
    """
    orders = [_ordered(inputs, widest, sizes) for widest in _WIDEST]
    for part in _NARROW:
        narrow = replace(sizes, lane=part * sizes.lane)
        fit = [(rows, links) for rows, links in orders if all(narrow.width(row) <= narrow.limit for row in rows)]
        if fit:
            break
    plans = [blocked(rows, links, narrow) for rows, links in fit]
    best = min(range(len(fit)), key=lambda index: plans[index].bends + _ROW * len(fit[index][0]))
    rows, links = fit[best]
    x = straightened(plans[best], links, narrow)
    left = min(middle - narrow.of(item) / 2 for item, middle in x.items())
    right = max(middle + narrow.of(item) / 2 for item, middle in x.items())
    return Layout(rows, links, {item: middle - left for item, middle in x.items()}, right - left)


def _ordered(
    inputs: Mapping[int, Sequence[int]], widest: int, sizes: Sizes
) -> tuple[list[list[Item]], dict[tuple[Item, Item], float]]:
    """Rows with few crossings; links arrive at a box side by side, in the order that they come from."""
    rows, pairs = _with_lanes(_row_of(inputs, widest), inputs)
    rows = _untangled(rows, pairs)
    place = {item: index for row in rows for index, item in enumerate(row)}
    links = {}
    for lower, uppers in _neighbours(pairs)[0].items():
        step = min(sizes.landing, 0.9 * sizes.box / len(uppers))
        for rank, upper in enumerate(sorted(uppers, key=lambda item: place[item])):
            links[upper, lower] = (rank - (len(uppers) - 1) / 2) * step
    return rows, links


def _row_of(inputs: Mapping[int, Sequence[int]], widest: int) -> dict[int, int]:
    """The row of each vertex: below its inputs, at most ``widest`` in one, with as few lanes as moving one can give."""
    row_of: dict[int, int] = {}
    load: Counter[int] = Counter()
    for vertex, before in inputs.items():
        row = 1 + max((row_of[other] for other in before), default=-1)
        row_of[vertex] = next(r for r in itertools.count(row) if load[r] < widest)
        load[row_of[vertex]] += 1
    after = _consumers(inputs)
    for _ in range(_SWEEPS):
        before_sweep = dict(row_of)
        for vertex in inputs:
            _move(vertex, row_of, load, widest, inputs, after)
        if row_of == before_sweep:
            break
    used = sorted(set(row_of.values()))
    return {vertex: used.index(row) for vertex, row in row_of.items()}


def _move(
    vertex: int,
    row_of: dict[int, int],
    load: Counter[int],
    widest: int,
    inputs: Mapping[int, Sequence[int]],
    after: Mapping[int, Sequence[int]],
) -> None:
    """Give ``vertex`` the row between its inputs and its consumers where the fewest lanes are needed."""
    old = row_of[vertex]
    first = 1 + max((row_of[other] for other in inputs[vertex]), default=-1)
    last = min((row_of[other] for other in after[vertex]), default=old + 1)

    def lanes(row: int) -> int:
        row_of[vertex] = row
        return sum(
            max(row_of[other] for other in after[one]) - row_of[one] for one in (vertex, *inputs[vertex]) if after[one]
        )

    rows = [old, *(row for row in range(first, last) if row != old and load[row] < widest)]
    load[old] -= 1
    best = min(rows, key=lanes)
    row_of[vertex] = best
    load[best] += 1


def _consumers(inputs: Mapping[int, Sequence[int]]) -> dict[int, list[int]]:
    after: dict[int, list[int]] = {vertex: [] for vertex in inputs}
    for vertex, before in inputs.items():
        for other in before:
            after[other].append(vertex)
    return after


def _with_lanes(
    row_of: Mapping[int, int], inputs: Mapping[int, Sequence[int]]
) -> tuple[list[list[Item]], list[tuple[Item, Item]]]:
    rows: list[list[Item]] = [[] for _ in range(max(row_of.values()) + 1)]
    links = []
    for vertex, row in row_of.items():
        rows[row].append(Item(vertex, row, True))
    for vertex, later in _consumers(inputs).items():
        at = Item(vertex, row_of[vertex], True)
        last = max((row_of[other] for other in later), default=0)
        for row in range(row_of[vertex] + 1, last + 1):
            links += [(at, Item(other, row, True)) for other in later if row_of[other] == row]
            if row < last:
                lane = Item(vertex, row, False)
                rows[row].append(lane)
                links.append((at, lane))
                at = lane
    return rows, links


def _neighbours(links: Sequence[tuple[Item, Item]]) -> tuple[dict[Item, list[Item]], dict[Item, list[Item]]]:
    """What each item is linked with in the row above, and in the row below."""
    above, below = defaultdict(list), defaultdict(list)
    for upper, lower in links:
        below[upper].append(lower)
        above[lower].append(upper)
    return above, below


def _untangled(rows: Sequence[Sequence[Item]], links: Sequence[tuple[Item, Item]]) -> list[list[Item]]:
    """The rows, reordered so that few links cross.

    From several orders: each item goes to the mean of its neighbours, row by row down and up by turns, and then
    neighbours are exchanged. The best of all is taken.
    """
    above, below = _neighbours(links)
    best, fewest = [list(row) for row in rows], _crossings(rows, below)
    for start in range(_STARTS if sum(map(len, rows)) < _MANY else 1):
        chance = random.Random(start)
        order = [chance.sample(row, len(row)) if start else list(row) for row in rows]
        for sweep in range(_SWEEPS):
            down = sweep % 2 == 0
            for row in range(1, len(order)) if down else range(len(order) - 2, -1, -1):
                beside = order[row - 1] if down else order[row + 1]
                order[row] = _by_mean(order[row], beside, above if down else below)
            if sweep >= _SWEEPS - 2:  # the last ones, as the two ways often differ
                tried = [list(row) for row in order]
                _exchange(tried, above, below)
                count = _crossings(tried, below)
                if count < fewest:
                    best, fewest = tried, count
        if fewest == 0:
            break
    return best


def _by_mean(row: Sequence[Item], beside: Sequence[Item], linked: Mapping[Item, Sequence[Item]]) -> list[Item]:
    place = {item: index for index, item in enumerate(beside)}
    means = {
        item: sum(place[other] for other in linked[item]) / len(linked[item]) if linked.get(item) else float(index)
        for index, item in enumerate(row)
    }
    return sorted(row, key=lambda item: means[item])


def _exchange(
    rows: list[list[Item]], above: Mapping[Item, Sequence[Item]], below: Mapping[Item, Sequence[Item]]
) -> None:
    """Exchange neighbours as long as that removes crossings."""
    place = {item: index for row in rows for index, item in enumerate(row)}

    def crossings(left: Item, right: Item) -> int:
        sides = ((linked.get(left, ()), linked.get(right, ())) for linked in (above, below))
        return sum(place[a] > place[b] for ours, theirs in sides for a in ours for b in theirs)

    improved = True
    while improved:
        improved = False
        for row in rows:
            for index in range(len(row) - 1):
                left, right = row[index : index + 2]
                if crossings(right, left) < crossings(left, right):
                    row[index : index + 2] = right, left
                    place[left], place[right] = index + 1, index
                    improved = True


def _crossings(rows: Sequence[Sequence[Item]], below: Mapping[Item, Sequence[Item]]) -> int:
    """How many links between these rows, one after the other, cross."""
    count = 0
    for upper, lower in itertools.pairwise(rows):
        place = {item: index for index, item in enumerate(lower)}
        passed: list[int] = []
        for item in upper:
            targets = [place[other] for other in below.get(item, ())]
            count += sum(len(passed) - bisect.bisect_right(passed, target) for target in targets)
            for target in targets:
                bisect.insort(passed, target)
    return count
