"""Hypothesis strategies: genomes, and other genomes that mean the same."""

from __future__ import annotations

from dataclasses import replace

import torch
from hypothesis import strategies as st
from torch import nn

from advkit.models.genome.genes import (
    ACTIVATIONS,
    KERNELS,
    MAX_DEPTH,
    MERGES,
    NORMS,
    OPS,
    POOL_OPS,
    POOLS,
    SKIPS,
    STEMS,
    Genome,
    Head,
    Node,
    Stem,
    active_nodes,
)

_HALVINGS = {"conv7s2": 1, "patch2": 1, "patch4": 2}
CHANNELS = (3, 4, 6, 8, 12)


@st.composite
def genomes(draw: st.DrawFn, side: int = 16, most_nodes: int = 5, norms: tuple[str, ...] = NORMS) -> Genome:
    """A genome for images of ``side`` pixels at least, small enough to run at once; inactive nodes happen."""
    budget = max(h for h in range(8) if -(-side >> h) >= 2)
    stem = Stem(
        draw(st.sampled_from([kind for kind in STEMS if _HALVINGS.get(kind, 0) <= budget])),
        *(draw(st.sampled_from(values)) for values in (CHANNELS, norms, ACTIVATIONS)),
    )
    count = draw(st.integers(0, most_nodes))
    ids = [0, *draw(st.lists(st.integers(1, 99), min_size=count, max_size=count, unique=True))]
    halvings, nodes = {0: _HALVINGS.get(stem.kind, 0)}, []
    for place in range(1, count + 1):
        inputs = draw(st.lists(st.sampled_from(ids[:place]), min_size=1, max_size=3, unique=True))
        deepest = max(halvings[name] for name in inputs)
        stride = draw(st.sampled_from([1, 2] if deepest < budget else [1]))
        op = draw(st.sampled_from(OPS))
        halvings[ids[place]] = deepest + stride - 1
        fields = {"merge": MERGES, "kernel": KERNELS[op], "channels": CHANNELS, "depth": range(1, MAX_DEPTH + 1),
                  "norm": norms, "activation": ACTIVATIONS, "skip": SKIPS}  # fmt: skip
        chosen = {name: draw(st.sampled_from(values)) for name, values in fields.items()}
        nodes.append(Node(id=ids[place], inputs=tuple(inputs), op=op, stride=stride, **chosen))
    head = Head(draw(st.sampled_from(POOLS)), draw(st.sampled_from([0, 5])))
    return Genome(stem, tuple(draw(st.permutations(nodes))), head, draw(st.sampled_from([ids[-1], *ids])))


@st.composite
def disguised(draw: st.DrawFn, genome: Genome) -> Genome:
    """``genome`` with other ids, orders, inactive nodes, and values in the fields that have no effect."""
    active = active_nodes(genome)
    new = draw(st.lists(st.integers(1, 999), min_size=len(active), max_size=len(active), unique=True))
    names = {0: 0} | {node.id: name for node, name in zip(active, new, strict=True)}
    nodes = []
    for node in active:
        node = replace(node, id=names[node.id], inputs=draw(st.permutations([names[name] for name in node.inputs])))
        node = replace(node, inputs=tuple(node.inputs))
        if len(node.inputs) == 1:
            node = replace(node, merge=draw(st.sampled_from(MERGES)))
        if node.op in POOL_OPS:
            other = {"kernel": KERNELS["conv"], "channels": CHANNELS, "depth": (1, 2), "norm": NORMS,
                     "activation": ACTIVATIONS, "skip": SKIPS}  # fmt: skip
            node = replace(node, **{name: draw(st.sampled_from(values)) for name, values in other.items()})
        nodes.append(node)
    for name in range(1000, 1000 + draw(st.integers(0, 2))):
        like = draw(st.sampled_from(nodes)) if nodes else _IDLE
        nodes.append(replace(like, id=name, inputs=(draw(st.sampled_from([0, *(node.id for node in nodes)])),)))
    return replace(genome, nodes=tuple(draw(st.permutations(nodes))), output=names[genome.output])


_IDLE = Node(1, (0,), "add", "conv", 3, 4, 1, 1, "batch", "relu", "none")


def node(name: int, inputs: tuple[int, ...], **fields: object) -> Node:
    """A plain node, but for ``fields``."""
    return replace(_IDLE, id=name, inputs=inputs, **fields)  # type: ignore[arg-type]


def genome(*nodes: Node, stem: Stem | None = None, head: Head | None = None, output: int | None = None) -> Genome:
    """A genome of ``nodes``, of which the last is the output unless said otherwise."""
    last = nodes[-1].id if nodes else 0
    stem = stem or Stem("conv3", 4, "batch", "relu")
    return Genome(stem, nodes, head or Head("mean", 0), last if output is None else output)


def lived_in(net: nn.Module, size: tuple[int, int, int]) -> nn.Module:
    """``net`` with the statistics and the affine maps of some training, in evaluation mode."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d | nn.GroupNorm):
                module.weight.add_(0.3 * torch.randn(module.weight.shape, generator=generator))
                module.bias.add_(0.3 * torch.randn(module.bias.shape, generator=generator))
        for _ in range(3):
            net.train()(2 * torch.randn(8, *size, generator=generator) + 0.5)
    return net.eval()
