"""Shapes of everything inside a genome's network, found before any of it is built."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import gcd

from advkit.files.errors import InputError
from advkit.models.genome.genes import POOL_OPS, Genome, Head, Node, Stem, active_nodes

_STEMS = {"conv3": (3, 1), "conv5": (5, 1), "conv7s2": (7, 2), "patch2": (2, 2), "patch4": (4, 4)}
_GROUPS = 4
_DILATION = 2
_MOST_CHANNELS = 8192  # of one map: dense and concatenating nodes double it each time, and a stranger's file might


@dataclass(frozen=True)
class Conv:
    """A convolution: what goes into ``nn.Conv2d``, and how often its output has been halved.

    Attributes:
        channels: of its input.
        outputs: channels of its output.
        halvings: a map is ceil(side / 2**halvings) pixels wide.
        last: whether norm and activation follow; not so after the depthwise half of a separable one.
    """

    channels: int
    outputs: int
    kernel: int
    stride: int
    dilation: int
    groups: int
    halvings: int
    last: bool


@dataclass(frozen=True)
class Map:
    """Channels of a map, and how often it has been halved."""

    channels: int
    halvings: int


@dataclass(frozen=True)
class Step:
    """One active node.

    Attributes:
        node: the node itself.
        pools: for each input, in the order of ``node.inputs``, how often it must be halved before the merge.
        missing: for each input, how many channels it lacks beside the merged map.
        merged: what the merge gives: the smallest of the inputs' maps; the widest's channels, or their sum.
        convs: in order; none for a pooling.
        out: the node's output, its skip included.
    """

    node: Node
    pools: tuple[int, ...]
    missing: tuple[int, ...]
    merged: Map
    convs: tuple[Conv, ...]
    out: Map


@dataclass(frozen=True)
class ShapePlan:
    """A genome's network in shapes.

    Attributes:
        stem: the stem's convolution and what it is followed by.
        steps: active nodes, each after its inputs.
        maps: output of each active node, and of the stem as 0.
        widths: of the linear layers, from the pooled features to the logits.
    """

    genome: Genome
    stem: Conv
    steps: tuple[Step, ...]
    maps: Mapping[int, Map]
    widths: tuple[int, ...]


def plan_shapes(genome: Genome, num_classes: int, channels: int) -> ShapePlan:
    """The shapes inside the network of ``genome`` for images of ``channels`` channels.

    Raises:
        InputError: a graph that is not sound; more channels in a map than any sensible network has.
    """
    stem = _stem(genome.stem, channels)
    maps = {0: Map(stem.outputs, stem.halvings)}
    steps = []
    for node in active_nodes(genome):
        step = _step(node, [maps[name] for name in node.inputs])
        if max(step.merged.channels, step.out.channels) > _MOST_CHANNELS:
            raise InputError(
                f"genome: node {node.id} would have {max(step.merged.channels, step.out.channels)} channels; "
                f"at most {_MOST_CHANNELS} are allowed: add instead of concatenating"
            )
        maps[node.id] = step.out
        steps.append(step)
    widths = _widths(genome.head, maps[genome.output].channels, num_classes)
    return ShapePlan(genome, stem, tuple(steps), maps, widths)


def side(pixels: int, halvings: int) -> int:
    """Side of a map that began with ``pixels`` and was halved, rounding up, ``halvings`` times."""
    return -(-pixels >> halvings)


def _stem(stem: Stem, channels: int) -> Conv:
    kernel, stride = _STEMS[stem.kind]
    return Conv(channels, stem.channels, kernel, stride, 1, 1, stride.bit_length() - 1, last=True)


def _step(node: Node, inputs: list[Map]) -> Step:
    halvings = max(one.halvings for one in inputs)
    widths = [one.channels for one in inputs]
    merged = Map(sum(widths) if node.merge == "concat" else max(widths), halvings)
    out = halvings + (node.stride == 2)
    pools = tuple(halvings - one.halvings for one in inputs)
    missing = tuple(merged.channels - width for width in widths)
    if node.op in POOL_OPS:
        return Step(node, pools, missing, merged, (), Map(merged.channels, out))
    convs: list[Conv] = []
    for number in range(node.depth):
        convs += _convs(node, node.channels if number else merged.channels, 1 if number else node.stride, out)
    skipped = {
        "none": node.channels,
        "residual": max(node.channels, merged.channels),
        "dense": node.channels + merged.channels,
    }
    return Step(node, pools, missing, merged, tuple(convs), Map(skipped[node.skip], out))


def _convs(node: Node, channels: int, stride: int, halvings: int) -> list[Conv]:
    """One convolution of ``node``, which is two when it is separable."""
    kernel, outputs = node.kernel, node.channels
    if node.op == "separable":
        return [
            Conv(channels, channels, kernel, stride, 1, channels, halvings, last=False),
            Conv(channels, outputs, 1, 1, 1, 1, halvings, last=True),
        ]
    dilation = _DILATION if node.op == "dilated" else 1
    groups = gcd(channels, outputs, _GROUPS) if node.op == "grouped" else 1
    return [Conv(channels, outputs, kernel, stride, dilation, groups, halvings, last=True)]


def _widths(head: Head, channels: int, num_classes: int) -> tuple[int, ...]:
    features = channels * (2 if head.pool == "both" else 1)
    return (features, head.hidden, num_classes) if head.hidden else (features, num_classes)
