"""The heat map: what is in the picture, equal bytes, and one clear line for what can't be drawn."""

import re
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib import colormaps
from PIL import Image

from advkit.figures import heatmap
from advkit.figures.canvas import text_colour
from advkit.figures.names import display_names
from advkit.files.errors import InputError

ROWS = ["runs/r.safetensors", "runs/r2.safetensors"]
COLUMNS = [*ROWS, "timm/resnet18@pretrained"]
MATRIX = [[1.0, 0.25, 0.5], [0.0, 1.0, None]]
COUNTS = [["80/80", "20/80", "40/80"], ["0/60", "60/60", "0/0"]]


def draw(path: Path, matrix=MATRIX, rows=ROWS, columns=COLUMNS, counts=COUNTS, **more) -> np.ndarray | str:
    heatmap.draw(path, matrix, rows, columns, **{"title": "PGD-10", "label": "T_cond", "counts": counts, **more})
    if path.suffix == ".png":
        return np.asarray(Image.open(path).convert("RGB")).astype(int)
    return path.read_text() if path.suffix == ".svg" else ""


def covered(pixels: np.ndarray, colour: tuple[float, ...]) -> float:
    """Share of the pixels within one level of ``colour``."""
    wanted = np.round(255 * np.asarray(colour[:3]))
    return float((np.abs(pixels - wanted).max(axis=-1) <= 1).mean())


def test_each_value_has_its_colour_and_the_missing_cell_its_hatch(tmp_path: Path) -> None:
    pixels = draw(tmp_path / "m.png")
    assert 700 < pixels.shape[1] < 1500  # about column width at 300 dots per inch
    assert 400 < pixels.shape[0] < 1000
    cell = (0.62 * 300) ** 2 / pixels[..., 0].size
    for value, cells in ((0.0, 1), (0.25, 1), (0.5, 1), (1.0, 2)):
        assert covered(pixels, colormaps["viridis"](value)) > 0.6 * cells * cell, value
    assert covered(pixels, (0x9A / 255,) * 3) > 0.02 * cell  # lines of the hatch
    assert covered(pixels, (0, 0, 0)) > 0.002  # ink of the words
    whole = draw(tmp_path / "w.png", [[1.0, 0.25, 0.5], [0.0, 1.0, 0.75]])
    assert covered(whole, (0x9A / 255,) * 3) < 0.005 * cell


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_equal_input_gives_equal_bytes_without_a_date(tmp_path: Path, kind: str, monkeypatch) -> None:
    draw(tmp_path / f"a.{kind}")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "86400")
    with matplotlib.rc_context({"font.size": 20, "svg.hashsalt": None, "savefig.dpi": 30, "image.cmap": "jet"}):
        draw(tmp_path / f"b.{kind}")
        assert matplotlib.rcParams["font.size"] == 20
    data = (tmp_path / f"a.{kind}").read_bytes()
    assert data == (tmp_path / f"b.{kind}").read_bytes()
    assert len(data) > 5000
    assert not re.search(rb"(?i)creationdate|<dc:date|producer|matplotlib v|\d\d:\d\d:\d\d", data)
    draw(tmp_path / f"c.{kind}", [[1.0, 0.26, 0.5], [0.0, 1.0, None]])
    assert data != (tmp_path / f"c.{kind}").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"{n}.{kind}" for n in "abc"]


def texts(monkeypatch, tmp_path: Path, **more) -> list[str]:
    """What is written into the figure: an SVG with its letters left as text."""
    monkeypatch.setitem(__import__("advkit.figures.canvas").figures.canvas._SETTINGS, "svg.fonttype", "none")
    return re.findall(r"<text[^>]*>([^<]*)</text>", draw(tmp_path / "t.svg", **more))


def test_values_counts_and_axes_are_written(monkeypatch, tmp_path: Path) -> None:
    words = texts(monkeypatch, tmp_path)
    for word in ("25.0 %", "20/80", "0.0 %", "n/a", "0/0", "r2", "PGD-10", "T_cond", "no eligible image"):
        assert word in words, word
    assert words.count("100 %") == 3  # two cells and the scale
    assert "surrogate (attack made on)" in " ".join(words), "broken where the rows are short"
    assert "victim (tried on)" in words
    assert "white box: made on the victim itself" in words
    assert "100.0 %" in texts(monkeypatch, tmp_path, matrix=[[0.9999, 0.25, 0.5], [0.0, 1.0, None]])


