"""Genomes made by hand: baselines, and where a search may start."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import replace

from advkit.files.errors import InputError
from advkit.models.genome.genes import Genome, Head, Node, Stem


def named(name: str) -> Genome:
    """The genome made by hand that is called ``name``: see PRESETS.

    Raises:
        InputError: there is none.
    """
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, 1, 0.5) or list(PRESETS)
        raise InputError(f"advkit/genome:{name}: no such file or genome; try {', '.join(near)}")
    return PRESETS[name]()


def _resnet20() -> Genome:
    """advkit/resnet20 layer for layer; only that its shortcuts average where the original takes every second pixel."""
    stages = [(channels, 2 if channels > 16 and not block else 1) for channels in (16, 32, 64) for block in range(3)]
    return _chain(_stem("conv3", 16), [_residual(channels, stride) for channels, stride in stages])


def _stem7() -> Genome:
    return _chain(_stem("conv7s2", 32), [_residual(32), _residual(64, 2), _residual(128, 2)])


def _patch() -> Genome:
    return _chain(_stem("patch4", 64), [_residual(64), _residual(128)])


def _vgg_small() -> Genome:
    pool = replace(_plain(32, stride=2), op="max-pool")
    return _chain(_stem("conv3", 32), [_plain(32), pool, _plain(64, depth=2), pool, _plain(128, depth=2), pool])


def _plain_cnn() -> Genome:
    """Pairs of convolutions, the second of which halves the map: no skips, no pooling."""
    return _chain(_stem("conv3", 32), [_plain(32, 2), _plain(64), _plain(64, 2), _plain(128), _plain(128, 2)])


def _stem(kind: str, channels: int) -> Stem:
    return Stem(kind, channels, norm="batch", activation="relu")


def _plain(channels: int, stride: int = 1, depth: int = 1) -> Node:
    return Node(1, (0,), "add", "conv", 3, channels, depth, stride, norm="batch", activation="relu", skip="none")


def _residual(channels: int, stride: int = 1) -> Node:
    return replace(_plain(channels, stride, depth=2), skip="residual")


def _chain(stem: Stem, nodes: list[Node]) -> Genome:
    """``nodes`` one after another."""
    linked = tuple(replace(node, id=place + 1, inputs=(place,)) for place, node in enumerate(nodes))
    return Genome(stem, linked, Head("mean", 0), output=len(nodes))


PRESETS: dict[str, Callable[[], Genome]] = {
    "resnet20": _resnet20,
    "stem7": _stem7,
    "patch": _patch,
    "vgg-small": _vgg_small,
    "plain-cnn": _plain_cnn,
}
