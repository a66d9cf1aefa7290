"""Scenes as a camera sees them: textured, lit from one side, with shadows and sensor noise; and the same in fog."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from advkit.data.scenes_layout import CLASSES, OVER, SIDE, Scene, outlines
from advkit.data.scenes_parts import Colour, Material

Pixels = NDArray[Any]  # float32, (SIDE, SIDE) or (SIDE, SIDE, 3)
Bytes = NDArray[np.uint8]

# Strength of fine, patchy and streaky texture and of relief.
_LOOKS = {
    Material.SKY: (0.0, 0.02, 0.02, 0.0),
    Material.CLOUD: (0.0, 0.03, 0.02, 0.0),
    Material.HILL: (0.06, 0.10, 0.04, 0.0),
    Material.GROUND: (0.13, 0.10, 0.09, 0.0),
    Material.ROAD: (0.08, 0.05, 0.04, 0.0),
    Material.WATER: (0.02, 0.03, 0.16, 0.0),
    Material.ROCK: (0.12, 0.10, 0.0, 0.35),
    Material.LEAF: (0.22, 0.22, 0.0, 0.22),
    Material.WOOD: (0.05, 0.06, 0.0, 0.18),
    Material.WALL: (0.05, 0.06, 0.04, 0.06),
    Material.ROOF: (0.08, 0.05, 0.16, 0.08),
    Material.GLASS: (0.0, 0.12, 0.0, 0.15),
    Material.PAINT: (0.0, 0.03, 0.03, 0.26),
    Material.RUBBER: (0.03, 0.0, 0.0, 0.3),
    Material.CLOTH: (0.05, 0.09, 0.0, 0.24),
    Material.SKIN: (0.02, 0.02, 0.0, 0.2),
    Material.FUR: (0.13, 0.08, 0.05, 0.22),
}
_LOOK = np.array([_LOOKS[material] for material in Material], np.float32).T.copy()
_GLOSS = {Material.GLASS: 0.5, Material.PAINT: 0.35, Material.RUBBER: 0.1, Material.SKIN: 0.05}
_BLANK = np.array([m in (Material.GROUND, Material.ROAD, Material.HILL) for m in Material])


def codes(colour: Colour) -> tuple[int, int, int]:
    """A colour as three numbers from 0 to 255."""
    red, green, blue = (round(255 * c) for c in colour)
    return red, green, blue


def painted(labels: Any, colours: Sequence[tuple[int, int, int]]) -> Any:
    """The RGB image of a map (an 8-bit image) with a colour of 0 to 255 for each part."""
    image = labels.copy()
    image.putpalette([channel for colour in colours for channel in colour])
    return image.convert("RGB")


def planes(image: Any) -> Pixels:
    """(3, H, W) of 0 to 255 from an RGB image; whole planes are much faster than pixels of three numbers."""
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1)).astype(np.float32)


def levels(image: Pixels) -> Bytes:
    """The nearest whole numbers from 0 to 255."""
    return np.clip(image + np.float32(0.5), 0, 255).astype(np.uint8)


def smooth(coarse: Bytes) -> Pixels:
    """(SIDE, SIDE) in [-1, 1] between the values of a coarse grid of any shape."""
    field = Image.fromarray(np.ascontiguousarray(coarse)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return np.asarray(field, dtype=np.float32) / 127.5 - 1


def blurred(field: Pixels, radius: float) -> Pixels:
    """A blur of values in [0, 1], in steps of 1/255."""
    image = Image.fromarray((field * 255).astype(np.uint8)).filter(ImageFilter.BoxBlur(radius))
    return np.asarray(image, dtype=np.float32) / 255


def owners(scene: Scene) -> Bytes:
    """Table from parts to objects: 0 for the background, then 1, 2 ..."""
    table = np.zeros(256, np.uint8)
    for k, one in enumerate(scene.objects):
        table[one.parts] = k + 1
    return table


def relief(ids: Bytes, light: int, steps: tuple[int, ...]) -> Pixels:
    """Shading of parts as if each bulged: 1 at the edge towards the light, -1 at the other, as large as ``ids``.

    Args:
        ids: map of the parts.
        light: -1 left, 1 right; it always comes from above.
        steps: how far from the edge the bulge reaches, in points.
    """
    total = np.zeros(ids.shape, np.int8)
    for k in steps:
        here = (slice(k, None), slice(None, -k) if light > 0 else slice(k, None))
        there = (slice(None, -k), slice(k, None) if light > 0 else slice(None, -k))
        other = (ids[here] != ids[there]).view(np.int8)
        total[here] += other
        total[there] -= other
    return total / np.float32(len(steps))


def _shadow(scene: Scene, wet: bool) -> Pixels | float:
    """Shadows on the ground, or reflections in the water, of the objects that stand there, softened."""
    standing = [one for one in scene.objects if (CLASSES[one.label] == "boat") == wet]
    if not standing:
        return 0.0
    image = Image.new("L", (SIDE, SIDE))
    canvas = ImageDraw.Draw(image)
    slant, length = (0.0, 0.5) if wet else (-0.55 * scene.light, -0.3)
    for one in standing:
        for outline in outlines([part.points for part in scene.parts[one.parts]], 1):
            line: list[float] = list(outline)
            heights = [one.foot - y for y in line[1::2]]
            line[::2] = [x + slant * height for x, height in zip(line[::2], heights, strict=True)]
            line[1::2] = [one.foot + length * height for height in heights]
            canvas.polygon(line, fill=255)
    return np.asarray(image.filter(ImageFilter.BoxBlur(1)), dtype=np.float32) / 255


def _nearness(scene: Scene) -> Pixels:
    """(SIDE, 1): how near the ground is in each row, from 0 at the horizon to 1 at the lower edge."""
    rows = np.arange(SIDE, dtype=np.float32)[:, None]
    near: Pixels = np.clip((rows - np.float32(scene.horizon)) / np.float32(SIDE - scene.horizon), 0, 1)
    return near


def _gain(scene: Scene, ids: NDArray[np.intp], noise: Bytes, bulge: Pixels) -> Pixels:
    """What texture, relief, shadows and the height of the sun make of the brightness, (SIDE, SIDE)."""
    stuff = np.array([part.material.value for part in scene.parts])[ids]
    gain: Pixels = 1 + _LOOK[0][stuff] * (noise[0] / np.float32(127.5) - 1)
    gain += _LOOK[1][stuff] * smooth(noise[1, :26, :26])
    gain += _LOOK[2][stuff] * smooth(noise[1, 32:128, 32:42])
    gain += _LOOK[3][stuff] * bulge
    dry, water, sky = _BLANK[stuff], stuff == Material.WATER, stuff == Material.SKY
    gain -= np.float32(0.42) * _shadow(scene, False) * dry + np.float32(0.3) * _shadow(scene, True) * water
    first = scene.objects[0].parts.start if scene.objects else len(scene.parts)
    solid = (ids >= first).astype(np.float32)
    gain -= np.float32(0.25) * blurred(solid, 3) * (1 - solid)
    gain += (dry | water) * (np.float32(0.12) - np.float32(0.2) * _nearness(scene))
    height = np.minimum(np.arange(SIDE, dtype=np.float32)[:, None] / np.float32(scene.horizon), 1)
    gain += sky * (np.float32(0.3) * height - np.float32(0.18))
    return gain


def _lit(scene: Scene, noise: Bytes) -> Pixels:
    """The scene in light, (3, SIDE, SIDE) of 0 to 1, before the camera."""
    flat = painted(scene.labels, [codes(part.colour) for part in scene.parts]).reduce(OVER)
    image = planes(flat) / np.float32(255)
    double = np.ascontiguousarray(np.asarray(scene.labels)[1::2, 1::2])
    ids = double[1::2, 1::2].astype(np.intp)  # what indexing wants, or it converts each time
    edges = relief(double, scene.light, (1, 2, 3, 5))
    edge = (edges[::2, ::2] + edges[1::2, ::2] + edges[::2, 1::2] + edges[1::2, 1::2]) / 4
    body = relief(owners(scene)[ids], scene.light, (2, 4, 6, 8))
    image *= _gain(scene, ids, noise, edge + np.float32(0.9) * body)
    cloud = np.array([part.material == Material.CLOUD for part in scene.parts], np.float32)[ids]
    air = np.array([part.material <= Material.CLOUD for part in scene.parts], np.float32)[ids]
    image += (blurred(cloud, 2.5) - cloud) * air * (np.float32(0.95) - image)
    gloss = np.array([_GLOSS.get(part.material, 0.0) for part in scene.parts], np.float32)[ids]
    image += gloss * np.maximum(edge + np.float32(0.4) * body - np.float32(0.35), 0)
    return image


def _exposed(image: Pixels, noise: Bytes) -> Bytes:
    """What the sensor makes of it: a slight blur, a cast of colour, noise; (3, SIDE, SIDE) of 0 to 255."""
    cast = 1 + (noise[1, 0, 120:123] / np.float32(127.5) - 1) * np.float32(0.05)
    exposure = np.float32(0.92) + noise[1, 0, 124] * np.float32(0.2 / 255)
    image = np.clip(image * (exposure * cast)[:, None, None], 0, 1) * np.float32(255)
    for axis in (1, 2):
        padded = np.pad(image, [(int(k == axis), int(k == axis)) for k in range(3)], mode="edge")
        low, high = (padded[:, :-2], padded[:, 2:]) if axis == 1 else (padded[..., :-2], padded[..., 2:])
        image = np.float32(0.66) * image + np.float32(0.17) * (low + high)
    grain = (noise[2] - np.float32(127.5)) * np.float32(0.055)
    image += np.stack([grain, grain[:, ::-1], grain[::-1]])
    return levels(image)


def photo(scene: Scene, noise: Bytes) -> Bytes:
    """(3, SIDE, SIDE) of 0 to 255 from (3, SIDE, SIDE) random bytes."""
    return _exposed(_lit(scene, noise), noise)


def fog(scene: Scene, noise: Bytes) -> Bytes:
    """The very picture that :func:`photo` takes, in a haze that grows with the distance."""
    near = np.broadcast_to(_nearness(scene), (SIDE, SIDE)).copy()
    which = owners(scene)[np.asarray(scene.labels)[2::4, 2::4]]
    for k, one in enumerate(scene.objects):
        near[which == k + 1] = (one.foot - scene.horizon) / (SIDE - scene.horizon)
    far = 1 - near  # of the way to the horizon in the picture; true distance grows most near its end
    clear = np.float32(0.96) - np.float32(0.35) * far * far + np.float32(0.04) * smooth(noise[1, 60:64, 60:64])
    haze = np.array([0.8, 0.82, 0.84], np.float32)[:, None, None]
    return _exposed(haze + (_lit(scene, noise) - haze) * clear, noise)
