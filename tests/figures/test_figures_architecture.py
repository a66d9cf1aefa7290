"""The architecture: every active node and edge once, nothing through a box, words inside, equal bytes, sound DOT."""

import contextlib
import itertools
import random
import re
import shutil
import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle
from PIL import Image

from advkit.evolution.variation import random_genome
from advkit.figures import architecture
from advkit.figures import canvas as canvas_module
from advkit.figures.genome_graph import graph_of
from advkit.figures.graphviz import to_dot
from advkit.files.errors import InputError
from advkit.models.genome.genes import Genome, Head, Node, Stem
from advkit.models.genome.presets import PRESETS


def node(name: int, inputs: list[int], **more) -> Node:
    plain = {"merge": "add", "op": "conv", "kernel": 3, "channels": 64, "depth": 1, "stride": 1}
    return Node(name, tuple(inputs), **{**plain, "norm": "batch", "activation": "relu", "skip": "none", **more})


def genome(nodes: list[Node], output: int, kind: str = "conv3", head: Head = Head("mean", 0)) -> Genome:
    return Genome(Stem(kind, 32, "batch", "relu"), tuple(nodes), head, output)


SMALL = genome(
    [
        node(5, [0], depth=2, stride=2, skip="residual"),
        node(2, [5, 0], op="separable", kernel=7, channels=128, merge="concat", norm="none", activation="leaky"),
        node(9, [2, 5, 0], op="max-pool", channels=999),
        node(7, [9], op="dilated", kernel=5, norm="group", activation="gelu", skip="dense"),
        node(3, [9, 7]),
    ],
    7,
    "conv7s2",
    Head("both", 128),
)
SMALL_EDGES = {(0, 5), (0, 2), (5, 2), (0, 9), (2, 9), (5, 9), (9, 7), (7, -1)}
SHAPES = {0: (32, 16, 16), 5: (64, 8, 8), 3: (1, 2, 3)}


def thicket(count: int, seed: int, density: float) -> Genome:
    """A graph of ``count`` nodes with the longest words."""
    chance = random.Random(seed)
    nodes = []
    for name in range(1, count + 1):
        inputs = {chance.randrange(name)} | {other for other in range(name) if chance.random() < density}
        most = {"op": "separable", "kernel": 7, "channels": 1024, "depth": 3, "stride": 2}
        long = {"norm": "none", "activation": "leaky", "skip": "residual"}
        nodes.append(node(name, sorted(inputs), merge=chance.choice(["add", "concat"]), **most, **long))
    return genome(nodes, count, "patch4", Head("both", 1024))


def draw(path: Path, shown: Genome = SMALL, **more) -> Path:
    architecture.draw(path, shown, **{"title": "E", "note": "12 parameters.", "shapes": {}, **more})
    return path


def drawn(tmp_path: Path, shown: Genome, **more) -> Figure:
    """The figure as it is written."""
    caught: list[Figure] = []

    @contextlib.contextmanager
    def spy(*args):
        with canvas_module.canvas(*args) as figure:
            yield figure
            figure.canvas.draw()
            caught.append(figure)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(canvas_module, "RESOLUTION", 100)
        patch.setattr(architecture, "canvas", spy)
        draw(tmp_path / "f.png", shown, **more)
    return caught[0]


def boxes(figure: Figure) -> list[np.ndarray]:
    """Left, top, right, bottom of each box in inches."""
    found = [patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]
    return [np.array([*box.get_xy(), box.get_x() + box.get_width(), box.get_y() + box.get_height()]) for box in found]


def lines(figure: Figure) -> dict[tuple[int, int, int], np.ndarray]:
    """Corners of each line, by source, target (the source again where it passes a box), and layer in which it ends."""
    found = {}
    for line in figure.axes[0].lines:
        found[line.get_gid()] = line.get_xydata()
    for text in figure.axes[0].texts:
        arrow = getattr(text, "arrow_patch", None)
        if isinstance(arrow, FancyArrowPatch):
            found[arrow.get_gid()] = np.array([text.get_position(), text.xy])
    names = {gid: re.fullmatch(r"(-?\d+)-(-?\d+) (\d+)", gid).groups() for gid in found}
    return {tuple(map(int, names[gid])): corners for gid, corners in found.items()}


