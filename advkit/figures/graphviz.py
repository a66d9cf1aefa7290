"""A genome's graph in Graphviz's language, for a layout that others make: ``dot -Tsvg FILE.dot``."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path

from advkit.figures.genome_graph import HEAD, STEM, GraphNode
from advkit.files.atomic import atomic_write

SUFFIXES = (".dot", ".gv")


def write(path: Path, graph: Mapping[int, GraphNode], *, title: str, note: str) -> None:
    """Write :func:`to_dot` to ``path``, atomically. Raises InputError when it can't be written."""
    with atomic_write(path) as temporary:
        temporary.write_text(to_dot(graph, title=title, note=note), encoding="utf-8")


def to_dot(graph: Mapping[int, GraphNode], *, title: str, note: str) -> str:
    """``graph`` as a DOT digraph: a line for each node, then one for each edge; equal graphs give equal text.

    Args:
        graph: as :func:`advkit.figures.genome_graph.graph_of` makes it.
        title: printed above the graph; empty for none.
        note: printed below ``title``.
    """
    lines = [
        "digraph architecture {",
        f"  graph [label={_quoted(*filter(None, (title, *textwrap.wrap(note, 80))))}, labelloc=t, fontname=Helvetica];",
        '  node [shape=box, style="rounded,filled", fontname=Helvetica, fontsize=10];',
    ]
    for name, node in graph.items():
        lines.append(f'  {_id(name)} [label={_quoted(*node.lines)}, fillcolor="{node.fill}"];')
    lines += [f"  {_id(source)} -> {_id(name)};" for name, node in graph.items() for source in node.inputs]
    return "\n".join([*lines, "}", ""])


def _id(name: int) -> str:
    return {STEM: "stem", HEAD: "head"}.get(name, f"node{name}")


def _quoted(*lines: str) -> str:
    """A DOT string of ``lines``: a backslash would start an escape sequence, a double quote end the string."""
    return '"' + "\\n".join(line.replace("\\", "\\\\").replace('"', '\\"') for line in lines) + '"'
