"""A genome in words: what the boxes of its drawing say."""

from __future__ import annotations

import graphlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

STEM, HEAD = 0, -1  # their vertices; ids of nodes are above 0
FILLS = {"end": "#e6e6e6", "conv": "#dcebf8", "pool": "#fdecd2"}  # pale: black words stand out on each, in grey too
_STEMS = {
    "conv3": "conv 3×3 {}",
    "conv5": "conv 5×5 {}",
    "conv7s2": "conv 7×7 {} /2",
    "patch2": "patches 2×2 {} /2",
    "patch4": "patches 4×4 {} /4",
}
_ACTIVATIONS = {"relu": "ReLU", "leaky": "leaky ReLU", "silu": "SiLU", "gelu": "GELU"}
_POOLS = {"mean": "mean over the map", "max": "max over the map", "both": "mean and maximum"}


@dataclass(frozen=True)
class Box:
    """What one box says.

    Attributes:
        words: the first line: what it computes.
        more: the second line: norm, activation, skip; empty for none.
        fill: its colour.
        inputs: vertices, ascending.
        merge: what happens to several inputs; empty for one.
    """

    words: str
    more: str
    fill: str
    inputs: tuple[int, ...]
    merge: str


def boxes_of(genome: Mapping[str, Any]) -> dict[int, Box]:
    """The boxes of what the output depends on, each after its inputs: :data:`STEM`, nodes by id, :data:`HEAD`.

    Args:
        genome: ``stem``, ``nodes``, ``head`` and ``output``. Kinds that are not known are written as they are.

    Raises:
        ValueError: two nodes of one id, an id below 1, an input or output that doesn't exist, no input, a cycle.
    """
    nodes = {node["id"]: node for node in genome["nodes"]}
    if len(nodes) < len(genome["nodes"]) or any(name <= STEM for name in nodes):
        raise ValueError("ids of nodes are not all different and above 0")
    boxes = {STEM: _stem(genome["stem"])}
    for name in _active(nodes, genome["output"]):
        boxes[name] = _node(nodes[name])
    return {**boxes, HEAD: _head(genome["head"], genome["output"])}


def explained(genome: Mapping[str, Any], boxes: Mapping[int, Box]) -> str:
    """What the marks in the ``boxes`` mean, and how many nodes are left out, in sentences; only what is needed."""
    words = " ".join(f"{box.words} {box.more} " for box in boxes.values())
    marks = [
        ("×n: n convolutions, one after the other", any(f" ×{n} " in words for n in range(2, 10))),
        ("/n: stride n", any(f" /{n} " in words for n in (2, 4))),
        ("+\N{NO-BREAK SPACE}residual: its input added", "+ residual" in words),
        ("+\N{NO-BREAK SPACE}dense: its input concatenated", "+ dense" in words),
    ]
    sentences = "; ".join(text for text, needed in marks if needed)
    left_out = len(genome["nodes"]) - (len(boxes) - 2)
    sentences = f"{sentences[:1].upper()}{sentences[1:]}." if sentences else ""
    if left_out:
        them = "node that does not reach the output is" if left_out == 1 else "nodes that do not reach the output are"
        sentences += f" {left_out} {them} not drawn."
    return sentences.strip()


def _active(nodes: Mapping[int, Mapping[str, Any]], output: int) -> list[int]:
    """Ids of the nodes that ``output`` depends on, each after its inputs, the same for any order of the nodes."""
    wanted: dict[int, list[int]] = {}
    waiting = [output]
    while waiting:
        name = waiting.pop()
        if name not in wanted and name != STEM:
            if name not in nodes or not nodes[name]["inputs"]:
                raise ValueError(f"there is no node {name}, or it has no input")
            wanted[name] = sorted(set(nodes[name]["inputs"]))
            waiting += wanted[name]
    try:
        ordered = graphlib.TopologicalSorter(wanted).static_order()
        return [name for name in ordered if name != STEM]
    except graphlib.CycleError as error:
        raise ValueError(f"the nodes form a cycle: {error.args[1]}") from error


def _stem(stem: Mapping[str, Any]) -> Box:
    words = _STEMS.get(stem["kind"], f"{stem['kind']} {{}}").format(stem["channels"])
    return Box(f"stem: {words}", _norm(stem), FILLS["end"], (), "")


def _node(node: Mapping[str, Any]) -> Box:
    inputs = tuple(sorted(set(node["inputs"])))
    merge = node["merge"] if len(inputs) > 1 else ""
    stride = f" /{node['stride']}" if node["stride"] > 1 else ""
    if node["op"].endswith("-pool"):
        return Box(f"{node['op']} {node['kernel']}×{node['kernel']}{stride}", "", FILLS["pool"], inputs, merge)
    depth = f" ×{node['depth']}" if node["depth"] > 1 else ""
    words = f"{node['op']} {node['kernel']}×{node['kernel']} {node['channels']}{depth}{stride}"
    skip = "" if node["skip"] == "none" else f" + {node['skip']}"
    return Box(words, _norm(node) + skip, FILLS["conv"], inputs, merge)


def _head(head: Mapping[str, Any], output: int) -> Box:
    hidden = f"linear {head['hidden']}, ReLU, linear" if head["hidden"] else "linear"
    return Box(f"head: {_POOLS.get(head['pool'], head['pool'])}", hidden, FILLS["end"], (output,), "")


def _norm(layer: Mapping[str, Any]) -> str:
    norm = "no norm" if layer["norm"] == "none" else layer["norm"]
    return f"{norm}, {_ACTIVATIONS.get(layer['activation'], layer['activation'])}"
