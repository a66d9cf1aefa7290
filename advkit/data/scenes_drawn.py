"""Scenes as a hand draws them: in watercolour, as clip art, as a pencil sketch."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter

from advkit.data.scenes_layout import SIDE, Scene
from advkit.data.scenes_parts import Colour, Material, palette
from advkit.data.scenes_photo import Bytes, Pixels, codes, levels, owners, painted, planes, relief, smooth

_TWICE = 2 * SIDE
_ROWS, _COLUMNS = np.mgrid[:_TWICE, :_TWICE].astype(np.intp)
_SUM, _DIFFERENCE, _ACROSS = (grid.astype(np.int16) for grid in (_ROWS + _COLUMNS, _ROWS - _COLUMNS, _ROWS))
_PAPER = np.array([0.985, 0.97, 0.935], np.float32)[:, None, None]
_GREY = np.array([0.299, 0.587, 0.114], np.float32)  # luma (ITU-R BT.601)


def _doubled(field: Pixels) -> Pixels:
    return field.repeat(2, 0).repeat(2, 1)


def _wobbly(scene: Scene, reach: float, one: Bytes, other: Bytes) -> Bytes:
    """The map of the parts, two points for each pixel, as an unsteady hand traces it.

    Args:
        scene: the scene.
        reach: how far the hand strays, in points.
        one, other: coarse random bytes for the two directions.
    """
    rows, columns = (
        grid + _doubled(np.rint(smooth(field) * np.float32(reach)).astype(np.intp))
        for grid, field in ((_ROWS, one), (_COLUMNS, other))
    )
    where = rows.clip(0, _TWICE - 1) * _TWICE + columns.clip(0, _TWICE - 1)
    traced: Bytes = np.ascontiguousarray(np.asarray(scene.labels)[1::2, 1::2]).ravel()[where]
    return traced


def _edges(ids: Bytes) -> Bytes:
    """255 on both sides of each border between parts, two points wide, 0 elsewhere."""
    lines = np.zeros(ids.shape, np.uint8)
    across, down = (ids[:, 1:] != ids[:, :-1]) * np.uint8(255), (ids[1:] != ids[:-1]) * np.uint8(255)
    lines[:, 1:] |= across
    lines[:, :-1] |= across
    lines[1:] |= down
    lines[:-1] |= down
    return lines


def _halved(field: Bytes) -> Pixels:
    """Means of 2 x 2 points, in [0, 1]."""
    return np.asarray(Image.fromarray(field).reduce(2), dtype=np.float32) / 255


def _colours(scene: Scene) -> Pixels:
    return np.array([part.colour for part in scene.parts], np.float32)


def watercolor(scene: Scene, noise: Bytes) -> Bytes:
    """Thin washes that pool at their edges and run into each other, on grained paper."""
    ids = _wobbly(scene, 3.0, noise[0, :14, :14], noise[0, 20:34, :14])
    wash = 1 - _colours(scene)
    grey = wash.mean(1, keepdims=True)
    wash = np.clip((grey + (wash - grey) * np.float32(1.3)) * np.float32(0.66), 0, 1)
    picture = Image.fromarray((wash * 255).astype(np.uint8)[ids]).reduce(2)
    crisp = planes(picture.filter(ImageFilter.BoxBlur(0.4))) / np.float32(255)
    run = planes(picture.filter(ImageFilter.BoxBlur(3))) / np.float32(255)
    wet = np.clip(0.25 + 0.7 * smooth(noise[0, 40:50, :10]), 0.08, 0.75)
    pools = np.asarray(Image.fromarray(_edges(ids)).reduce(2).filter(ImageFilter.BoxBlur(1)), np.float32) / 255
    blooms = smooth(noise[1, :6, :6]) * np.float32(0.55) + smooth(noise[1, 20:42, :22]) * np.float32(0.2)
    grain = (noise[2].astype(np.float32) + noise[2, ::-1]) / 255 - 1
    density = (crisp * (1 - wet) + run * wet) * (1 + blooms + 1.1 * pools + 0.19 * grain)
    image = (_PAPER * (1 + 0.025 * grain)) * (1 - np.clip(density, 0, 0.95))
    return levels(image * 255)


def _vivid(colour: Colour) -> tuple[int, int, int]:
    """The nearest of a few loud colours."""
    mean = sum(colour) / 3
    red, green, blue = (int(max(0, min(4, round(4 * (mean + (c - mean) * 2.4 + 0.06))))) * 255 // 4 for c in colour)
    return red, green, blue


_BACKS = palette("ffffff ffe680 b3ecff ffccdd ccffcc e6ccff ffd9b3 99ddff")
_BACK, _FRONT, _LINE = 253, 254, 255  # parts of the map that a pattern and outlines take


def _pattern(noise: Bytes, kind: int) -> Bytes:
    """Plain, dotted, striped or chequered paper, (2 SIDE, 2 SIDE) of _BACK and _FRONT."""
    size = 14 + int(noise[0, 0, 2]) % 14
    y, x = _ROWS % (2 * size) - size, _COLUMNS % (2 * size) - size
    if kind == 0:
        marked = np.zeros_like(_ROWS)
    elif kind == 1:
        marked = x * x + y * y < size * size // 4
    elif kind == 2:
        marked = (_ROWS + _COLUMNS) // size % 2
    else:
        marked = (x < 0) ^ (y < 0)
    paper: Bytes = (_BACK + marked).astype(np.uint8)
    return paper


def clipart(scene: Scene, noise: Bytes) -> Bytes:
    """Flat loud colours within black outlines, in front of plain or patterned paper or a flat landscape."""
    ids = np.asarray(scene.labels)[1::2, 1::2]
    what = owners(scene)[ids]
    kind = int(noise[0, 0, 3]) % 7
    shown = ids if kind > 3 else np.where(what > 0, ids, np.uint8(0))
    lines = _edges(shown) | np.asarray(Image.fromarray(_edges(what)).filter(ImageFilter.MaxFilter(3)))
    if kind <= 3:
        shown = np.where(what > 0, ids, _pattern(noise, kind))
    colours = [_vivid(part.colour) for part in scene.parts]
    colours += [(0, 0, 0)] * (_BACK - len(colours))
    colours += [codes(_BACKS[k % len(_BACKS)]) for k in noise[0, 0, :2].tolist()] + [(12, 12, 12)]
    image = painted(Image.fromarray(np.maximum(shown, lines)), colours).reduce(2)
    return np.asarray(image).transpose(2, 0, 1)


def sketch(scene: Scene, noise: Bytes) -> Bytes:
    """Grey pencil lines on white paper: contours drawn over, and hatching where it is dark."""
    ids = _wobbly(scene, 2.0, noise[0, :22, :22], noise[0, 30:52, :22])
    again = _wobbly(scene, 2.6, noise[0, 60:76, :16], noise[0, 80:96, :16])
    luma = (_colours(scene) * _GREY).sum(1)
    first = scene.objects[0].parts.start if scene.objects else len(scene.parts)
    stands = np.arange(len(scene.parts)) >= first
    wave = _doubled(np.rint(smooth(noise[1, :20, :20]) * 3).astype(np.int16))
    tone = (luma + 2 * ~stands)[ids] + np.float32(0.22) * relief(owners(scene)[ids], scene.light, (4, 9, 14))
    strokes = (tone < 0.62) & ((_SUM + wave) & 7 < 2)
    strokes |= (tone < 0.3) & ((_DIFFERENCE + wave) & 7 < 2)
    water = np.array([part.material == Material.WATER for part in scene.parts])[ids]
    strokes |= water & ((_ACROSS + 2 * wave) & 15 < 2) & _doubled(smooth(noise[1, 40:60, 40:56]) > 0.1)
    weight = np.where(stands, np.uint8(255), np.uint8(150))
    lines = np.minimum(_edges(ids), weight[ids]), np.minimum(_edges(again), weight[again])
    lead = 0.72 * _halved(lines[0]) + 0.42 * _halved(lines[1]) + 0.42 * _halved(strokes * np.uint8(255))
    grain = noise[2].astype(np.float32) / 255
    pressure = 0.82 + 0.25 * smooth(noise[1, 64:74, :10]) - 0.45 * grain * grain
    image = np.float32(0.975) - np.float32(0.03) * grain - np.minimum(lead * pressure, np.float32(0.85))
    return np.broadcast_to(levels(image * 255), (3, SIDE, SIDE))
