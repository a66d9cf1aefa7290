"""The architecture: every active node and link once, nothing through a box, words inside, equal bytes."""

import contextlib
import itertools
import random
import re
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from advkit.figures.layers import Layout, arranged
from advkit.figures.straight import Item, Sizes, blocked
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, PathPatch
from PIL import Image

from advkit.figures import architecture
from advkit.figures import canvas as canvas_module
from advkit.files.errors import InputError
from advkit.models.genome.genes import active_nodes, from_json, to_json
from advkit.models.genome.presets import PRESETS, named

SIZES = Sizes(box=1.4, lane=0.13, gap=0.07, landing=0.1, limit=6.8)


def node(name: int, inputs: list[int], **more) -> dict:
    plain = {"merge": "add", "op": "conv", "kernel": 3, "channels": 64, "depth": 1, "stride": 1}
    return {"id": name, "inputs": inputs, **plain, "norm": "batch", "activation": "relu", "skip": "none", **more}


def genome(nodes: list[dict], output: int, kind: str = "conv3", hidden: int = 0) -> dict:
    stem = {"kind": kind, "channels": 32, "norm": "batch", "activation": "relu"}
    return {"stem": stem, "nodes": nodes, "head": {"pool": "mean", "hidden": hidden}, "output": output}


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
    128,
)


def random_genome(count: int, seed: int, density: float) -> dict:
    chance = random.Random(seed)
    nodes = []
    for name in range(1, count + 1):
        inputs = {chance.randrange(name)} | {other for other in range(name) if chance.random() < density}
        most = {"op": "separable", "kernel": 7, "channels": 1024, "depth": 3, "stride": 2}
        long = {"norm": "none", "activation": "leaky", "skip": "residual"}
        nodes.append(node(name, sorted(inputs), merge=chance.choice(["add", "concat"]), **most, **long))
    return genome(nodes, count, "patch4", 1024)


def draw(path: Path, shown: dict = SMALL, **more) -> Path:
    architecture.draw(path, shown, **{"title": "E", "note": "12 parameters.", **more})
    return path


def drawn(shown: dict, **more) -> Figure:
    """The figure before it is written."""

    @contextlib.contextmanager
    def unwritten(path, width, height):
        with matplotlib.rc_context(canvas_module._SETTINGS):
            figure = Figure(figsize=(width, height), dpi=100)
            FigureCanvasAgg(figure)
            yield figure
            caught.append(figure)

    caught: list[Figure] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(architecture, "canvas", unwritten)
        draw(Path("f.png"), shown, **more)
    return caught[0]


def boxes(figure: Figure) -> dict[str, np.ndarray]:
    """Left, top, right, bottom of each box in inches, by the id of its node."""
    found = [patch for patch in figure.axes[0].patches if isinstance(patch, FancyBboxPatch) and patch.get_gid()]
    sides = {
        patch.get_gid().removeprefix("box "): (patch.get_x(), patch.get_y(), patch.get_width(), patch.get_height())
        for patch in found
    }
    return {name: np.array([x, y, x + wide, y + high]) for name, (x, y, wide, high) in sides.items()}


def lines(figure: Figure) -> dict[str, np.ndarray]:
    """Many points along each line, by its name."""
    return {
        patch.get_gid(): np.concatenate(
            [np.linspace(a, b, 8) for a, b in itertools.pairwise(patch.get_path().to_polygons(closed_only=False)[0])]
        )
        for patch in figure.axes[0].patches
        if isinstance(patch, PathPatch)
    }


