"""A genome in words: the graph that its drawings show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from advkit.models.genome.genes import POOL_OPS, Genome, Head, Node, Stem, active_nodes

STEM, HEAD = 0, -1  # their ids in the graph; ids of nodes are above 0
FILLS = {"end": "#e6e6e6", "conv": "#dcebf8", "pool": "#fdecd2"}  # pale: black words stand out on each, in grey too
_STEMS = {
    "conv3": "conv 3×3 {}",
    "conv5": "conv 5×5 {}",
    "conv7s2": "conv 7×7 {} /2",
    "patch2": "patches 2×2 {} /2",
    "patch4": "patches 4×4 {} /4",
}
_ACTIVATIONS = {"relu": "ReLU", "leaky": "leaky ReLU", "silu": "SiLU", "gelu": "GELU"}
_POOLS = {"mean": "mean over map", "max": "max over map", "both": "mean, max over map"}


@dataclass(frozen=True)
class GraphNode:
    """What one box of a drawing says.

    Attributes:
        operation: what it computes, with kernel, channels, depth and stride.
        lines: all that it says from top to bottom: how several inputs are merged, ``operation``, norm and activation,
            the shape of what it puts out; those that apply.
        fill: its colour.
        inputs: ids, ascending.
    """

    operation: str
    lines: tuple[str, ...]
    fill: str
    inputs: tuple[int, ...]


def graph_of(genome: Genome, shapes: Mapping[int, tuple[int, int, int]]) -> dict[int, GraphNode]:
    """What the output of ``genome`` depends on, each after its inputs: :data:`STEM`, nodes by id, :data:`HEAD`.

    Args:
        genome: the order of its nodes and of their inputs makes no difference.
        shapes: channels, height and width of what a node puts out, by its id; of those that are to show it.

    Raises:
        InputError: a cycle, an input or output that doesn't exist.
    """

    def graph_node(name: int, operation: str, more: str, fill: str, inputs: tuple[int, ...], merge: str) -> GraphNode:
        shape = "→ " + "×".join(str(size) for size in shapes[name]) if name in shapes else ""
        merged = f"{merge} of {len(inputs)}" if len(inputs) > 1 else ""
        return GraphNode(operation, tuple(line for line in (merged, operation, more, shape) if line), fill, inputs)

    graph = {STEM: graph_node(STEM, *_stem(genome.stem), FILLS["end"], (), "")}
    for node in active_nodes(genome):
        fill = FILLS["pool" if node.op in POOL_OPS else "conv"]
        graph[node.id] = graph_node(node.id, *_node(node), fill, tuple(sorted(node.inputs)), node.merge)
    graph[HEAD] = graph_node(HEAD, *_head(genome.head), FILLS["end"], (genome.output,), "")
    return graph


def legend(genome: Genome, graph: Mapping[int, GraphNode]) -> str:
    """What the marks in ``graph`` mean, and how many nodes are left out, in sentences; only what is needed."""
    words = " ".join(f"{line} " for node in graph.values() for line in node.lines)
    marks = [
        ("×n: n convolutions, one after the other", any(f" ×{n} " in words for n in range(2, 10))),
        ("/n: stride n", any(f" /{n} " in words for n in (2, 4))),
        ("+\N{NO-BREAK SPACE}residual: its input added", "+ residual" in words),
        ("+\N{NO-BREAK SPACE}dense: its input concatenated", "+ dense" in words),
        ("→: channels × height × width", "→" in words),
    ]
    sentences = "; ".join(text for text, needed in marks if needed)
    left_out = len(genome.nodes) - (len(graph) - 2)
    sentences = f"{sentences[:1].upper()}{sentences[1:]}." if sentences else ""
    if left_out:
        them = "node that does not reach the output is" if left_out == 1 else "nodes that do not reach the output are"
        sentences += f" {left_out} {them} not drawn."
    return sentences.strip()


def _stem(stem: Stem) -> tuple[str, str]:
    return f"stem: {_STEMS[stem.kind].format(stem.channels)}", _norm(stem)


def _node(node: Node) -> tuple[str, str]:
    stride = f" /{node.stride}" if node.stride > 1 else ""
    if node.op in POOL_OPS:
        return f"{node.op} 3×3{stride}", ""
    depth = f" ×{node.depth}" if node.depth > 1 else ""
    skip = "" if node.skip == "none" else f" + {node.skip}"
    return f"{node.op} {node.kernel}×{node.kernel} {node.channels}{depth}{stride}", _norm(node) + skip


def _head(head: Head) -> tuple[str, str]:
    return f"head: {_POOLS[head.pool]}", f"linear {head.hidden}, ReLU, linear" if head.hidden else "linear"


def _norm(layer: Stem | Node) -> str:
    norm = "no norm" if layer.norm == "none" else layer.norm
    return f"{norm}, {_ACTIVATIONS[layer.activation]}"
