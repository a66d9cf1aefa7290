"""The front: points, steps, bars, labels and counts are those of the data, and equal input gives equal bytes."""

import contextlib
import itertools
import re
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image

from advkit.figures import canvas as canvas_module
from advkit.figures import front
from advkit.figures.front import Group, Point
from advkit.figures.points import STYLES, step_line
from advkit.files.errors import InputError

FRONT = [Point(0.6, 0.1), Point(0.8, 0.3, label="E"), Point(0.7, 0.2), Point(0.65, 0.25), Point(None, 0.5)]
NAMED = [Point(0.7, 0.4, (0.68, 0.72), (0.35, 0.46), "R′"), Point(0.69, 0.05, label="7×7 stem, w/ penalty")]


def groups() -> list[Group]:
    rng = np.random.default_rng(0)
    cloud = [Point(float(x), float(y)) for x, y in rng.uniform((0.5, 0.3), (0.8, 0.9), (40, 2))]
    return [
        Group("candidates", [*cloud, Point(0.5, None), Point(None, None)], "candidates"),
        Group("random", [Point(x=p.x, y=p.y + 0.05) for p in cloud], "random"),
        Group("front", FRONT, "front"),
        Group("named", NAMED, "reference"),
        Group("none", [], "control"),
    ]


@pytest.fixture
def figures(monkeypatch) -> list:
    """The figures that are drawn."""
    caught = []

    @contextlib.contextmanager
    def spy(*args):
        with canvas_module.canvas(*args) as figure:
            yield figure
            caught.append(figure)

    monkeypatch.setattr(front, "canvas", spy)
    return caught


def draw(path: Path, shown: list[Group] | None = None, **more) -> Path:
    front.draw(path, groups() if shown is None else shown, **{"title": "Evolution", "floor": 0.6, **more})
    return path


def lines(figure, **look) -> list[list[tuple[float, float]]]:
    """Corners of the drawn lines with that look."""
    drawn = [
        line for line in figure.axes[0].get_lines() if all(getattr(line, f"get_{k}")() == v for k, v in look.items())
    ]
    return [[(float(x), float(y)) for x, y in np.round(line.get_xydata(), 6)] for line in drawn]


def test_every_point_with_both_values_is_drawn_where_it_belongs(figures: list, tmp_path: Path) -> None:
    draw(tmp_path / "f.png")
    drawn = figures[0].axes[0].collections
    assert len(drawn) == 5
    plot = figures[0].axes[0]
    low, high = np.transpose([plot.get_xlim(), plot.get_ylim()])
    for group, dots in zip(groups(), drawn, strict=True):
        wanted = [(100 * p.x, 100 * p.y) for p in group.points if p.x is not None and p.y is not None]
        np.testing.assert_allclose(dots.get_offsets(), np.reshape(wanted, (-1, 2)))
        assert all(((low < place) & (place < high)).all() for place in wanted)
    assert [text.get_text() for text in plot.texts] == ["7×7 stem, w/ penalty", "R′", "E"]
    assert (dots.get_sizes() == STYLES["control"]["s"]).all()


def test_steps_bars_and_floor_are_those_of_the_data(figures: list, tmp_path: Path) -> None:
    draw(tmp_path / "f.png")
    assert lines(figures[0], color="#0072b2", linewidth=1.0) == [[(60, 10), (60, 20), (70, 20), (70, 30), (80, 30)]]
    bars = lines(figures[0], color="black", linewidth=0.6)
    assert sorted(bars) == [[(68, 40), (72, 40)], [(70, 35), (70, 46)]]
    assert lines(figures[0], color="#404040") == [[(60, 0), (60, 1)]]
    draw(tmp_path / "n.png", floor=None)
    assert lines(figures[1], color="#404040") == []


