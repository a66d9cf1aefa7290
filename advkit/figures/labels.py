"""Words beside points, where they hide as little as possible."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

Place = tuple[float, float]

# What a place costs: for the part of a label outside the frame, each label hidden, each label that the line to the
# point would strike through, each line it would cross, each marker hidden, each place that is liked better.
_OUTSIDE, _LABEL, _STRUCK, _CROSSED, _MARKER, _LIKED = 1000.0, 40.0, 25.0, 8.0, 10.0, 0.03
_ANGLES = [math.pi / 4 * eighth for eighth in (0, 4, 2, 6, 1, 7, 3, 5, 0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5)]
_STEPS = (1.0, 1.6, 2.4, 3.4, 4.8, 6.6)
_ROUNDS = 4


class Box(NamedTuple):
    """A rectangle, in any one unit of length."""

    left: float
    bottom: float
    right: float
    top: float

    def shared(self, other: Box) -> float:
        """Area of the part that both cover."""
        wide = min(self.right, other.right) - max(self.left, other.left)
        high = min(self.top, other.top) - max(self.bottom, other.bottom)
        return max(wide, 0.0) * max(high, 0.0)

    def grown(self, margin: float) -> Box:
        """The same with ``margin`` more on each side."""
        return Box(self.left - margin, self.bottom - margin, self.right + margin, self.top + margin)

    def nearest(self, place: Place) -> Place:
        """The point of the box that is closest to ``place``."""
        return min(max(place[0], self.left), self.right), min(max(place[1], self.bottom), self.top)

    def struck(self, start: Place, end: Place) -> bool:
        """Whether the straight line from ``start`` to ``end`` passes through the inside."""
        enters, leaves = 0.0, 1.0
        for low, high, origin, way in (
            (self.left, self.right, start[0], end[0] - start[0]),
            (self.bottom, self.top, start[1], end[1] - start[1]),
        ):
            if way == 0:
                if not low < origin < high:
                    return False
                continue
            first, second = sorted(((low - origin) / way, (high - origin) / way))
            enters, leaves = max(enters, first), min(leaves, second)
        return enters < leaves


class Label(NamedTuple):
    """Where the words stand, and from where to where a thin line joins them with their point (None: no need)."""

    box: Box
    line: tuple[Place, Place] | None


def placed(
    anchors: Sequence[Place],
    sizes: Sequence[tuple[float, float]],
    obstacles: Sequence[Box],
    frame: Box,
    distance: float,
) -> list[Label]:
    """Where the label of each anchor goes.

    Each takes the cheapest of about a hundred places round its anchor; as the later ones may have taken what an
    earlier one would now avoid, all choose again until nobody moves. No chance is involved.

    Args:
        anchors: the points that are labelled.
        sizes: width and height of each label.
        obstacles: markers, bars and lines that had better not be hidden.
        frame: what no label may leave.
        distance: from an anchor to the nearest place of its label; a line is drawn beyond twice as much.
    """
    choices = [_around(anchor, size, distance) for anchor, size in zip(anchors, sizes, strict=True)]
    alone = [[_cost(label.box, obstacles, frame) + _LIKED * i for i, label in enumerate(labels)] for labels in choices]
    chosen: dict[int, Label] = {}
    crowded_first = sorted(range(len(anchors)), key=lambda one: (-min(alone[one]), one))
    for _ in range(_ROUNDS):
        before = dict(chosen)
        for one in crowded_first:
            others = [label for other, label in chosen.items() if other != one]
            costs = [own + _conflicts(label, others) for label, own in zip(choices[one], alone[one], strict=True)]
            chosen[one] = choices[one][costs.index(min(costs))]
        if chosen == before:
            break
    return [chosen[one] for one in range(len(anchors))]


def _around(anchor: Place, size: tuple[float, float], distance: float) -> list[Label]:
    """Labels of that size beside the anchor, those best liked first."""
    labels = []
    for step in _STEPS:
        for angle in _ANGLES:
            x = anchor[0] + step * distance * math.cos(angle) + size[0] / 2 * _side(math.cos(angle))
            y = anchor[1] + step * distance * math.sin(angle) + size[1] / 2 * _side(math.sin(angle))
            box = Box(x - size[0] / 2, y - size[1] / 2, x + size[0] / 2, y + size[1] / 2)
            end = box.nearest(anchor)
            labels.append(Label(box, (anchor, end) if math.dist(anchor, end) > 2 * distance else None))
    return labels


def _side(part: float) -> float:
    """By how many halves of its size a label is moved so that it stands beside its anchor; 0 where it is centred."""
    return max(-1.0, min(1.0, 1.5 * part)) if abs(part) > 1e-9 else 0.0


def _cost(box: Box, obstacles: Sequence[Box], frame: Box) -> float:
    area = (box.right - box.left) * (box.top - box.bottom)
    hidden = sum(box.shared(other) > 0 for other in obstacles)
    return _OUTSIDE * (1 - box.shared(frame) / area) + _MARKER * hidden


def _conflicts(label: Label, others: Sequence[Label]) -> float:
    """What the label would hide, strike through and cross of the ``others``."""
    area = (label.box.right - label.box.left) * (label.box.top - label.box.bottom)
    cost = 0.0
    for box, line in others:
        shared = label.box.shared(box)
        cost += _LABEL * (1 + shared / area) * (shared > 0)
        cost += _STRUCK * (label.line is not None and box.struck(*label.line))
        cost += _STRUCK * (line is not None and label.box.struck(*line))
        cost += _CROSSED * (label.line is not None and line is not None and _cross(*label.line, *line))
    return cost


def _cross(a: Place, b: Place, c: Place, d: Place) -> bool:
    """Whether the lines from a to b and from c to d have an inner point in common."""

    def turn(p: Place, q: Place, r: Place) -> float:
        return (q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0])

    return turn(a, b, c) * turn(a, b, d) < 0 and turn(c, d, a) * turn(c, d, b) < 0