def edges(figure: Figure) -> set[tuple[int, int]]:
    """Source and target of what is drawn, where the lines of each join without a break."""
    ways = lines(figure)
    joined = set()
    for (source, target, layer), corners in ways.items():
        if source == target:
            continue
        at, row = corners[0], layer - 1
        while (source, source, row) in ways:
            np.testing.assert_allclose(ways[source, source, row][-1], at)
            at, row = ways[source, source, row][0], row - 1
        assert sum(bool(np.allclose(at, [(box[0] + box[2]) / 2, box[3]])) for box in boxes(figure)) == 1
        joined.add((source, target))
    return joined


def edges_of(shown: Genome) -> set[tuple[int, int]]:
    """Source and target of all edges that the output depends on."""
    inputs = {each.id: each.inputs for each in shown.nodes}
    found, waiting = {(shown.output, -1)}, [shown.output]
    while waiting:
        name = waiting.pop()
        found |= {(source, name) for source in inputs.get(name, ())}
        waiting += inputs.get(name, ())
    return found


def assert_clear(figure: Figure, shown: Genome) -> None:
    """All there; boxes apart, no line through one, words inside."""
    found = boxes(figure)
    assert len(found) == len({name for edge in edges_of(shown) for name in edge})
    assert edges(figure) == edges_of(shown)
    for (left, top, right, bottom), (x0, y0, x1, y1) in itertools.combinations(found, 2):
        assert right < x0 or x1 < left or bottom < y0 or y1 < top
    for name, corners in lines(figure).items():
        across, down = np.concatenate([np.linspace(a, b, 50) for a, b in itertools.pairwise(corners)]).T
        for box in found:
            left, top, right, bottom = box + 1e-6 * np.array([1, 1, -1, -1])
            assert not ((left < across) & (across < right) & (top < down) & (down < bottom)).any(), name
    pixels = figure.axes[0].transData
    inside = 0
    for text in (text for text in figure.axes[0].texts if text.get_text()):
        place, extent = np.array(text.get_position()), text.get_window_extent()
        for box in found:
            if (box[:2] < place).all() and (place < box[2:]).all():
                (left, bottom), (right, top) = pixels.transform([(box[0], box[3]), (box[2], box[1])])
                assert left < extent.x0 < extent.x1 < right
                assert bottom < extent.y0 < extent.y1 < top
                assert text.get_fontsize() >= 6
                inside += 1
    assert inside >= 2 * len(found) - len(shown.nodes)


def test_the_boxes_say_what_the_nodes_do(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setitem(canvas_module._SETTINGS, "svg.fonttype", "none")
    words = re.findall(r"<text[^>]*>([^<]*)</text>", draw(tmp_path / "t.svg", shapes=SHAPES).read_text())
    said = [
        ("stem: conv 7×7 32 /2", "batch, ReLU", "→ 32×16×16"),
        ("conv 3×3 64 ×2 /2", "batch, ReLU + residual", "→ 64×8×8"),
        ("concat of 2", "separable 7×7 128", "no norm, leaky ReLU"),
        ("add of 3", "max-pool 3×3"),
        ("dilated 5×5 64", "group, GELU + dense"),
        ("head: mean, max over map", "linear 128, ReLU, linear"),
    ]
    for word in itertools.chain(*said, "E"):
        assert words.count(word) == 1, word
    assert "→ 1×2×3" not in words  # node 3 does not reach the output
    note = " ".join(words)
    for part in (
        "12 parameters. ×n: n convolutions, one after the other; /n: stride n;",
        "+\N{NO-BREAK SPACE}residual: its input added; +\N{NO-BREAK SPACE}dense: its input concatenated;",
        "→: channels × height × width. 1 node that does not reach the output is not drawn.",
    ):
        assert part in note
    path = draw(tmp_path / "p.svg", genome([node(1, [0])], 1), note="", title="")
    plain = re.findall(r"<text[^>]*>([^<]*)</text>", path.read_text())
    ends = ["stem: conv 3×3 32", "batch, ReLU", "head: mean over map", "linear"]
    assert sorted(word for word in plain if word) == sorted([*ends, "conv 3×3 64", "batch, ReLU"])


def test_every_active_node_and_edge_is_drawn_once(tmp_path: Path) -> None:
    figure = drawn(tmp_path, SMALL, shapes=SHAPES)
    assert len(boxes(figure)) == 6
    assert edges(figure) == SMALL_EDGES == edges_of(SMALL)
    passing = [name for name in lines(figure) if name[0] == name[1]]
    assert len(passing) == 3  # of the stem beside 5 and 2, of 5 beside 2
    assert_clear(figure, SMALL)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 16), st.integers(0, 10_000), st.floats(0, 0.6))
