"""What is where in a scene, the same in every domain: background, objects, their boxes, and a map of the parts.

The map says at each of 512 x 512 points which part is seen there. Every style colours that one map, so that styles
differ in appearance alone.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from advkit.data.scenes_objects import OBJECTS
from advkit.data.scenes_parts import Material, Part, Points, RandomNumbers, ellipse, palette, polygon

SIDE = 128  # pixels of a picture
OVER = 4  # points of the map for each pixel, in each direction
CLASSES = tuple(OBJECTS)
_BACKGROUND, _SLOT, _MOST, _TRIES = 160, 80, 5, 8
NUMBERS = _BACKGROUND + _MOST * _SLOT  # random numbers that a scene is made of
Extent = tuple[float, float, float, float]  # x0, y0, x1, y1

_TURN = {"car": 4.0, "house": 1.5, "tree": 4.0, "person": 4.0, "boat": 6.0, "cat": 5.0}  # degrees to either side
_NEAREST = {"car": 0.93, "house": 0.7, "tree": 0.75, "person": 0.93, "boat": 0.9, "cat": 0.93}  # of the way to us
_USUAL = {"car": (28, 25), "house": (27, 42), "tree": (18, 56), "person": (10, 43), "boat": (26, 40), "cat": (15, 29)}
_SMALLEST_BOX = 10.0  # pixels
_SEEN = 0.3  # of an object; one that is hidden more is marked difficult

_MEADOWS = palette("7fa650 93ad5a 6b9a4a b3a668 d8c48c 8fae6b c9b27a")
_HILLS = palette("7c9a86 8a9fae 6f8f6a a39b86 8593a8")
_WATERS = palette("4f86a8 5b9aa8 3f7390 6aa0b8")


@dataclass(frozen=True)
class Object:
    """One object: its class, where its parts are in the list of parts, and the row of its foot in pixels."""

    label: int
    parts: slice
    foot: float


@dataclass(frozen=True)
class Scene:
    """One scene.

    Attributes:
        parts: from back to front, in pixels of the picture with y down; the first is the sky.
        objects: those that stand in it, from back to front.
        labels: map of the parts, 8 bits, OVER points for each pixel.
        boxes: (b, 6) as in :mod:`advkit.data.boxes`, of what is seen of the objects.
        horizon: row in pixels.
        light: where the light comes from: -1 left, 1 right.
    """

    parts: tuple[Part, ...]
    objects: tuple[Object, ...]
    labels: Any
    boxes: list[list[float]]
    horizon: float
    light: int


def scene(numbers: Sequence[float]) -> Scene:
    """The scene that ``NUMBERS`` numbers in [0, 1) make."""
    d = RandomNumbers(numbers[:_BACKGROUND])
    horizon, light = SIDE * d.between(0.3, 0.48), d.choice((-1, 1))
    lake = d.choice(("none", "none", "far", "near"))
    parts = _background(d, horizon, lake)
    shore = _shore(horizon, lake)
    slots = _BACKGROUND + _SLOT * d.choice(range(1, _MOST + 1))
    placed = _placed(numbers[_BACKGROUND:slots], horizon, lake, shore)
    objects = []
    for label, foot, own in sorted(placed, key=lambda one: one[1]):
        objects.append(Object(label, slice(len(parts), len(parts) + len(own)), foot))
        parts += own
    labels, boxes = _drawn(parts, objects)
    return Scene(tuple(parts), tuple(objects), labels, boxes, horizon, light)


def _shore(horizon: float, lake: str) -> float:
    return horizon + (SIDE - horizon) * {"none": 0.0, "far": 0.42, "near": 0.5}[lake]


def _ridge(d: RandomNumbers, base: float, height: float) -> Points:
    """A wavy line over the width of the picture, closed at its bottom."""
    a, b, c = (d.between(0, 2 * math.pi) for _ in range(3))
    xs = [SIDE * k / 24 for k in range(25)]
    tops = [
        base - height * (0.5 + 0.3 * math.sin(x / 21 + a) + 0.14 * math.sin(x / 9 + b) + 0.06 * math.sin(x / 4 + c))
        for x in xs
    ]
    return polygon(*zip(xs, tops, strict=True), (SIDE, SIDE), (0, SIDE))


def _cloud(d: RandomNumbers, horizon: float) -> Points:
    x, y, w = d.between(0, SIDE), d.between(4, horizon * 0.6), d.between(11, 22)
    h, phase = w * d.between(0.3, 0.42), d.between(0, 1)
    turns = [math.pi * k / 20 for k in range(21)]
    lobes = [1 + 0.28 * abs(math.sin(2.5 * t + phase)) for t in turns]
    return polygon(*((x + w * math.cos(t), y - h * m * math.sin(t)) for t, m in zip(turns, lobes, strict=True)))


def _background(d: RandomNumbers, horizon: float, lake: str) -> list[Part]:
    parts = [Part(polygon((0, 0), (SIDE, 0), (SIDE, SIDE), (0, SIDE)), d.tint((0.62, 0.78, 0.93), 0.05), Material.SKY)]
    if d.chance(0.3):
        sun = ellipse(d.between(8, SIDE - 8), d.between(8, horizon * 0.5), 6.0)
        parts.append(Part(sun, (1.0, 0.93, 0.62), Material.CLOUD))
    parts += [Part(_cloud(d, horizon), (0.96, 0.97, 0.99), Material.CLOUD) for _ in range(d.choice((0, 1, 2, 3)))]
    hills = d.tint(d.choice(_HILLS), 0.04)
    for k in range(d.choice((0, 1, 2))):
        nearer = (hills[0] * (1 - 0.14 * k), hills[1] * (1 - 0.08 * k), hills[2] * (1 - 0.16 * k))
        parts.append(Part(_ridge(d, horizon + 3, (20, 11)[k]), nearer, Material.HILL))
    meadow, water = d.tint(d.choice(_MEADOWS), 0.04), d.tint(d.choice(_WATERS), 0.04)
    shore = _shore(horizon, lake)
    first, second = (water, meadow) if lake == "far" else (meadow, water)
    stuff = (Material.WATER, Material.GROUND) if lake == "far" else (Material.GROUND, Material.WATER)
    parts.append(Part(polygon((0, horizon), (SIDE, horizon), (SIDE, SIDE), (0, SIDE)), first, stuff[0]))
    if lake != "none":
        parts.append(Part(_ridge(d, shore + 2, 4.0), second, stuff[1]))
    elif d.chance(0.5):
        x, bottom, w = d.between(20, 108), d.between(-10, 138), d.between(14, 26)
        bend = 0.35 * x + 0.65 * bottom
        road = (
            (x - 1, horizon),
            (x + 1, horizon),
            (bend + 0.5 * w, SIDE * 0.8),
            (bottom + w, SIDE),
            (bottom - w, SIDE),
        )
        parts.append(Part(polygon(*road, (bend - 0.5 * w, SIDE * 0.8)), d.tint((0.66, 0.6, 0.52), 0.06), Material.ROAD))
    low, high = (shore + 6, SIDE - 3) if lake == "far" else (horizon + 5, (shore if lake == "near" else SIDE) - 3)
    for _ in range(d.choice((0, 1, 2, 4))):
        x, y, r = d.between(0, SIDE), d.between(low, high), d.between(1.5, 4.0)
        rock = [(x + r * m * math.cos(t), y - 0.7 * r * m * max(-0.35, math.sin(t))) for m, t in _bumps(d)]
        parts.append(Part(polygon(*rock), d.tint((0.56, 0.54, 0.52), 0.05), Material.ROCK))
    return parts


def _bumps(d: RandomNumbers) -> list[tuple[float, float]]:
    return [(d.between(0.75, 1.15), 2 * math.pi * k / 9) for k in range(9)]


def _placed(numbers: Sequence[float], horizon: float, lake: str, shore: float) -> list[tuple[int, float, list[Part]]]:
    """Objects that hide little of each other, one for each slot of numbers: class, foot's row and parts of each."""
    found: list[tuple[int, float, list[Part]]] = []
    taken: list[Extent] = []
    for start in range(0, len(numbers), _SLOT):
        d = RandomNumbers(numbers[start : start + _SLOT])
        name = "boat" if d.chance(0.36) and lake != "none" else d.choice([n for n in CLASSES if n != "boat"])
        wet = name == "boat"
        top = shore if (lake == "near") == wet and lake != "none" else horizon
        bottom = shore if (lake == "far") == wet and lake != "none" else SIDE
        for _ in range(_TRIES):
            x, foot = SIDE * d.between(0.05, 0.95), top + (bottom - top) * d.between(0.2, _NEAREST[name])
            size = 0.58 + 0.68 * (foot - horizon) / (SIDE - horizon)
            half, height = (size * side for side in _USUAL[name])
            extent = (x - half, foot - height, x + half, foot)
            if all(_overlap(extent, other) < 0.3 for other in taken) and _inside(extent) > 0.75:
                taken.append(extent)
                found.append((CLASSES.index(name), foot, _posed(name, x, foot, size, d)))
                break
    return found