def test_the_boxes_say_what_the_nodes_do(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setitem(canvas_module._SETTINGS, "svg.fonttype", "none")
    path = draw(tmp_path / "t.svg", shapes={0: (32, 16, 16), 5: (64, 8, 8), 3: (1, 2, 3)})
    words = re.findall(r"<text[^>]*>([^<]*)</text>", path.read_text())
    said = [
        ("stem: conv 7×7 32 /2", "batch, ReLU"),
        ("conv 3×3 64 ×2 /2", "batch, ReLU + residual"),
        ("separable 7×7 128", "no norm, leaky ReLU"),
        ("max-pool 3×3",),
        ("dilated 5×5 64", "group, GELU + dense"),
        ("head: mean over the map", "linear 128, ReLU, linear"),
    ]
    for word in itertools.chain(*said, ("concat", "add", "32×16×16", "64×8×8", "E")):
        assert words.count(word) == 1, word
    assert "1×2×3" not in words  # node 3 does not reach the output
    note = " ".join(words)
    for part in (
        "12 parameters. ×n: n convolutions, one after the other; /n: stride n;",
        "+\N{NO-BREAK SPACE}residual: its input added; +\N{NO-BREAK SPACE}dense: its input concatenated.",
        "1 node that does not reach the output is not drawn.",
    ):
        assert part in note
    path = draw(tmp_path / "p.svg", genome([node(1, [0])], 1), note="", title="")
    plain = re.findall(r"<text[^>]*>([^<]*)</text>", path.read_text())
    ends = ["stem: conv 3×3 32", "batch, ReLU", "head: mean over the map", "linear"]
    assert sorted(word for word in plain if word) == sorted([*ends, "conv 3×3 64", "batch, ReLU"])


def test_every_active_node_and_link_is_drawn_once() -> None:
    figure = drawn(SMALL)
    assert sorted(boxes(figure)) == ["-1", "0", "2", "5", "7", "9"]
    ends = sorted(name for name in lines(figure) if name.startswith("link"))
    assert ends == sorted(
        ["link 0-5", "link 0-2", "link 5-2", "link 0-9", "link 2-9", "link 5-9", "link 9-7", "link 7--1"]
    )
    assert sum(name.startswith("lane") for name in lines(figure)) == 3  # of the stem beside 5 and 2, of 5 beside 2


def assert_clear(shown: dict, figure: Figure) -> None:
    """Boxes apart, no line through one, each line from source to target, words inside, at most 7 inches wide."""
    found, ways = boxes(figure), lines(figure)
    assert figure.get_figwidth() <= 7
    for (left, top, right, bottom), (x0, y0, x1, y1) in itertools.combinations(found.values(), 2):
        assert right < x0 or x1 < left or bottom < y0 or y1 < top
    for name, way in ways.items():
        for sides in found.values():
            left, top, right, bottom = sides + 1e-6 * np.array([1, 1, -1, -1])
            across, down = way.T
            inside = (left < across) & (across < right) & (top < down) & (down < bottom)
            assert not inside.any(), name
    for name in (name for name in ways if name.startswith("link")):
        source, target = re.fullmatch(r"link (-?\d+)-(-?\d+)", name).groups()
        left, top, right, _ = found[target]
        assert left < ways[name][-1, 0] < right
        assert top - 0.2 < ways[name][-1, 1] <= top  # at the tab, or the box
        joined = [way for other, way in ways.items() if re.match(rf"lane {source} ", other)]
        begins = [np.array([(found[source][0] + found[source][2]) / 2, found[source][3]]), *(way[-1] for way in joined)]
        assert min(np.abs(ways[name][0] - place).max() for place in begins) < 1e-6
    per_inch = figure.dpi
    for text in figure.axes[0].texts:
        place = np.array(text.get_position())
        extent = text.get_window_extent()
        assert extent.x0 >= 0
        assert extent.x1 <= figure.get_figwidth() * per_inch
        for left, top, right, bottom in found.values():
            if left < place[0] < right and top < place[1] < bottom:
                assert extent.x0 >= left * per_inch
                assert extent.x1 <= right * per_inch
                assert text.get_fontsize() >= 6
        if re.fullmatch(r"\d+×\d+×\d+", text.get_text()):  # a shape, which stands between boxes and lines
            low, high = (figure.get_figheight() - side / per_inch for side in (extent.y1, extent.y0))
            for area in found.values():
                assert not (extent.x0 < area[2] * per_inch and area[0] * per_inch < extent.x1) or (
                    high < area[1] or area[3] < low + 0.02
                )
            for name, way in ways.items():
                across, down = way[:, 0] * per_inch, way[:, 1]
                assert not ((extent.x0 < across) & (across < extent.x1) & (low < down) & (down < high)).any(), name
    wanted = {(source, each["id"]) for each in shown["nodes"] for source in each["inputs"] if str(each["id"]) in found}
    wanted.add((shown["output"], -1))
    assert {name for name in ways if name.startswith("link")} == {f"link {a}-{b}" for a, b in wanted}


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 16), st.integers(0, 10_000), st.floats(0, 0.6))
def test_any_graph_is_drawn_without_a_line_through_a_box(count: int, seed: int, density: float) -> None:
    shown = random_genome(count, seed, density)
    assert_clear(shown, drawn(shown, shapes=dict.fromkeys(range(0, count, 2), (1024, 16, 16))))


