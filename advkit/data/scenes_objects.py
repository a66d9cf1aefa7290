"""The things of the scenes: six silhouettes made of parts, each from a few random numbers.

Coordinates are pixels at scale 1, x to the right and y up, with the middle of the thing's foot at (0, 0). Parts are
listed from the back to the front.
"""

from __future__ import annotations

import math

from advkit.data.scenes_parts import Colour, Material, Part, RandomNumbers, box, ellipse, limb, palette, polygon

_PAINTS = palette("c72421 2152a8 edc229 e0e0e6 24804c e6731a 666b75 73bfd9")
_PLASTER = palette("ebdebf edebe6 b86e57 e6c773 a8bdd1 d9a699")
_TILES = palette("9e3d2b 734733 545966 b85c33 40615c")
_SKINS = palette("f5ccb0 deab85 ad7857 734c38")
_HAIRS = palette("261a14 66401f bf8c40 8c8c8c 802e14")
_CLOTHS = palette("cc3338 3366bf f2cc4c 409966 994c99 ebebeb f28c4c")
_TROUSERS = palette("2e3861 404045 806b4c 4c6b99 6b4033")
_FURS = palette("db8533 4c4a4c 99948f ede6db 805c3d 292424")
_GLASS, _DARK, _PALE = (0.36, 0.5, 0.6), (0.12, 0.12, 0.13), (0.95, 0.94, 0.9)


def car(d: RandomNumbers) -> list[Part]:
    """A saloon, hatchback or van from its side, its nose to the right."""
    paint, top = d.tint(d.choice(_PAINTS)), d.between(21, 27)
    back_foot, back_top = d.choice(((-18, -11), (-25, -19), (-27, -25)))
    front_top, front_foot = d.between(3, 8), d.between(13, 17)
    roof = ((back_foot, 14), (back_top, top), (front_top, top), (front_foot, 14))
    body = [(-28, 4.5), (-28, 12), (-26, 15), *roof[:3], (front_foot, 15.5), (25, 13.5), (28, 10.5), (28, 4.5)]
    inner = [(x * 0.86 - 0.4, 15 + (y - 14) * 0.72) for x, y in roof]
    middle = d.between(-6, -2)
    wheel = d.between(5.4, 6.4)
    parts = [
        Part(polygon(*body), paint, Material.PAINT),
        Part(box(-27.5, 3.5, 27.5, 6.5), _DARK, Material.RUBBER),
        Part(polygon(*inner), _GLASS, Material.GLASS),
        Part(box(middle - 0.9, 14, middle + 0.9, top - 1.5), paint, Material.PAINT),
        Part(ellipse(26, 11, 2.2, 1.6), (1.0, 0.95, 0.7), Material.GLASS),
        Part(box(-28, 10, -26, 13), (0.7, 0.1, 0.1), Material.GLASS),
    ]
    for x in (-16.5, 16.5):
        parts.append(Part(ellipse(x, wheel - 0.3, wheel), _DARK, Material.RUBBER))
        parts.append(Part(ellipse(x, wheel - 0.3, wheel * 0.48), (0.75, 0.76, 0.78), Material.PAINT))
    return parts


def _window(x: float, y: float, w: float, h: float) -> list[Part]:
    frame = Part(box(x - w, y - h, x + w, y + h), _PALE, Material.WOOD)
    panes = [
        Part(box(x + a, y + b, x + a + w - 1.1, y + b + h - 1.1), _GLASS, Material.GLASS)
        for a in (-w + 0.8, 0.3)
        for b in (-h + 0.8, 0.3)
    ]
    return [frame, *panes]


