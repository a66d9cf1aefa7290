"""Genome to network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import gcd
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advkit.files.errors import InputError
from advkit.models.config import Size
from advkit.models.genome.canonical import canonical
from advkit.models.genome.genes import Genome, Node, check
from advkit.models.genome.init import initialise
from advkit.models.genome.limits import Limits, cost_of
from advkit.models.genome.pooling import avg_pool3, downsample
from advkit.models.genome.shapes import Conv, ShapePlan, Step, plan_shapes

torch.fx.wrap("downsample")  # they look at sizes, which a symbolic trace does not know
torch.fx.wrap("avg_pool3")

# Far above what anybody trains on small images: a ceiling for genomes that come from strangers.
CEILING = Limits(max_parameters=100_000_000, max_multiply_adds=10**12, max_depth=256, min_map=2, max_nodes=64)

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky": lambda: nn.LeakyReLU(0.1),
    "silu": nn.SiLU,
    "gelu": nn.GELU,
}


class GenomeNet(nn.Module):
    """The network of a genome, from normalised images (N, C, H, W) of one size to (N, K) logits.

    Modules are named after the numbers of the canonical form, so that equal networks have equal state dicts: ``stem``,
    ``nodes.1``, ``nodes.2``, ... and ``head``. Inputs of several sizes are averaged down to the smallest; where
    channels differ in a sum the narrower ones are filled with zeros (option A of He et al., 2016: no parameters).

    Attributes:
        genome: in canonical form.
    """

    def __init__(self, genome: Genome, num_classes: int, input_size: Size) -> None:
        """Fresh weights, from the global random state.

        Raises:
            InputError: a genome that is not sound, is absurdly large, or leaves less than a 2x2 map of such images.
        """
        super().__init__()
        check(genome)
        self.genome = canonical(genome)
        self._plan = shapes = plan_shapes(self.genome, num_classes, input_size[0])
        _require_sensible(shapes, input_size)
        self._padding = _padding(shapes.stem, input_size)
        self.stem = nn.Sequential(*_layers([shapes.stem], self.genome.stem.norm, self.genome.stem.activation))
        self.nodes = nn.ModuleDict({str(step.node.id): Block(step) for step in shapes.steps})
        linear = [nn.Linear(before, after) for before, after in zip(shapes.widths, shapes.widths[1:], strict=False)]
        self.head = nn.Sequential(*(linear if len(linear) == 1 else [linear[0], nn.ReLU(), linear[1]]))
        initialise(self, shapes)

    def forward(self, x: Tensor) -> Tensor:
        if any(self._padding):
            x = F.pad(x, self._padding)
        maps: dict[int, Tensor] = {0: self.stem(x)}
        for step in self._plan.steps:
            inputs = [downsample(maps[name], pool) for name, pool in zip(step.node.inputs, step.pools, strict=True)]
            maps[step.node.id] = self.nodes[str(step.node.id)](_merge(step, inputs))
        out, pool = maps[self.genome.output], self.genome.head.pool
        features = {"mean": [_mean], "max": [_max], "both": [_mean, _max]}[pool]
        return cast(Tensor, self.head(torch.cat([feature(out) for feature in features], 1)))


class Block(nn.Sequential):
    """One node after its merge: its layers, and its skip before or after the last activation."""

    def __init__(self, step: Step) -> None:
        node = step.node
        super().__init__(*(_layers(step.convs, node.norm, node.activation) if step.convs else [_pooling(node)]))
        self._skip = node.skip if step.convs else "none"
        self._stride = node.stride
        self._widths = (node.channels, step.merged.channels, step.out.channels)

    def forward(self, x: Tensor) -> Tensor:
        *layers, last = list(self)
        out = x
        for layer in layers:
            out = layer(out)
        if self._skip == "none":
            return cast(Tensor, last(out))
        shortcut = downsample(x, self._stride - 1)
        if self._skip == "dense":
            return torch.cat((last(out), shortcut), 1)
        branch, before, width = self._widths
        return cast(Tensor, last(_widen(out, width - branch) + _widen(shortcut, width - before)))


class Smooth(nn.Module):
    """3x3 average pooling that keeps the size."""

    def forward(self, x: Tensor) -> Tensor:
        return avg_pool3(x)


def _require_sensible(shapes: ShapePlan, input_size: Size) -> None:
    found = cost_of(shapes, input_size)
    if found.smallest_map < CEILING.min_map:
        size = "x".join(map(str, input_size[1:]))
        raise InputError(f"genome: leaves less than a 2x2 map of {size} images; halve them less often")
    if found.parameters > CEILING.max_parameters or found.multiply_adds > CEILING.max_multiply_adds:
        raise InputError(
            f"genome: {found.parameters:,} parameters and {found.multiply_adds:,} multiply-adds; at most "
            f"{CEILING.max_parameters:,} and {CEILING.max_multiply_adds:,} are allowed"
        )


def _layers(convs: Sequence[Conv], norm: str, activation: str) -> list[nn.Module]:
    """Convolution, norm, activation for each of ``convs``; a bias only where there is no norm."""
    layers: list[nn.Module] = []
    for conv in convs:
        patches = conv.kernel == conv.stride
        layers.append(
            nn.Conv2d(
                conv.channels,
                conv.outputs,
                conv.kernel,
                stride=conv.stride,
                padding=0 if patches else conv.dilation * (conv.kernel // 2),
                dilation=conv.dilation,
                groups=conv.groups,
                bias=conv.last and norm == "none",
            )
        )
        if conv.last:
            if norm == "batch":
                layers.append(nn.BatchNorm2d(conv.outputs))
            elif norm == "group":
                layers.append(nn.GroupNorm(gcd(conv.outputs, 8), conv.outputs))
            layers.append(_ACTIVATIONS[activation]())
    return layers


def _pooling(node: Node) -> nn.Module:
    if node.op == "max-pool":
        return nn.MaxPool2d(3, node.stride, padding=1)
    return Smooth() if node.stride == 1 else nn.AvgPool2d(3, node.stride, padding=1, count_include_pad=False)


def _padding(stem: Conv, input_size: Size) -> tuple[int, int, int, int]:
    """Zeros at the right and below that make the sides of the image multiples of a patch's."""
    if stem.kernel != stem.stride:
        return (0, 0, 0, 0)
    return (0, -input_size[2] % stem.kernel, 0, -input_size[1] % stem.kernel)


def _merge(step: Step, inputs: list[Tensor]) -> Tensor:
    if step.node.merge == "concat" and len(inputs) > 1:
        return torch.cat(inputs, 1)
    first, *others = [_widen(one, new_channels) for one, new_channels in zip(inputs, step.missing, strict=True)]
    for one in others:
        first = first + one
    return first


def _widen(x: Tensor, new_channels: int) -> Tensor:
    """``x`` between channels of zeros."""
    before = new_channels // 2
    return F.pad(x, (0, 0, 0, 0, before, new_channels - before)) if new_channels else x


def _mean(x: Tensor) -> Tensor:
    return x.mean((2, 3))


def _max(x: Tensor) -> Tensor:
    return x.amax((2, 3))
