"""The genome of an image classifier: a graph of convolutions as plain data, read from and written to JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from graphlib import CycleError, TopologicalSorter
from typing import Any, TypeVar

from advkit.files.errors import InputError

STEMS = ("conv3", "conv5", "conv7s2", "patch2", "patch4")
POOL_OPS = ("max-pool", "avg-pool")
OPS = ("conv", "separable", "dilated", "grouped", *POOL_OPS)
KERNELS: dict[str, tuple[int, ...]] = {
    "conv": (1, 3, 5, 7),
    "separable": (3, 5, 7),
    "dilated": (3, 5),
    "grouped": (3, 5),
    "max-pool": (3,),
    "avg-pool": (3,),
}
MERGES = ("add", "concat")
NORMS = ("batch", "group", "none")
ACTIVATIONS = ("relu", "leaky", "silu", "gelu")
SKIPS = ("none", "residual", "dense")
POOLS = ("mean", "max", "both")
STRIDES = (1, 2)
MAX_DEPTH = 3
MAX_CHANNELS = 1024
MAX_HIDDEN = 1024
MAX_NODES = 64
MAX_ID = 2**31 - 1


@dataclass(frozen=True)
class Stem:
    """The first layer: one convolution, norm, activation.

    Attributes:
        kind: of STEMS: 3x3, 5x5, 7x7 with stride 2, or patches of side 2 or 4 (kernel and stride alike).
        channels: 1 to MAX_CHANNELS.
        norm: of NORMS.
        activation: of ACTIVATIONS.
    """

    kind: str
    channels: int
    norm: str
    activation: str


@dataclass(frozen=True)
class Node:
    """One to three convolutions one after another, or a 3x3 pooling, which ignores all but inputs, merge and stride.

    Attributes:
        id: above 0, unique; 0 is the stem.
        inputs: ids of other nodes or 0; a set, at least one.
        merge: of MERGES: what happens to several inputs.
        op: of OPS: ordinary, depthwise-separable, of dilation 2, of 4 groups, or a pooling.
        kernel: of KERNELS[op].
        channels: 1 to MAX_CHANNELS, of each convolution.
        depth: 1 to MAX_DEPTH convolutions.
        stride: of STRIDES, of the first convolution or of the pooling.
        norm: of NORMS, after each convolution.
        activation: of ACTIVATIONS, after each norm.
        skip: of SKIPS: "residual" adds the node's input before the last activation, "dense" concatenates it at the end.
    """

    id: int
    inputs: tuple[int, ...]
    merge: str
    op: str
    kernel: int
    channels: int
    depth: int
    stride: int
    norm: str
    activation: str
    skip: str


@dataclass(frozen=True)
class Head:
    """From the last map to the logits.

    Attributes:
        pool: of POOLS: over the map; "both" concatenates mean and maximum.
        hidden: width of a linear layer with ReLU before the classifier, 0 to MAX_HIDDEN; 0 for none.
    """

    pool: str
    hidden: int


@dataclass(frozen=True)
class Genome:
    """A network. Nodes that ``output`` does not depend on are allowed and do nothing.

    Attributes:
        stem: reads the image.
        nodes: in any order; an acyclic graph, at most MAX_NODES.
        head: reads the output of the node ``output``.
        output: id of a node, or 0 for the stem.
    """

    stem: Stem
    nodes: tuple[Node, ...]
    head: Head
    output: int


_Record = TypeVar("_Record", Stem, Node, Head)


def to_json(genome: Genome) -> dict[str, Any]:
    """``genome`` as JSON values; :func:`from_json` gives an equal genome back."""
    value = asdict(genome)
    value["nodes"] = [node | {"inputs": list(node["inputs"])} for node in value["nodes"]]
    return value


def from_json(value: object) -> Genome:
    """The genome that ``value``, JSON from a stranger, stands for.

    Raises:
        InputError: names the field that is missing, unknown, of the wrong type or out of range; cycles; unknown inputs.
    """
    found = _members(value, "the genome", Genome)
    if not isinstance(found["nodes"], list | tuple) or len(found["nodes"]) > MAX_NODES:
        raise InputError(f"genome: nodes must be a list of at most {MAX_NODES}")
    if type(found["output"]) is not int:
        raise InputError(f"genome: output is {_shown(found['output'])}; it must be the id of a node, or 0")
    genome = Genome(
        stem=_record(found["stem"], "stem", Stem),
        nodes=tuple(_record(node, f"nodes[{place}]", Node) for place, node in enumerate(found["nodes"])),
        head=_record(found["head"], "head", Head),
        output=found["output"],
    )
    check(genome)
    return genome


def check(genome: Genome) -> None:
    """Raise InputError, naming the field, unless every value of ``genome`` is allowed and its graph is sound."""
    if len(genome.nodes) > MAX_NODES:
        raise InputError(f"genome: {len(genome.nodes)} nodes; at most {MAX_NODES} are allowed")
    _one_of("stem.kind", genome.stem.kind, STEMS)
    _check_layer("stem", genome.stem)
    for place, node in enumerate(genome.nodes):
        _check_node(f"nodes[{place}]", node)
    _one_of("head.pool", genome.head.pool, POOLS)
    _within("head.hidden", genome.head.hidden, 0, MAX_HIDDEN)
    _check_graph(genome)


def active_nodes(genome: Genome) -> tuple[Node, ...]:
    """The active nodes, those that the output depends on, each after its inputs; the order is otherwise arbitrary.

    Raises:
        InputError: a cycle, an input that doesn't exist.
    """
    nodes = {node.id: node for node in genome.nodes}
    wanted: dict[int, tuple[int, ...]] = {}
    waiting = [genome.output]
    while waiting:
        name = waiting.pop()
        if name == 0 or name in wanted:
            continue
        if name not in nodes:
            raise InputError(f"genome: there is no node {_shown(name)}; inputs and output must be ids of nodes, or 0")
        wanted[name] = tuple(sorted(nodes[name].inputs))
        waiting.extend(wanted[name])
    return tuple(nodes[name] for name in _sorted(wanted))


def _sorted(inputs: Mapping[int, tuple[int, ...]]) -> list[int]:
    try:
        return [name for name in TopologicalSorter(inputs).static_order() if name != 0]
    except CycleError as error:
        raise InputError("genome: its nodes form a cycle; every node must come after its inputs") from error


def _members(value: object, where: str, kind: type[Any]) -> dict[str, Any]:
    names = [field.name for field in fields(kind)]
    if not isinstance(value, Mapping):
        raise InputError(f"genome: {where} is {_shown(value)}; it must be an object of {', '.join(names)}")
    missing = [name for name in names if name not in value]
    unknown = [name for name in value if name not in names]
    if missing or unknown:
        what = f"lacks {missing[0]!r}" if missing else f"has an unknown field {_shown(unknown[0])}"
        raise InputError(f"genome: {where} {what}; its fields are {', '.join(names)}")
    return dict(value)


def _record(value: object, where: str, kind: type[_Record]) -> _Record:
    found = _members(value, where, kind)
    for field in fields(kind):
        given, wanted = found[field.name], str(field.type)
        if wanted.startswith("tuple"):
            if not isinstance(given, list | tuple) or len(given) > MAX_NODES or any(type(n) is not int for n in given):
                raise InputError(f"genome: {where}.{field.name} must be a list of ids, at most {MAX_NODES}")
            found[field.name] = tuple(given)
        elif type(given) is not {"int": int, "str": str}[wanted]:
            word = {"int": "a whole number", "str": "a word"}[wanted]
            raise InputError(f"genome: {where}.{field.name} is {_shown(given)}; it must be {word}")
    return kind(**found)


def _check_node(where: str, node: Node) -> None:
    _within(f"{where}.id", node.id, 1, MAX_ID)
    _one_of(f"{where}.merge", node.merge, MERGES)
    _one_of(f"{where}.op", node.op, OPS)
    # A pooling ignores its kernel: one left over from another operation does no harm.
    _one_of(f"{where}.kernel", node.kernel, KERNELS["conv"] if node.op in POOL_OPS else KERNELS[node.op])
    _within(f"{where}.depth", node.depth, 1, MAX_DEPTH)
    _one_of(f"{where}.stride", node.stride, STRIDES)
    _one_of(f"{where}.skip", node.skip, SKIPS)
    _check_layer(where, node)
    if not node.inputs or len(set(node.inputs)) < len(node.inputs) or len(node.inputs) > MAX_NODES:
        raise InputError(f"genome: {where}.inputs must be at least one id, none twice")


def _check_layer(where: str, layer: Stem | Node) -> None:
    _within(f"{where}.channels", layer.channels, 1, MAX_CHANNELS)
    _one_of(f"{where}.norm", layer.norm, NORMS)
    _one_of(f"{where}.activation", layer.activation, ACTIVATIONS)


def _check_graph(genome: Genome) -> None:
    ids = [node.id for node in genome.nodes]
    twice = next((name for name in ids if ids.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"genome: two nodes have the id {twice}; give each its own")
    known = {0, *ids}
    for place, node in enumerate(genome.nodes):
        lost = next((name for name in node.inputs if name not in known), None)
        if lost is not None:
            raise InputError(f"genome: nodes[{place}].inputs names {_shown(lost)}, which is no node; use ids, or 0")
    if genome.output not in known:
        raise InputError(f"genome: output is {_shown(genome.output)}, which is no node; use an id, or 0")
    _sorted({node.id: node.inputs for node in genome.nodes})


def _one_of(where: str, value: str | int, allowed: tuple[str, ...] | tuple[int, ...]) -> None:
    if value not in allowed:
        raise InputError(f"genome: {where} is {_shown(value)}; it must be one of {', '.join(map(str, allowed))}")


def _within(where: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise InputError(f"genome: {where} is {_shown(value)}; it must be from {low} to {high}")


def _shown(value: object) -> str:
    """``value`` for a message, short however long it is."""
    if isinstance(value, int | float | str | None):
        text = repr(value[:40] if isinstance(value, str) else value)
        return text[:42]
    return f"a {type(value).__name__}"