@pytest.mark.parametrize(
    "shown",
    [
        genome([node(name, [0]) for name in range(1, 16)] + [node(16, list(range(16)))], 16),
        genome([node(name, list(range(name))) for name in range(1, 17)], 16),
        random_genome(40, 3, 0.05),
        random_genome(64, 4, 0.02),
        *(to_json(named(name)) for name in PRESETS),
    ],
)
def test_ugly_graphs_and_those_made_by_hand_are_clear(shown: dict) -> None:
    assert_clear(shown, drawn(shown, title="A rather long title " * 9, note="Words and words. " * 20))


def test_rows_are_set_apart_for_lines_that_go_far_aside_while_a_page_holds_them() -> None:
    def least_gap(shown: dict) -> float:
        tops, bottoms = np.transpose([(top, bottom) for _, top, _, bottom in boxes(drawn(shown)).values()])
        rows = np.unique(tops)
        return min(low - bottoms[bottoms < low].max() for low in rows[1:])

    chain = [node(name, [name - 1]) for name in range(1, 17)]
    assert least_gap(genome(chain[:3], 3)) == pytest.approx(0.21)
    wide = genome([*(node(name, [0]) for name in range(1, 5)), node(5, [1, 2, 3, 4])], 5)
    far = boxes(drawn(wide))
    assert far["1"][1] - far["0"][3] > 0.26
    assert drawn(genome(chain, 16)).get_figheight() < 9
    assert least_gap(genome([node(name, list(range(name))) for name in range(1, 17)], 16)) > 0.14


def test_kinds_that_are_not_known_are_written_as_they_are_and_fit() -> None:
    shown = genome(
        [node(1, [0], op="a-kind-of-convolution-that-is-yet-to-come", activation="one-more-of-these-things")], 1
    )
    shown["stem"]["kind"], shown["head"]["pool"] = "conv9", "attention"
    figure = drawn(shown)
    words = [text.get_text() for text in figure.axes[0].texts]
    assert {"stem: conv9 32", "head: attention"} <= set(words)
    assert any(word.startswith("a-kind-of") and "…" in word and word.endswith("64") for word in words)
    assert_clear(shown, figure)


def test_what_is_drawn_is_what_the_genome_decodes_to() -> None:
    shown = random_genome(16, 7, 0.1)
    shown["output"] = 11
    assert set(boxes(drawn(shown))) == {"0", "-1", *(str(each.id) for each in active_nodes(from_json(shown)))}


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_equal_genomes_give_equal_bytes_without_a_date(tmp_path: Path, kind: str, monkeypatch) -> None:
    first = draw(tmp_path / f"a.{kind}").read_bytes()
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    other_order = {**SMALL, "nodes": [{**each, "inputs": each["inputs"][::-1]} for each in SMALL["nodes"][::-1]]}
    with matplotlib.rc_context({"font.size": 20, "svg.hashsalt": None, "patch.linewidth": 9}):
        assert first == draw(tmp_path / f"b.{kind}", other_order).read_bytes()
    assert not re.search(rb"(?i)creationdate|<dc:date|producer|matplotlib v|\d\d:\d\d:\d\d", first)
    assert first != draw(tmp_path / f"c.{kind}", {**SMALL, "output": 9}).read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{name}.{kind}" for name in "abc"]


