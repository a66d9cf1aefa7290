"""Domains in a plane, and their ratios: what is drawn where, and the same bytes each time."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from advkit.figures.canvas import canvas
from advkit.figures.domains import PlottedDomain, draw, principal_plane, spread
from advkit.figures.names import without_common_start
from advkit.files.errors import InputError


def clouds(count: int, n: int = 12, d: int = 6) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [k + torch.randn(n, d, generator=generator, dtype=torch.float64) for k in range(count)]


def domains(count: int) -> list[PlottedDomain]:
    ratios = [1.0 + 0.3 * k for k in range(count)]
    return [
        PlottedDomain(f"style_{k} $x$", r, (r - 0.1, r + 0.2), c)
        for k, (r, c) in enumerate(zip(ratios, clouds(count), strict=True))
    ]


def test_the_plane_is_that_of_the_largest_variance() -> None:
    """Points on a line, and a little beside it, in five dimensions."""
    along = torch.linspace(-1, 1, 20).double()
    direction, beside = torch.eye(5).double()[2], torch.eye(5).double()[4]
    rows = 10 * along[:, None] * direction + (-1.0) ** torch.arange(20)[:, None] * beside + 7
    (first, second), shares = principal_plane([rows[:8], rows[8:]])
    flat = torch.cat([first, second])
    assert flat[:, 0].diff().min() > 0, "turned so that the largest entry of the axis is positive"
    # Both directions are a little correlated, so that the axes are a little turned.
    assert flat[:, 0] == pytest.approx(10 * along, abs=0.2)
    assert flat[:, 1].abs() == pytest.approx(torch.ones(20), abs=0.2)
    assert sum(shares) == pytest.approx(1.0)
    assert shares[0] > 0.95


def test_one_feature_has_one_axis() -> None:
    (points,), shares = principal_plane([torch.arange(6).double()[:, None]])
    assert points[:, 1].abs().max() == 0
    assert shares == (1.0, 0.0)


@pytest.mark.parametrize(("count", "suffix"), [(1, "png"), (42, "svg")])
def test_equal_figures_have_equal_bytes(count: int, suffix: str, tmp_path: Path) -> None:
    files = [tmp_path / f"{name}.{suffix}" for name in "ab"]
    for file in files:
        draw(file, "photo", clouds(1)[0], domains(count), axis="ratio", note="A note.")
    assert files[0].read_bytes() == files[1].read_bytes()
    if suffix == "png":
        image = Image.open(files[0])
        assert image.width > 1500
        assert len(image.convert("RGB").getcolors(1 << 20) or []) > 20


def test_what_is_drawn_follows_the_domains(tmp_path: Path) -> None:
    near, far = tmp_path / "near.svg", tmp_path / "far.svg"
    few = domains(2)
    draw(near, "photo", clouds(1)[0], few, axis="ratio")
    moved = [few[0], PlottedDomain(few[1].name, 3.0, (2.0, 4.0), few[1].features)]
    draw(far, "photo", clouds(1)[0], moved, axis="ratio")
    assert near.read_bytes() != far.read_bytes()
    draw(near, "photo", clouds(1)[0], [PlottedDomain("none", None, None, clouds(2)[1])], axis="ratio")


LONG = [
    *("analyticalrealism", "neweuropeanpainting", "northernrenaissance", "artnouveaumodern", "mechanisticcubism"),
    *("ukiyoe", "cartoon", "internationalgothic", "protorenaissance", "fantasticrealism"),
]


@pytest.mark.parametrize(
    ("count", "name"), [(1, "W" * 30 + "{}"), (3, "{}"), (10, "people-art#train:{}_*"), (42, "people-art#train:{}_*")]
)
def test_names_lie_between_the_plane_and_the_ratios(
    count: int, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures: list[Figure] = []

    @contextlib.contextmanager
    def kept(path: Path, width: float, height: float) -> Iterator[Figure]:
        with canvas(path, width, height) as figure:
            yield figure
            figures.append(figure)

    monkeypatch.setattr("advkit.figures.domains.canvas", kept)
    named = [
        PlottedDomain(name.format(f"{LONG[k % 10]}{k}"), one.ratio, one.interval, one.features)
        for k, one in enumerate(domains(count))
    ]
    draw(tmp_path / "x.png", "people-photo", clouds(1)[0], named, axis="ratio", note="A note.")
    (figure,) = figures
    *planes, bars = figure.axes
    right = max(plane.get_window_extent().x1 for plane in planes)
    labels = bars.get_yticklabels()
    assert len({label.get_text() for label in labels}) == count
    assert min(label.get_window_extent().x0 for label in labels) > right
    assert bars.get_window_extent().width > 1.5 * figure.dpi, "room for the ratios"
    heights = sorted((label.get_window_extent().y0, label.get_window_extent().y1) for label in labels)
    assert all(above[0] >= below[1] for below, above in itertools.pairwise(heights))
    if count > 6:
        numbers = [text.get_text() for text in planes[1].texts]
        assert numbers == [str(rank + 1) for rank in range(count)]
        assert {label.get_text().split()[-1] for label in labels} == set(numbers)
        places = [text.get_window_extent() for text in planes[1].texts]
        centres = torch.tensor([[(box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2] for box in places])
        assert float(torch.pdist(centres).min()) > 0.1 * figure.dpi


def test_what_all_names_begin_with_is_left_out_up_to_punctuation() -> None:
    assert without_common_start(["art#all:rococo_*", "art#all:realism_*"]) == ["…rococo_*", "…realism_*"]
    assert without_common_start(["photo", "photograph"]) == ["photo", "photograph"]
    assert without_common_start(["a/b", "a/b"]) == ["…b", "…b"]
    assert without_common_start(["a/b"]) == ["a/b"]


def test_points_are_moved_apart_and_no_further() -> None:
    points = torch.tensor([[0.0, 0.0], [0.0, 0.0], [0.02, 0.0], [5.0, 5.0]], dtype=torch.float64)
    found = spread(points, 0.1)
    assert torch.pdist(found).min() > 0.0999
    assert torch.equal(found[0], points[0])
    assert (found - points).norm(dim=1)[:3].max() < 0.15
    assert torch.allclose(found[3], points[3], atol=1e-3)


def test_other_suffixes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="suffix"):
        draw(tmp_path / "x.txt", "photo", clouds(1)[0], domains(1), axis="ratio")
    assert list(tmp_path.iterdir()) == []
