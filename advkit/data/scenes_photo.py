"""Scenes as a camera sees them: textured, lit from one side, with shadows and sensor noise; and the same in fog."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from advkit.data.scenes_layout import OVER, SIDE, Scene, draw
from advkit.data.scenes_parts import Material

Pixels = NDArray[np.float32]  # (SIDE, SIDE) or (SIDE, SIDE, 3)
Bytes = NDArray[np.uint8]

# Strength of fine, patchy and streaky texture, of relief and of gloss.
_LOOK = {
    Material.SKY: (0.0, 0.02, 0.03, 0.0, 0.0),
    Material.CLOUD: (0.0, 0.03, 0.02, 0.0, 0.0),
    Material.HILL: (0.06, 0.10, 0.04, 0.0, 0.0),
    Material.GROUND: (0.13, 0.10, 0.10, 0.0, 0.0),
    Material.ROAD: (0.08, 0.05, 0.04, 0.0, 0.0),
    Material.WATER: (0.02, 0.03, 0.16, 0.0, 0.0),
    Material.ROCK: (0.12, 0.10, 0.0, 0.35, 0.0),
    Material.LEAF: (0.22, 0.22, 0.0, 0.22, 0.0),
    Material.WOOD: (0.05, 0.06, 0.0, 0.18, 0.0),
    Material.WALL: (0.05, 0.06, 0.04, 0.06, 0.0),
    Material.ROOF: (0.08, 0.05, 0.16, 0.08, 0.0),
    Material.GLASS: (0.0, 0.12, 0.0, 0.15, 0.5),
    Material.PAINT: (0.0, 0.03, 0.03, 0.26, 0.35),
    Material.RUBBER: (0.03, 0.0, 0.0, 0.3, 0.1),
    Material.CLOTH: (0.05, 0.09, 0.0, 0.24, 0.0),
    Material.SKIN: (0.02, 0.02, 0.0, 0.2, 0.05),
    Material.FUR: (0.13, 0.08, 0.05, 0.22, 0.0),
}
_BLANKS = (Material.GROUND, Material.ROAD, Material.HILL)


def coloured(scene: Scene, colours: list[tuple[int, int, int]]) -> Pixels:
    """The map with a colour of 0 to 255 for each part, averaged down to pixels."""
    image = scene.labels.copy()
    image.putpalette([channel for colour in colours for channel in colour])
    return np.asarray(image.convert("RGB").reduce(OVER), dtype=np.float32)


def share(scene: Scene, chosen: list[bool]) -> Pixels:
    """How much of each pixel the chosen parts fill, in [0, 1]."""
    table = [255 * one for one in chosen] + [0] * (256 - len(chosen))
    return np.asarray(scene.labels.point(table).reduce(OVER), dtype=np.float32) / 255


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
    """Shading of parts as if each bulged: 1 at the edge towards the light, -1 at the other, (SIDE, SIDE).

    Args:
        ids: map of the parts, two points for each pixel.
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
    sums = total[::2, ::2].astype(np.float32) + total[1::2, ::2] + total[::2, 1::2] + total[1::2, 1::2]
    return sums / (4 * len(steps))


def _shadow(scene: Scene, wet: bool) -> Pixels:
    """Shadows on the ground, or reflections in the water, of the objects that stand there, softened."""
    image = Image.new("L", (SIDE * 2, SIDE * 2))
    canvas = ImageDraw.Draw(image)
    for one in scene.objects:
        if (one.label == 4) != wet:
            continue
        for part in scene.parts[one.parts]:
            height = one.foot - part.points[:, 1]
            x = part.points[:, 0] + (0.0 if wet else -0.55 * scene.light) * height
            draw(canvas, np.stack([x, one.foot + (0.5 if wet else -0.3) * height], 1), 255, 2)
    return np.asarray(image.filter(ImageFilter.BoxBlur(2)).reduce(2), dtype=np.float32) / 255


def _table(scene: Scene, column: int) -> NDArray[np.float32]:
    return np.array([_LOOK[part.material][column] for part in scene.parts], np.float32)