def house(d: RandomNumbers) -> list[Part]:
    """A house from its front, under a gable or a hipped roof."""
    wall, tile = d.tint(d.choice(_PLASTER)), d.tint(d.choice(_TILES))
    w, h = d.between(20, 27), d.between(19, 28)
    peak, hip = h + d.between(13, 20), d.choice((0.0, 0.5))
    chimney, door = d.between(0.3, 0.6) * w * d.choice((-1, 1)), d.between(-0.45, 0.45) * w
    parts = [
        Part(box(chimney - 3, h, chimney + 3, peak + 2), (0.55, 0.28, 0.22), Material.WALL),
        Part(box(chimney - 3.7, peak + 2, chimney + 3.7, peak + 4), (0.4, 0.22, 0.18), Material.WALL),
        Part(box(-w, 0, w, h + 1), wall, Material.WALL),
        Part(polygon((-w - 4, h), (w + 4, h), (w * hip + 0.1, peak), (-w * hip - 0.1, peak)), tile, Material.ROOF),
        Part(box(door - 4.4, 0, door + 4.4, 15), _PALE, Material.WOOD),
        Part(box(door - 3.4, 0, door + 3.4, 14), d.tint(d.choice(_PAINTS)), Material.WOOD),
        Part(ellipse(door + 2, 7, 0.8), _PALE, Material.PAINT),
    ]
    for x in (-0.62 * w, 0.0, 0.62 * w):
        if abs(x - door) > 9:
            parts += _window(x, h - 8, 4.4, 5)
    if not hip:
        parts.append(Part(ellipse(0, h + 5.5, 3), _PALE, Material.WOOD))
        parts.append(Part(ellipse(0, h + 5.5, 2.1), _GLASS, Material.GLASS))
    return parts


def tree(d: RandomNumbers) -> list[Part]:
    """A broad-leaved tree, or a conifer of three or four tiers."""
    bark = d.tint((0.4, 0.28, 0.18))
    if d.chance(0.4):
        green, tiers, w, h = d.tint((0.12, 0.34, 0.22)), d.choice((3, 4)), d.between(14, 19), d.between(50, 62)
        parts = [Part(box(-2.5, 0, 2.5, 12), bark, Material.WOOD)]
        for k in range(tiers):
            foot, half = 8 + k * (h - 20) / tiers, w * (1 - 0.75 * k / tiers)
            tip = foot + (h - 8) / tiers * 1.45
            shade = (green[0] + 0.025 * k, green[1] + 0.03 * k, green[2] + 0.02 * k)
            jag = [(half * (0.5 - j / 4), foot + (1.8 if j % 2 else -0.8)) for j in range(5)]
            parts.append(Part(polygon((-half, foot), (0, tip), (half, foot), *jag), shade, Material.LEAF))
        return parts
    green = d.tint(d.choice(((0.24, 0.48, 0.16), (0.36, 0.55, 0.18), (0.2, 0.42, 0.2), (0.72, 0.48, 0.14))))
    r, h = d.between(15, 20), d.between(36, 44)
    trunk = polygon((-4, 0), (-2.4, 8), (-2.2, h), (2.2, h), (2.4, 8), (4, 0))
    radii = [1 + d.between(-0.05, 0.05) + 0.1 * abs(math.sin(3.5 * 2 * math.pi * k / 28)) for k in range(28)]
    angles = [2 * math.pi * k / 28 for k in range(28)]
    squat = d.between(0.8, 1.05)
    crown = [(r * m * math.cos(a), h + squat * r * m * math.sin(a)) for m, a in zip(radii, angles, strict=True)]
    light = (green[0] + 0.09, green[1] + 0.1, green[2] + 0.05)
    parts = [Part(trunk, bark, Material.WOOD), Part(limb(0, h - 18, 9, 2.4, 2.4, 1.2), bark, Material.WOOD)]
    parts.append(Part(polygon(*crown), green, Material.LEAF))
    for x, y, size in ((-0.35, 0.35, 0.36), (0.3, 0.1, 0.3), (-0.2, -0.4, 0.26)):
        parts.append(Part(ellipse(x * r, h + y * r, size * r, 0.8 * size * r), light, Material.LEAF))
    return parts