def test_steps_are_the_least_transfer_at_that_accuracy() -> None:
    assert step_line([]) == []
    assert step_line([(1, 1)]) == [(1, 1)]
    assert step_line([(1, 1), (1, 1), (1, 2), (0, 1)]) == [(1, 1)]
    assert step_line([(1, 0), (2, 5)]) == [(1, 0), (1, 5), (2, 5)]
    rng = np.random.default_rng(2)
    points = [tuple(place) for place in rng.random((50, 2))]
    corners = step_line(points)
    for x in rng.random(200):
        offered = [y for a, y in points if a >= x]
        drawn = [y for a, y in corners[::2] if a >= x]
        assert min(offered, default=None) == (drawn[0] if drawn else None)


def texts(monkeypatch, tmp_path: Path, shown: list[Group] | None = None, **more) -> list[str]:
    """What is written into the figure: an SVG with its letters left as text."""
    monkeypatch.setitem(canvas_module._SETTINGS, "svg.fonttype", "none")
    return re.findall(r"<text[^>]*>([^<]*)</text>", draw(tmp_path / "t.svg", shown, **more).read_text())


def test_names_counts_and_the_better_direction_are_written(monkeypatch, tmp_path: Path) -> None:
    axes = ("accuracy", "transfer")
    words = texts(monkeypatch, tmp_path, axes=axes, note="PGD-20 at 8/255; costs $5 and $6.")
    written = ("Evolution", "accuracy, %   (better →)", "transfer, %   (← better)", "accuracy floor, 60.0 %", "named")
    for word in written:
        assert word in words, word
    assert "none" not in words  # an empty group needs no key
    note = " ".join(words)
    for part in (
        "costs $5 and $6. Points: candidates 40 (and 2 without a value, not drawn); random 40;",
        "front 4 (and 1 without a value, not drawn); named 2; none 0.",
        "Bars: 95 % intervals. Steps: the least transfer at no less than that accuracy.",
    ):
        assert part in note
    odd = Group(r"$\no_{$", [Point(0.5, 0.5, label="$^$")], "front")
    assert r"$\no_{$" in texts(monkeypatch, tmp_path, [odd], title=r"$\nomath{$", axes=axes)
    plain = " ".join(texts(monkeypatch, tmp_path, [Group("one", [Point(0.5, 0.5)], "front")], floor=None, axes=axes))
    assert "Points: one 1." in plain
    for absent in ("Bars", "Steps", "floor", "without"):
        assert absent not in plain


@pytest.mark.parametrize("kind", ["png", "svg", pytest.param("pdf", marks=pytest.mark.slow)])
def test_equal_input_gives_equal_bytes_without_a_date(tmp_path: Path, kind: str, monkeypatch) -> None:
    first = draw(tmp_path / f"a.{kind}").read_bytes()
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    with matplotlib.rc_context({"font.size": 20, "svg.hashsalt": None, "lines.linewidth": 9, "legend.fontsize": 20}):
        assert first == draw(tmp_path / f"b.{kind}").read_bytes()
    assert not re.search(rb"(?i)creationdate|<dc:date|producer|matplotlib v|\d\d:\d\d:\d\d", first)
    moved = groups()
    moved[3] = Group("named", [Point(0.7, 0.41, label="R′")], "reference")
    assert first != draw(tmp_path / f"c.{kind}", moved).read_bytes()