def test_in_any_graph_boxes_are_apart_and_no_line_runs_through_one(
    tmp_path_factory, count: int, seed: int, density: float
) -> None:
    shown = thicket(count, seed, density)
    shapes = dict.fromkeys(range(0, count, 2), (1024, 16, 16))
    assert_clear(drawn(tmp_path_factory.mktemp("f"), shown, shapes=shapes), shown)


@pytest.mark.parametrize(
    "shown",
    [
        genome([node(name, [0]) for name in range(1, 16)] + [node(16, list(range(16)))], 16),
        genome([node(name, list(range(name))) for name in range(1, 17)], 16),
        thicket(64, 4, 0.02),
        random_genome(np.random.default_rng(2)),
        *(make() for make in PRESETS.values()),
    ],
)
def test_ugly_graphs_and_the_presets_are_clear(tmp_path: Path, shown: Genome) -> None:
    assert_clear(drawn(tmp_path, shown, title="A rather long title " * 9, note="Words and words. " * 20), shown)


def test_layers_are_those_of_the_longest_path_and_hold_four_boxes_at_most() -> None:
    def layers(shown: Genome) -> dict[int, int]:
        return {item.node: item.layer for item in architecture.layout(graph_of(shown, {}), 1.0).boxes}

    assert layers(SMALL) == {0: 0, 5: 1, 2: 2, 9: 3, 7: 4, -1: 5}
    wide = genome([*(node(name, [0]) for name in range(1, 7)), node(7, list(range(1, 7)))], 7)
    assert Counter(layers(wide).values()) == {0: 1, 1: 4, 2: 2, 3: 1, 4: 1}
    assert layers(wide)[7] == 3


def test_a_chain_is_straight_and_neighbours_are_not_crossed() -> None:
    chain = architecture.layout(graph_of(genome([node(name, [name - 1]) for name in range(1, 9)], 8), {}), 1.0)
    assert np.ptp(list(chain.x.values())) < 1e-6
    two = [node(1, [0]), node(2, [0]), node(4, [1]), node(3, [2]), node(5, [3, 4])]  # by id alone 3 would be under 1
    x = {item.node: middle for item, middle in architecture.layout(graph_of(genome(two, 5), {}), 1.0).x.items()}
    assert (x[1] < x[2]) == (x[4] < x[3])


@pytest.mark.parametrize("kind", ["png", "svg", pytest.param("pdf", marks=pytest.mark.slow), "dot", "gv"])
def test_equal_genomes_give_equal_bytes_without_a_date(tmp_path: Path, kind: str, monkeypatch) -> None:
    first = draw(tmp_path / f"a.{kind}").read_bytes()
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    other_order = replace(SMALL, nodes=tuple(replace(each, inputs=each.inputs[::-1]) for each in SMALL.nodes[::-1]))
    with matplotlib.rc_context({"font.size": 20, "svg.hashsalt": None, "patch.linewidth": 9}):
        assert first == draw(tmp_path / f"b.{kind}", other_order).read_bytes()
    assert not re.search(rb"(?i)creationdate|<dc:date|producer|matplotlib v|\d\d:\d\d:\d\d", first)
    assert first != draw(tmp_path / f"c.{kind}", replace(SMALL, output=9)).read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{name}.{kind}" for name in "abc"]