def person(d: RandomNumbers) -> list[Part]:
    """A person who stands, walks or waves."""
    skin, hair = d.tint(d.choice(_SKINS), 0.04), d.choice(_HAIRS)
    shirt, trousers = d.tint(d.choice(_CLOTHS)), d.tint(d.choice(_TROUSERS))
    stride, swing = d.between(0.04, 0.42), d.between(0.1, 0.5)
    raised, dress = d.chance(0.35), d.chance(0.3)
    legs = skin if dress else trousers
    hip, neck = 19.0, 34.0
    parts = [Part(ellipse(d.between(-0.6, 0.6), 38.6, 4.6, 5.0), hair, Material.FUR)]
    for side in (-1, 1):
        angle = side * stride
        foot = (side * 2.2 + 18 * math.sin(angle), hip - 18 * math.cos(angle))
        parts.append(Part(ellipse(foot[0] + 1.2, foot[1] + 0.6, 2.9, 1.6), _DARK, Material.RUBBER))
        parts.append(
            Part(limb(side * 2.2, hip, 17.5, angle, 5.0, 3.2), legs, Material.SKIN if dress else Material.CLOTH)
        )
    arms = [(-5.0, -swing - 0.12), (5.0, math.pi - 0.55 if raised else swing + 0.12)]
    for x, angle in arms:
        hand = (x + 14.5 * math.sin(angle), neck - 2 - 14.5 * math.cos(angle))
        parts.append(Part(ellipse(*hand, 1.9), skin, Material.SKIN))
        parts.append(Part(limb(x, neck - 2, 13, angle, 4.2, 3.2), shirt, Material.CLOTH))
    hem = [(-7.5, 10.5), (7.5, 10.5)] if dress else [(-4.7, 17.5), (4.7, 17.5)]
    torso = polygon((-4.4, 22), *hem, (4.4, 22), (6.3, neck - 2), (4.6, neck), (-4.6, neck), (-6.3, neck - 2))
    parts.append(Part(box(-1.6, neck - 1.5, 1.6, neck + 2), skin, Material.SKIN))
    parts.append(Part(torso, shirt, Material.CLOTH))
    parts.append(Part(ellipse(0.3, 37.6, 3.7, 4.2), skin, Material.SKIN))
    fringe = polygon((-4.4, 38.5), (-3.4, 42), (0, 43.4), (3.6, 42), (4.4, 38.8), (2.2, 40.4), (-1.5, 40.6))
    parts.append(Part(fringe, hair, Material.FUR))
    return parts


def boat(d: RandomNumbers) -> list[Part]:
    """A sailing boat, or a motor boat with a cabin; its bow to the right."""
    paint, trim = d.tint(d.choice(_PAINTS)), d.choice((_PALE, (0.7, 0.18, 0.15), (0.2, 0.3, 0.5)))
    half, high = d.between(22, 27), d.between(9, 12)
    hull = polygon(
        (-half, high), (-half + 4, 0), (half - 9, 0), (half - 3, 4), (half + 4, high + 2), (half * 0.3, high)
    )
    rail = polygon(
        (-half, high), (half * 0.3, high), (half + 4, high + 2), (half + 2.6, high - 0.6), (-half + 0.9, high - 2.4)
    )
    deck = [Part(hull, paint, Material.PAINT), Part(rail, trim, Material.PAINT)]
    if d.chance(0.6):
        mast, top = d.between(-3, 3), d.between(44, 54)
        sail = d.tint(d.choice((_PALE, _PALE, (0.85, 0.35, 0.25), (0.95, 0.8, 0.4))), 0.04)
        jib = (min(1.0, sail[0] + 0.04), 0.93 * sail[1], 0.9 * sail[2])
        return [
            Part(box(mast - 0.8, high - 2, mast + 0.8, top), (0.45, 0.32, 0.2), Material.WOOD),
            Part(
                polygon(
                    (mast - 1.2, top - 2), (mast - 1.2, high + 3), (-half + 1, high + 4), (-half * 0.55, high + 15)
                ),
                sail,
                Material.CLOTH,
            ),
            Part(polygon((mast + 1.4, top - 6), (half + 1, high + 4), (mast + 1.4, high + 4)), jib, Material.CLOTH),
            Part(polygon((mast, top), (mast - 7, top - 2), (mast, top - 4)), (0.8, 0.15, 0.15), Material.CLOTH),
            *deck,
        ]
    left, right, roof = -half * 0.72, half * 0.22, high + d.between(10, 13)
    chimney = left + d.between(5, 9)
    parts = [
        Part(box(chimney - 2.6, roof, chimney + 2.6, roof + 8), (0.75, 0.2, 0.16), Material.PAINT),
        Part(box(chimney - 2.6, roof + 5.4, chimney + 2.6, roof + 8), _DARK, Material.PAINT),
        Part(polygon((left, high - 2), (left, roof), (right - 2, roof), (right + 3, high - 2)), _PALE, Material.PAINT),
        Part(box(left - 1.5, roof - 1, right, roof + 1), trim, Material.PAINT),
    ]
    parts += [
        Part(ellipse(left + (right - left) * f, high + 5, 2.3), _GLASS, Material.GLASS) for f in (0.22, 0.52, 0.82)
    ]
    return [*parts, *deck]


