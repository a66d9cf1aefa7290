"""What a genome's network costs, told from its shapes, and whether that is within limits."""

from __future__ import annotations

from dataclasses import dataclass

from advkit.files.errors import InputError
from advkit.models.config import Size
from advkit.models.genome.genes import Genome, check
from advkit.models.genome.shapes import Conv, ShapePlan, plan_shapes, side


@dataclass(frozen=True)
class Limits:
    """The most, or least, that a network may have.

    Attributes:
        max_parameters: trainable numbers.
        max_multiply_adds: of convolutions and linear layers, for one image.
        max_depth: convolutions on the longest path from image to logits; a separable one counts twice.
        min_map: pixels, the shorter side of the smallest map.
        max_nodes: active nodes.
    """

    max_parameters: int = 2_000_000
    max_multiply_adds: int = 60_000_000
    max_depth: int = 24
    min_map: int = 2
    max_nodes: int = 16


@dataclass(frozen=True)
class Cost:
    """What a network has: see :class:`Limits`."""

    parameters: int
    multiply_adds: int
    depth: int
    smallest_map: int


def cost(genome: Genome, num_classes: int, input_size: Size) -> Cost:
    """The cost of the network of ``genome``; exact, and no network is built.

    Raises:
        InputError: a graph that is not sound.
    """
    return cost_of(plan_shapes(genome, num_classes, input_size[0]), input_size)


def cost_of(shapes: ShapePlan, input_size: Size) -> Cost:
    """The cost of the network of these shapes."""
    stem, steps = shapes.genome.stem, shapes.steps
    convs = [(shapes.stem, stem.norm), *((conv, step.node.norm) for step in steps for conv in step.convs)]
    linear = sum(before * after for before, after in zip(shapes.widths, shapes.widths[1:], strict=False))
    depth = {0: 1}
    for step in steps:
        depth[step.node.id] = len(step.convs) + max(depth[name] for name in step.node.inputs)
    smallest = max(one.halvings for one in shapes.maps.values())
    return Cost(
        parameters=linear + sum(shapes.widths[1:]) + sum(_parameters(conv, norm) for conv, norm in convs),
        multiply_adds=linear + sum(_multiply_adds(conv, input_size) for conv, _ in convs),
        depth=depth[shapes.genome.output],
        smallest_map=min(side(pixels, smallest) for pixels in input_size[1:]),
    )


def why_invalid(genome: Genome, num_classes: int, input_size: Size, limits: Limits) -> str | None:
    """Why ``genome`` is no network within ``limits``, in one line; None when it is one."""
    try:
        check(genome)
        shapes = plan_shapes(genome, num_classes, input_size[0])
    except InputError as error:
        return str(error)
    if len(shapes.steps) > limits.max_nodes:
        return f"{len(shapes.steps)} active nodes; at most {limits.max_nodes} are allowed"
    found = cost_of(shapes, input_size)
    if found.smallest_map < limits.min_map:
        return f"its smallest map is {found.smallest_map} pixels wide; at least {limits.min_map} are needed"
    for what, has, most in (
        ("parameters", found.parameters, limits.max_parameters),
        ("multiply-adds", found.multiply_adds, limits.max_multiply_adds),
        ("convolutions on its longest path", found.depth, limits.max_depth),
    ):
        if has > most:
            return f"{has:,} {what}; at most {most:,} are allowed"
    return None


def _parameters(conv: Conv, norm: str) -> int:
    weights = conv.outputs * conv.channels // conv.groups * conv.kernel**2
    after = 0 if not conv.last else conv.outputs if norm == "none" else 2 * conv.outputs
    return weights + after


def _multiply_adds(conv: Conv, input_size: Size) -> int:
    pixels = side(input_size[1], conv.halvings) * side(input_size[2], conv.halvings)
    return pixels * conv.outputs * conv.channels // conv.groups * conv.kernel**2
