"""What the scenes are put together from: coloured polygons of some material, and random numbers one by one."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum, auto
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Colour = tuple[float, float, float]
Points = NDArray[np.float64]
T = TypeVar("T")


class Material(IntEnum):
    """What a part is made of, which decides its texture and gloss."""

    SKY = 0
    CLOUD = auto()
    HILL = auto()
    GROUND = auto()
    ROAD = auto()
    WATER = auto()
    ROCK = auto()
    LEAF = auto()
    WOOD = auto()
    WALL = auto()
    ROOF = auto()
    GLASS = auto()
    PAINT = auto()
    RUBBER = auto()
    CLOTH = auto()
    SKIN = auto()
    FUR = auto()


@dataclass(frozen=True)
class Part:
    """One polygon: points (n, 2), colour in [0, 1], and what it is made of."""

    points: Points
    colour: Colour
    material: Material


class RandomNumbers:
    """Random numbers, one after the other."""

    def __init__(self, numbers: Sequence[float]) -> None:
        self._numbers: Iterator[float] = iter(numbers)

    def between(self, low: float, high: float) -> float:
        """A number in [low, high)."""
        return low + (high - low) * next(self._numbers)

    def chance(self, probability: float) -> bool:
        """Whether something of this probability happens."""
        return next(self._numbers) < probability

    def choice(self, options: Sequence[T]) -> T:
        """One of ``options``, each as likely as any other."""
        return options[int(next(self._numbers) * len(options))]

    def tint(self, colour: Colour, amount: float = 0.07) -> Colour:
        """``colour``, each channel moved by at most ``amount``."""
        red, green, blue = (min(1.0, max(0.0, c + self.between(-amount, amount))) for c in colour)
        return red, green, blue


def palette(codes: str) -> tuple[Colour, ...]:
    """Colours from their hexadecimal codes."""
    channels = [bytes.fromhex(code) for code in codes.split()]
    return tuple((r / 255, g / 255, b / 255) for r, g, b in channels)


def polygon(*points: tuple[float, float]) -> Points:
    """(n, 2) from pairs."""
    return np.array(points, dtype=np.float64)


def box(x0: float, y0: float, x1: float, y1: float) -> Points:
    """An upright rectangle."""
    return polygon((x0, y0), (x1, y0), (x1, y1), (x0, y1))


_CIRCLE = np.array([(math.cos(2 * math.pi * k / 24), math.sin(2 * math.pi * k / 24)) for k in range(24)])


def ellipse(x: float, y: float, rx: float, ry: float | None = None, tilt: float = 0.0) -> Points:
    """An ellipse about (x, y), turned by ``tilt`` radians."""
    ring = _CIRCLE * (rx, rx if ry is None else ry)
    c, s = math.cos(tilt), math.sin(tilt)
    return np.stack([x + c * ring[:, 0] - s * ring[:, 1], y + s * ring[:, 0] + c * ring[:, 1]], 1)


def limb(x: float, y: float, length: float, angle: float, start: float, end: float) -> Points:
    """A tapering stroke from (x, y): ``angle`` 0 points down, positive ones to the right; widths at both ends."""
    along, across = (math.sin(angle), -math.cos(angle)), (math.cos(angle), math.sin(angle))
    tip = (x + length * along[0], y + length * along[1])
    a, b = start / 2, end / 2
    return polygon(
        (x - a * across[0], y - a * across[1]),
        (x + a * across[0], y + a * across[1]),
        (tip[0] + b * across[0], tip[1] + b * across[1]),
        (tip[0] + b * (0.6 * along[0]), tip[1] + b * (0.6 * along[1])),
        (tip[0] - b * across[0], tip[1] - b * across[1]),
    )