def test_keys_appear_only_when_needed(monkeypatch, tmp_path: Path) -> None:
    cosines = [[1.0, -0.25, 0.5], [-0.001, 1.0, 0.1]]
    words = texts(monkeypatch, tmp_path, matrix=cosines, counts=None, white_box=(), limits=(-1, 1), axes=("a", "b"))
    assert {"−0.25", "0.00", "−1.00"} <= set(words)
    assert not [word for word in words if "white box" in word or "eligible" in word or "%" in word]


def test_the_white_box_frame_can_be_moved(tmp_path: Path) -> None:
    by_name = draw(tmp_path / "a.png")
    given = draw(tmp_path / "b.png", white_box={(0, 0), (1, 1)})
    elsewhere = draw(tmp_path / "c.png", white_box={(0, 1), (1, 1)})
    assert np.array_equal(by_name, given)
    assert not np.array_equal(by_name, elsewhere)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 5), (8, 8), (1, 12)])
def test_any_size_is_drawn_without_a_warning(tmp_path: Path, rows: int, columns: int) -> None:
    names = [f"runs/a-rather-long-name-of-an-experiment-{i}-with-seed-{i}.safetensors" for i in range(12)]
    matrix = [[(i + j) / 20 for j in range(columns)] for i in range(rows)]
    counts = [["10000/10000"] * columns] * rows
    pixels = draw(tmp_path / "m.png", matrix, names[:rows], names[:columns], counts)
    assert pixels.shape[0] > rows * 0.62 * 300
    assert pixels.shape[1] > columns * 0.62 * 300
    assert (pixels[[0, -1]] == 255).all()  # nothing is cut off
    assert (pixels[:, [0, -1]] == 255).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"matrix": [[1.0, 0.2, 0.5]]}, "matrix does not have 2 rows of 3"),
        ({"counts": [["1"], ["2"]]}, "counts does not have"),
        ({"matrix": [[1.5, 0, 0], [0, 0, 0]]}, "outside the scale"),
        ({"matrix": [[float("nan"), 0, 0], [0, 0, 0]]}, "outside the scale"),
        ({"matrix": [], "rows": [], "counts": []}, "nothing to draw"),
    ],
)
def test_what_cannot_be_drawn_is_said(tmp_path: Path, change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        draw(tmp_path / "m.png", **change)
    assert not list(tmp_path.iterdir())


def test_bad_paths_are_one_clear_line(tmp_path: Path) -> None:
    for name in ("m.jpg", "m"):
        with pytest.raises(InputError, match=r"\.png, \.svg or \.pdf"):
            draw(tmp_path / name)
    with pytest.raises(InputError, match="cannot write"):
        draw(tmp_path / "missing" / "m.png")


def test_ink_stands_out_on_every_colour() -> None:
    def light(c: tuple[float, ...]) -> float:
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in c[:3]]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05

    for name in ("viridis", "PuOr"):
        for step in range(101):
            colour = colormaps[name](step / 100)
            ink = 1.05 if text_colour(colour) == "white" else 0.05
            assert max(ink, light(colour)) / min(ink, light(colour)) >= 4.5  # WCAG 2.2, level AA


def test_names_are_short_and_still_different() -> None:
    assert display_names(["a/r.safetensors", "b/s.pt"], width=10, lines=1) == ["r", "s"]
    assert display_names(["a/r.safetensors", "b/r.safetensors"], width=30, lines=1) == [
        "a/r.safetensors",
        "b/r.safetensors",
    ]
    long = [f"experiment-{'x' * 40}-{i}-{'y' * 40}" for i in range(3)]
    short = display_names([*long, long[0]], width=12, lines=2)
    assert len(set(short)) == 3
    assert short[3] == short[0]
    assert all("…" in name for name in short)
    assert display_names(["densenet-40-12"], width=9, lines=2) == ["densenet-\n40-12"]
    for name in display_names(["w" * 100, "a_b-c@" * 9], width=7, lines=3):
        assert len(name.split("\n")) <= 3
        assert max(map(len, name.split("\n"))) <= 7