@pytest.mark.parametrize(
    "shown",
    [
        [Group("one", [Point(1.0, 0.0, label="E")], "front")],
        [Group("ends", [Point(0.0, 1.0, label="a"), Point(1.0, 0.0, (0.99, 1.0), (0.0, 0.01), "b")], "control")],
        [Group("a group with a very long name, longer than the key" * 2, [Point(0.5, 0.5)] * 200, "random")],
        [Group("long", [Point(0.5, 0.5, label="x" * 90), Point(0.5, 0.5, label="a b " * 20)], "reference")],
    ],
)
def test_any_data_is_one_column_wide_with_nothing_cut_off(tmp_path: Path, shown: list[Group]) -> None:
    pixels = np.asarray(Image.open(draw(tmp_path / "f.png", shown, title="A long title " * 9)).convert("L"))
    assert 3.25 * 300 < pixels.shape[1] < 3.5 * 300
    assert (pixels[[0, -1]] == 255).all()
    assert (pixels[:, [0, -1]] == 255).all()
    assert (pixels < 100).any()


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2, 3))])
@pytest.mark.parametrize("spread", [0.02, 0.08, 0.2])
def test_labels_hide_neither_each_other_nor_a_labelled_point_nor_leave_the_frame(
    figures: list, tmp_path: Path, seed: int, spread: float
) -> None:
    places = np.random.default_rng(seed).normal(0.5, spread, (9, 2)).clip(0.01, 0.99)
    named = [Point(float(x), float(y), label=f"network {i}") for i, (x, y) in enumerate(places)]
    draw(tmp_path / "f.png", [Group("named", [*named, Point(0.0, 0.0), Point(1.0, 1.0)], "reference")])
    plot = figures[0].axes[0]
    points = {f"network {i}": plot.transData.transform(100 * place) for i, place in enumerate(places)}
    figures[0].canvas.draw()  # in its own frame, not that of the file, which is cut to what is drawn
    boxes = {text.get_text(): Text.get_window_extent(text) for text in plot.texts}
    assert sorted(boxes) == sorted(points)
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes.values(), 2))
    frame = plot.get_window_extent()
    for text in plot.texts:
        box, place = boxes[text.get_text()], points[text.get_text()]
        assert frame.x0 <= box.x0 < box.x1 <= frame.x1
        assert frame.y0 <= box.y0 < box.y1 <= frame.y1
        assert not any(box.contains(*other) for other in points.values())
        near = np.clip(place, (box.x0, box.y0), (box.x1, box.y1))
        assert np.hypot(*(near - place)) * 72 / 300 < 7 or text.arrow_patch.get_visible()  # points


def test_a_label_alone_stands_right_above_its_point_and_at_the_edge_to_the_left(figures: list, tmp_path: Path) -> None:
    shown = [Point(0.2, 0.5, label="first"), Point(1.0, 0.9, label="a long name"), Point(0.0, 0.0)]
    draw(tmp_path / "f.png", [Group("g", shown, "control")], floor=None)
    plot = figures[0].axes[0]
    sides = {text.get_text(): (text.get_ha(), text.get_va()) for text in plot.texts}
    assert sides == {"first": ("left", "bottom"), "a long name": ("right", "bottom")}
    assert not any(text.arrow_patch.get_visible() for text in plot.texts)


@pytest.mark.parametrize(
    ("shown", "more", "message"),
    [
        ([], {}, "nothing to draw"),
        ([Group("g", [Point(None, 0.5)], "front")], {}, "nothing to draw: no point has both values"),
        ([Group("g", [Point(0.5, 0.5)], "stars")], {}, "g: style stars is none of candidates, random, front"),
        ([Group("g", [Point(50.0, 0.5)], "front")], {}, r"value 50.0 is outside \[0, 1\]"),
        ([Group("g", [Point(0.5, float("nan"))], "front")], {}, "value nan is outside"),
        ([Group("g", [Point(0.5, 0.5, y_interval=(0.4, 1.1))], "front")], {}, "value 1.1 is outside"),
        ([Group("g", [Point(0.5, 0.5, (0.6, 0.4))], "front")], {}, r"interval \(0.6, 0.4\) ends before it begins"),
        (None, {"floor": 60}, "value 60 is outside"),
    ],
)
def test_what_cannot_be_drawn_is_said(tmp_path: Path, shown: list[Group] | None, more: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw(tmp_path / "f.png", shown, **more)
    assert not list(tmp_path.iterdir())


def test_bad_paths_are_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\.png, \.svg or \.pdf"):
        draw(tmp_path / "f.gif")
    with pytest.raises(InputError, match="cannot write"):
        draw(tmp_path / "missing" / "f.png")