def _cat_head(x: float, y: float, r: float, fur: Colour, light: Colour) -> list[Part]:
    ears, inner = [], []
    for side in (-1, 1):
        a, b, tip = x + side * 0.15 * r, x + side * 0.95 * r, x + side * 0.92 * r
        ears.append(Part(polygon((a, y + 0.7 * r), (tip, y + 1.75 * r), (b, y + 0.2 * r)), fur, Material.FUR))
        pink = polygon(
            (x + side * 0.42 * r, y + 0.8 * r), (x + side * 0.83 * r, y + 1.4 * r), (x + side * 0.83 * r, y + 0.6 * r)
        )
        inner.append(Part(pink, (0.9, 0.62, 0.6), Material.SKIN))
    face = [Part(ellipse(x, y, 1.08 * r, 0.95 * r), fur, Material.FUR), *inner]
    face.append(Part(ellipse(x, y - 0.4 * r, 0.55 * r, 0.4 * r), light, Material.FUR))
    for side in (-1, 1):
        eye = (x + side * 0.42 * r, y + 0.14 * r)
        face.append(Part(ellipse(*eye, 0.23 * r, 0.27 * r), (0.75, 0.85, 0.3), Material.GLASS))
        face.append(Part(ellipse(*eye, 0.1 * r, 0.25 * r), (0.05, 0.05, 0.05), Material.GLASS))
    nose = polygon((x - 0.15 * r, y - 0.2 * r), (x + 0.15 * r, y - 0.2 * r), (x, y - 0.4 * r))
    return [*ears, *face, Part(nose, (0.8, 0.4, 0.42), Material.SKIN)]


def cat(d: RandomNumbers) -> list[Part]:
    """A cat that sits or walks; its face looks out of the picture."""
    fur = d.tint(d.choice(_FURS), 0.05)
    light = (fur[0] * 0.5 + 0.48, fur[1] * 0.5 + 0.47, fur[2] * 0.5 + 0.44)
    dark = (fur[0] * 0.68, fur[1] * 0.66, fur[2] * 0.64)
    lift = d.between(-0.25, 0.35)
    if d.chance(0.5):
        tail = [limb(-7, 3, 9, -1.45, 3.6, 3.4), limb(-15.5, 2.6, 8, -2.6 - lift, 3.4, 2.6)]
        body = polygon((-8, 0), (-9.5, 5), (-7.5, 11), (-4, 17), (4, 17), (6.5, 10), (7, 4), (6.5, 0))
        parts = [Part(points, fur, Material.FUR) for points in tail]
        parts.append(Part(body, fur, Material.FUR))
        parts.append(Part(ellipse(-5.5, 3.5, 4.2, 3.6), dark, Material.FUR))
        parts.append(Part(ellipse(1.6, 11.5, 3.2, 4.6), light, Material.FUR))
        parts += [Part(ellipse(x, 1.3, 2.5, 1.4), light, Material.FUR) for x in (-0.2, 4.6)]
        return parts + _cat_head(d.between(-0.5, 1.5), 20.5, 6.6, fur, light)
    stride = d.between(0.08, 0.35)
    parts = [Part(limb(-12, 14, 9, -2.2 - lift, 3.6, 3.2), fur, Material.FUR)]
    parts.append(
        Part(
            limb(-12 - 8.4 * math.sin(2.2 + lift), 14 - 8.4 * math.cos(2.2 + lift), 8, math.pi + 0.25, 3.2, 2.4),
            fur,
            Material.FUR,
        )
    )
    parts += [Part(limb(x, 9, 9, -a, 4.2, 3), dark, Material.FUR) for x, a in ((-9, -stride), (6, -stride))]
    parts += [Part(limb(x, 9, 9, -a, 4.4, 3.2), fur, Material.FUR) for x, a in ((-11, stride), (9, stride))]
    parts.append(Part(ellipse(-1, 12, 13.5, 5.8, 0.06), fur, Material.FUR))
    parts += [Part(limb(x, 17.6, 5.5, 0.15, 1.9, 1.0), dark, Material.FUR) for x in (-8.5, -4.5, -0.5, 3.5)]
    return parts + _cat_head(12.5, 18.5, 6.2, fur, light)


OBJECTS = {"car": car, "house": house, "tree": tree, "person": person, "boat": boat, "cat": cat}