def _lit(scene: Scene, noise: Bytes) -> Pixels:
    """The scene in light, (SIDE, SIDE, 3) of 0 to 1, before the camera."""
    first = scene.objects[0].parts.start if scene.objects else len(scene.parts)
    material = [part.material for part in scene.parts]
    image = coloured(scene, [_bytes(part.colour) for part in scene.parts]) / 255
    double = np.asarray(scene.labels)[1::2, 1::2]
    ids = double[1::2, 1::2]

    fine, patches = noise[0] / np.float32(127.5) - 1, smooth(noise[1, :26, :26])
    streaks = smooth(noise[1, 32:128, 32:42])
    texture = _table(scene, 0)[ids] * fine + _table(scene, 1)[ids] * patches + _table(scene, 2)[ids] * streaks
    edge = relief(double, scene.light, (1, 2, 3, 5))
    body = relief(owners(scene)[double], scene.light, (4, 8, 12, 16))
    gain = 1 + texture + _table(scene, 3)[ids] * (edge + 0.9 * body)

    dry = share(scene, [m in _BLANKS for m in material])
    water = share(scene, [m == Material.WATER for m in material])
    solid = share(scene, [k >= first for k in range(len(material))])
    gain -= 0.42 * _shadow(scene, False) * dry + 0.3 * _shadow(scene, True) * water
    gain -= 0.25 * np.maximum(blurred(solid, 3) - solid, 0) * (1 - solid)
    rows = np.arange(SIDE, dtype=np.float32)[:, None]
    depth = np.clip((rows - np.float32(scene.horizon)) / np.float32(SIDE - scene.horizon), 0, 1)
    gain += (dry + water) * (0.12 - 0.2 * depth)

    sky = share(scene, [m == Material.SKY for m in material])
    cloud = share(scene, [m == Material.CLOUD for m in material])
    heaven = np.float32(0.82) + np.float32(0.3) * np.minimum(rows / np.float32(scene.horizon), 1)
    gain += sky * (heaven - 1)
    image *= gain[..., None]
    soft = blurred(cloud, 3) - cloud
    image += (soft * (sky + cloud))[..., None] * (np.float32(0.95) - image)
    image += (_table(scene, 4)[ids] * np.maximum(edge + 0.4 * body - 0.35, 0))[..., None]
    return image


def _bytes(colour: tuple[float, float, float]) -> tuple[int, int, int]:
    red, green, blue = (round(255 * c) for c in colour)
    return red, green, blue


def _exposed(image: Pixels, noise: Bytes) -> Bytes:
    """What the sensor makes of it: a slight blur, a cast of colour, noise; (SIDE, SIDE, 3) of 0 to 255."""
    warm = (noise[1, 0, 120:123].astype(np.float32) / 127.5 - 1) * np.float32(0.05)
    exposure = np.float32(0.92) + np.float32(0.2) * noise[1, 0, 124] / np.float32(255)
    image = np.clip(image * (exposure * (1 + warm)), 0, 1) * 255
    soft = Image.fromarray(image.astype(np.uint8)).filter(ImageFilter.BoxBlur(0.45))
    grain = (noise[2].astype(np.float32) - 127.5) * np.float32(0.07)
    tinged = np.stack([grain, grain[:, ::-1], grain[::-1]], 2)
    return np.clip(np.asarray(soft, dtype=np.float32) + tinged + np.float32(0.5), 0, 255).astype(np.uint8)


def photo(scene: Scene, noise: Bytes) -> Bytes:
    """(SIDE, SIDE, 3) of 0 to 255 from (3, SIDE, SIDE) random bytes."""
    return _exposed(_lit(scene, noise), noise)


def fog(scene: Scene, noise: Bytes) -> Bytes:
    """The very picture that :func:`photo` takes, in a haze that grows with the distance."""
    rows = np.arange(SIDE, dtype=np.float32)[:, None]
    near = np.clip((rows - np.float32(scene.horizon)) / np.float32(SIDE - scene.horizon), 0, 1)
    near = np.broadcast_to(near, (SIDE, SIDE)).copy()
    which = owners(scene)[np.asarray(scene.labels)[2::4, 2::4]]
    for k, one in enumerate(scene.objects):
        near[which == k + 1] = (one.foot - scene.horizon) / (SIDE - scene.horizon)
    clear = (np.float32(0.42) + np.float32(0.46) * near + np.float32(0.05) * smooth(noise[1, 60:64, 60:64]))[..., None]
    haze = np.array([0.8, 0.82, 0.84], np.float32)
    return _exposed(_lit(scene, noise) * clear + haze * (1 - clear), noise)