def test_nothing_is_cut_off(tmp_path: Path) -> None:
    pixels = np.asarray(Image.open(draw(tmp_path / "f.png", title="$title_{$")).convert("L"))
    assert (pixels[[0, -1]] == 255).all()
    assert (pixels[:, [0, -1]] == 255).all()
    assert (pixels < 60).mean() > 0.01


def parsed(text: str) -> tuple[dict[str, list[str]], list[tuple[str, str]]]:
    """Labels of the nodes and the edges of a DOT file, each statement of which has a line of its own."""
    string = r'"((?:[^"\\]|\\.)*)"'
    nodes, found = {}, []
    first, *statements, last = text.splitlines()
    assert (first, last) == ("digraph architecture {", "}")
    for line in statements:
        edge, vertex = re.fullmatch(r"  (\w+) -> (\w+);", line), re.fullmatch(rf"  (\w+) \[label={string}, .*\];", line)
        if edge:
            found.append(edge.groups())
        elif vertex:
            nodes[vertex[1]] = vertex[2].split("\\n")
        else:
            assert re.fullmatch(r"  node \[.*\];", line), line
    nodes["title"] = nodes.pop("graph")
    return nodes, found


def test_dot_has_exactly_the_nodes_and_edges_of_the_graph(tmp_path: Path) -> None:
    nodes, found = parsed(draw(tmp_path / "f.dot", shapes=SHAPES).read_text(encoding="utf-8"))
    names = {0: "stem", -1: "head"} | {name: f"node{name}" for name in (5, 2, 9, 7)}
    assert sorted(nodes) == sorted([*names.values(), "title"])
    assert sorted(found) == sorted((names[a], names[b]) for a, b in SMALL_EDGES)
    assert nodes["node5"] == ["conv 3×3 64 ×2 /2", "batch, ReLU + residual", "→ 64×8×8"]
    assert nodes["title"][:2] == ["E", "12 parameters. ×n: n convolutions, one after the other; /n: stride n;"]


def test_dot_escapes_what_would_end_a_string() -> None:
    text = to_dot(graph_of(SMALL, {}), title='a "b" \\c\\', note="")
    assert parsed(text)[0]["title"] == ['a \\"b\\" \\\\c\\\\']


@pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")
@pytest.mark.parametrize("shown", [SMALL, thicket(20, 1, 0.2), genome([], 0)])
def test_graphviz_reads_it(tmp_path: Path, shown: Genome) -> None:
    path = draw(tmp_path / "f.gv", shown, title='E "1" \\N')
    found = subprocess.run(["dot", "-Tsvg", path], capture_output=True, text=True, check=True)
    assert found.stderr == ""
    assert found.stdout.count('class="edge"') == len(edges_of(shown))
    assert "&quot;1&quot; \\N" in found.stdout


@pytest.mark.parametrize(
    ("shown", "message"),
    [
        (genome([node(1, [2]), node(2, [1])], 2), "cycle"),
        (genome([node(1, [4])], 1), "no node 4"),
        (genome([node(1, [0])], 3), "no node 3"),
    ],
)
def test_what_cannot_be_drawn_is_said(tmp_path: Path, shown: Genome, message: str) -> None:
    with pytest.raises(InputError, match=message):
        draw(tmp_path / "f.png", shown)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["png", "dot"])
def test_bad_paths_are_one_clear_line(tmp_path: Path, kind: str) -> None:
    with pytest.raises(InputError, match=r"\.png, \.svg or \.pdf"):
        draw(tmp_path / "f.gif")
    with pytest.raises(InputError, match=r"can(not|'t) (be )?writ"):
        draw(tmp_path / "missing" / f"f.{kind}")
