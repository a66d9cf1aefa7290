"""Domains in a plane, and their ratios: what is drawn where, and the same bytes each time."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from advkit.figures.domains import PlottedDomain, draw, principal_plane
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


@pytest.mark.parametrize("count", [1, 5, 42])
@pytest.mark.parametrize("suffix", ["png", "svg"])
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


def test_other_suffixes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="suffix"):
        draw(tmp_path / "x.txt", "photo", clouds(1)[0], domains(1), axis="ratio")
    assert list(tmp_path.iterdir()) == []