def _posed(name: str, x: float, foot: float, size: float, d: RandomNumbers) -> list[Part]:
    """The parts of one object, flipped, stretched, turned and put in its place."""
    flip, stretch, turn = d.choice((-1, 1)), d.between(0.88, 1.13), math.radians(d.between(-_TURN[name], _TURN[name]))
    size *= d.between(0.88, 1.16)
    a, b = size * stretch * flip, size / stretch
    c, s = math.cos(turn), math.sin(turn)
    parts = OBJECTS[name](d)
    px, py = np.concatenate([part.points for part in parts]).T
    turned = np.stack([x + a * c * px - b * s * py, foot - a * s * px - b * c * py], 1)  # y turns downwards too
    ends = np.cumsum([len(part.points) for part in parts]).tolist()
    return [
        Part(turned[end - len(part.points) : end], part.colour, part.material)
        for part, end in zip(parts, ends, strict=True)
    ]


def _inside(extent: Extent) -> float:
    """The share of a box that the picture holds."""
    x0, y0, x1, y1 = extent
    held = (min(x1, SIDE) - max(x0, 0)) * (min(y1, SIDE) - max(y0, 0))
    return held / ((x1 - x0) * (y1 - y0))


def _overlap(a: Extent, b: Extent) -> float:
    """What two boxes share, as a part of the smaller one."""
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return max(0.0, w) * max(0.0, h) / min((x[2] - x[0]) * (x[3] - x[1]) for x in (a, b))