def test_nothing_is_cut_off(tmp_path: Path) -> None:
    pixels = np.asarray(Image.open(draw(tmp_path / "f.png", title="$title_{$")).convert("L"))
    assert pixels.shape[1] < 7 * 300
    assert (pixels[[0, -1]] == 255).all()
    assert (pixels[:, [0, -1]] == 255).all()
    assert (pixels < 60).mean() > 0.01


def inputs_of(shown: dict) -> dict[int, tuple[int, ...]]:
    return {0: ()} | {each["id"]: tuple(each["inputs"]) for each in shown["nodes"]}


def ways(links: dict, x: dict) -> float:
    """Horizontal ways of all links, those between boxes three times."""
    return sum((3 if a.is_box and b.is_box else 1) * abs(x[a] - x[b] - aside) for (a, b), aside in links.items())


@pytest.mark.parametrize("seed", range(6))
def test_places_are_nearly_those_of_a_linear_programme(seed: int) -> None:
    from scipy.optimize import linprog

    sizes = replace(SIZES, landing=0.5)
    layout = arranged(inputs_of(random_genome(9, seed, 0.15)), sizes)
    items, links = list(layout.x), list(layout.links)
    total = len(items) + len(links)
    rules, most = [], []
    for row in layout.rows:
        for left, right in itertools.pairwise(row):
            rules.append(np.zeros(total))
            rules[-1][[items.index(left), items.index(right)]] = 1, -1
            most.append(-sizes.step(left, right))
    for number, (a, b) in enumerate(links):
        for sign in (1, -1):
            rules.append(np.zeros(total))
            rules[-1][[items.index(a), items.index(b), len(items) + number]] = sign, -sign, -1
            most.append(sign * layout.links[a, b])
    upright = []
    for a, b in links:  # what the layout made one block is one block
        if not a.is_box and not b.is_box and layout.x[a] == layout.x[b]:
            upright.append(np.zeros(total))
            upright[-1][[items.index(a), items.index(b)]] = 1, -1
    costs = [0.0] * len(items) + [3.0 if a.is_box and b.is_box else 1.0 for a, b in links]
    free = [(None, None)] * len(items) + [(0, None)] * len(links)
    equal = {"A_eq": np.array(upright), "b_eq": np.zeros(len(upright))} if upright else {}
    best = linprog(costs, np.array(rules), most, bounds=free, **equal)
    assert ways(layout.links, layout.x) <= 1.05 * best.fun + 0.05


def test_lanes_are_upright_and_chains_straight() -> None:
    layout = arranged({0: (), 1: (0,), 2: (1,), 3: (2,), 4: (3, 0), 5: (4,)}, SIZES)
    lanes = [item for item in layout.x if not item.is_box]
    assert lanes == [Item(0, row, False) for row in (1, 2, 3)]
    assert len({layout.x[lane] for lane in lanes}) == 1
    chain = [layout.x[Item(vertex, vertex, True)] for vertex in range(6)]
    assert np.ptp(chain) <= 0.06  # what a tab sets aside
    assert layout.width == pytest.approx(1.4 + 0.13 + 0.07, abs=0.06)


def test_rows_hold_few_boxes_and_are_few() -> None:
    wide = arranged({0: (), **dict.fromkeys(range(1, 10), (0,)), 10: tuple(range(1, 10))}, SIZES)
    assert max(sum(item.is_box for item in row) for row in wide.rows) <= 4
    assert wide.width <= SIZES.limit + 1e-6
    late = arranged({0: (), 1: (0,), 2: (1,), 3: (2,), 4: (0,), 5: (0, 3, 4)}, SIZES)
    assert sum(not item.is_box for item in late.x) == 3  # those of 0; 4 stands in the last row that it can
    shallow = inputs_of(random_genome(16, 12, 0.03))  # of five rows; one box in each would make nine
    assert len(arranged(shallow, SIZES).rows) == 5


def test_links_cross_hardly_more_than_they_must() -> None:
    layouts = [arranged(inputs_of(random_genome(8, seed, 0.2)), SIZES) for seed in range(10)]
    ours, best = np.transpose([crossings_and_fewest(layout) for layout in layouts if max(map(len, layout.rows)) < 6])
    assert len(ours) >= 8
    assert best.sum() > 5
    assert ours.sum() <= best.sum() + 2