def outlines(polygons: Sequence[Points], over: int = OVER) -> list[list[int]]:
    """Polygons in pixels as lists x, y, x, y, ... of points of a map, ``over`` for each pixel."""
    if not polygons:
        return []
    flat = np.rint(np.concatenate(polygons) * over).astype(np.int64).ravel().tolist()
    ends = itertools.accumulate(2 * len(points) for points in polygons)
    return [flat[end - 2 * len(points) : end] for end, points in zip(ends, polygons, strict=True)]


def _window(parts: Sequence[Part]) -> tuple[int, int, int, int]:
    """The part of the map that holds all of ``parts``, with a margin."""
    points = np.concatenate([part.points for part in parts]) * OVER
    low, high = np.floor(points.min(0)) - 2, np.ceil(points.max(0)) + 3
    x0, y0, x1, y1 = np.clip(np.concatenate([low, high]), 0, SIDE * OVER).astype(int).tolist()
    return x0, y0, x1, y1


def _drawn(parts: Sequence[Part], objects: Sequence[Object]) -> tuple[Any, list[list[float]]]:
    """The map of ``parts`` and the boxes of ``objects``."""
    labels = Image.new("L", (SIDE * OVER, SIDE * OVER))
    canvas, whole = ImageDraw.Draw(labels), []
    lines = outlines([part.points for part in parts])
    for k in range(1, objects[0].parts.start if objects else len(parts)):
        canvas.polygon(lines[k], fill=k)
    windows = [_window(parts[one.parts]) for one in objects]
    for one, window in zip(objects, windows, strict=True):
        for k in range(one.parts.start, one.parts.stop):
            canvas.polygon(lines[k], fill=k)
        whole.append(sum(labels.crop(window).histogram()[one.parts]))
    boxes, shown = [], np.asarray(labels)
    for one, (left, top, right, bottom), area in zip(objects, windows, whole, strict=True):
        ids = shown[top:bottom, left:right]
        own = (ids >= one.parts.start) & (ids < one.parts.stop)
        seen = np.count_nonzero(own)
        if not seen:
            continue
        columns, rows = (np.flatnonzero(own.any(axis)).tolist() for axis in (0, 1))
        x0, x1 = ((left + k) / OVER for k in (columns[0], columns[-1] + 1))
        y0, y1 = ((top + k) / OVER for k in (rows[0], rows[-1] + 1))
        difficult = seen < _SEEN * area or min(x1 - x0, y1 - y0) < _SMALLEST_BOX
        boxes.append([x0, y0, x1, y1, float(one.label), float(difficult)])
    return labels, boxes