def crossings_and_fewest(layout: Layout) -> tuple[int, int]:
    """Of all orders, found row by row: the fewest crossings so far, for each order of the row."""
    below: dict[Item, list[Item]] = {}
    for upper, lower in layout.links:
        below.setdefault(upper, []).append(lower)

    def crossings(upper: tuple, lower: tuple) -> int:
        links = [(upper.index(a), lower.index(b)) for a in upper for b in below.get(a, [])]
        return sum((a - c) * (b - d) < 0 for (a, b), (c, d) in itertools.combinations(links, 2))

    fewest = dict.fromkeys(itertools.permutations(layout.rows[0]), 0)
    for row in layout.rows[1:]:
        fewest = {
            order: min(count + crossings(before, order) for before, count in fewest.items())
            for order in itertools.permutations(row)
        }
    ours = sum(crossings(tuple(upper), tuple(lower)) for upper, lower in itertools.pairwise(layout.rows))
    return ours, min(fewest.values())


def lane(vertex: int, row: int) -> Item:
    return Item(vertex, row, False)


def test_lanes_bend_only_where_they_must() -> None:
    wall = Item(9, 2, True)
    rows = [[lane(0, 0), lane(1, 0)], [lane(0, 1), lane(1, 1)], [lane(1, 2), lane(0, 2), wall], [lane(0, 3)]]
    links = [(lane(v, row), lane(v, row + 1)) for v, row in ((0, 0), (1, 0), (0, 1), (1, 1), (0, 2))]
    blocks = blocked(rows, links, SIZES)
    assert blocks.bends == 1  # the shorter of the two that cross
    assert len({blocks.of[lane(0, row)] for row in range(4)}) == 1
    assert len({blocks.of[lane(1, row)] for row in range(3)}) == 2
    rows = [[Item(7, 0, True), lane(0, 0)], [lane(0, 1)], [lane(0, 2)], [lane(0, 3), Item(8, 3, True)]]
    links = [(lane(0, row), lane(0, row + 1)) for row in range(3)]
    assert blocked(rows, links, SIZES).bends == 0
    narrow = replace(SIZES, limit=2.0)  # no room for two boxes with an upright lane between them
    assert blocked(rows, links, narrow).bends == 1


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 12), st.randoms(use_true_random=False))
def test_any_wishes_are_moved_until_all_distances_are_kept(seed: int, count: int, random) -> None:
    layout = arranged(inputs_of(random_genome(count, seed, 0.1)), SIZES)
    blocks = blocked(layout.rows, layout.links, SIZES)
    x = blocks.kept(np.array([random.uniform(-5, 12) for _ in blocks.least]))
    for row in layout.rows:
        for left, right in itertools.pairwise(row):
            assert x[blocks.of[right]] - x[blocks.of[left]] >= SIZES.step(left, right) - 1e-9
    assert (x >= min(SIZES.lane, SIZES.box) / 2 - 1e-9).all()
    assert (x <= SIZES.limit - SIZES.lane / 2 + 1e-4).all()


@pytest.mark.parametrize(
    ("shown", "message"),
    [
        (genome([node(1, [2]), node(2, [1])], 2), "cycle"),
        (genome([node(1, [4])], 1), "no node 4"),
        (genome([node(1, [0])], 3), "no node 3"),
        (genome([node(1, [])], 1), "no node 1, or it has no input"),
        (genome([node(1, [0]), node(1, [0])], 1), "not all different"),
        (genome([node(0, [0])], 0), "above 0"),
    ],
)
def test_what_cannot_be_drawn_is_said(tmp_path: Path, shown: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw(tmp_path / "f.png", shown)
    assert not list(tmp_path.iterdir())


def test_bad_paths_are_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\.png, \.svg or \.pdf"):
        draw(tmp_path / "f.gif")
    with pytest.raises(InputError, match="cannot write"):
        draw(tmp_path / "missing" / "f.png")
