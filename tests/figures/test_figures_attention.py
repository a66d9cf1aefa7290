"""The attention figure: the numbers are those of the maps, the scale is common, wrong classes are marked."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib import colormaps
from PIL import Image

from advkit.figures import attention, canvas
from advkit.figures.attention import Panel
from advkit.figures.saliency import agreement
from advkit.files.errors import InputError

KINDS = ("saliency", "grad-cam")
IMAGES = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = ["cat", "dog", "ship", "frog"]


def panels(models: int = 3, kinds: tuple[str, ...] = KINDS) -> list[Panel]:
    torch.manual_seed(1)
    return [
        Panel(
            f"runs/model-{m}.safetensors",
            ["cat", "dog", "ship", "bird" if m else "frog"],
            [True, True, True, m == 0],
            {kind: torch.rand(4, 8, 8) for kind in kinds},
        )
        for m in range(models)
    ]


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def covered(picture: np.ndarray, colour: tuple[float, ...]) -> float:
    return float((np.abs(picture - np.round(255 * np.asarray(colour[:3]))).max(axis=-1) <= 1).mean())


def words(path: Path, monkeypatch, *arguments, **more) -> list[str]:
    monkeypatch.setitem(canvas._SETTINGS, "svg.fonttype", "none")
    attention.draw(path, *arguments, **more)
    return re.findall(r"<text[^>]*>([^<]*)</text>", path.read_text())


def test_the_printed_numbers_are_those_of_the_maps(tmp_path: Path, monkeypatch) -> None:
    shown = panels()
    text = words(tmp_path / "a.svg", monkeypatch, IMAGES, LABELS, shown, title="Attention", footnote="16 samples")
    pairs = attention.compare(shown)
    assert [(p.kind, p.first, p.second) for p in pairs] == [(k, *ab) for k in KINDS for ab in ((0, 1), (0, 2), (1, 2))]
    for pair in pairs:
        truth = agreement(shown[pair.first].maps[pair.kind], shown[pair.second].maps[pair.kind])
        assert pair.cosine == truth["cosine"].tolist()
        assert pair.rank_correlation == truth["rank_correlation"].tolist()
        for cosine in pair.cosine:
            assert f"cos {cosine:.2f}" in text
    assert sum(word.startswith("cos ") for word in text) == 4 * 3 * 2
    assert sum(word.startswith("rank ") for word in text) == 4 * 3 * 2
    assert text.count("✗ bird") == 2 * 2  # two models are wrong, in both kinds of map
    assert text.count("cat") == 1 + 2 * 3
    assert "A  model-0" in text
    assert {"Attention", "16 samples", "Grad-CAM", "Saliency (SmoothGrad)"} <= set(text)


def test_maps_of_all_models_share_one_scale(tmp_path: Path) -> None:
    """An even map is drawn in one colour, which another model's peak moves; a mere factor changes nothing."""
    even = torch.ones(4, 8, 8)
    peak = torch.zeros(4, 8, 8)
    peak[:, :2, :2] = 1.0  # 4 of 64 pixels: 16 times an even spread
    names, right = ["cat"] * 4, [True] * 4

    def picture(*maps: torch.Tensor) -> np.ndarray:
        shown = [Panel(f"m{i}", names, right, {"saliency": m}) for i, m in enumerate(maps)]
        attention.draw(tmp_path / "a.png", IMAGES, LABELS, shown)
        return pixels(tmp_path / "a.png")

    both = picture(even, peak)
    cell = (0.94 * 300) ** 2 / both[..., 0].size
    assert covered(both, colormaps["magma"](1 / 16)) > 4 * 0.9 * cell
    assert covered(picture(even, even), colormaps["magma"](1 / 16)) < 0.1 * cell
    assert np.array_equal(both, picture(1e-12 * even, 1e6 * peak))


def test_a_map_of_zeros_is_said_and_has_no_number(tmp_path: Path, monkeypatch) -> None:
    shown = panels(2, ("grad-cam",))
    shown[0].maps["grad-cam"][1] = 0
    text = words(tmp_path / "a.svg", monkeypatch, IMAGES, LABELS, shown)
    assert text.count("all zero") == 1
    assert text.count("cos n/a") == text.count("rank n/a") == 1
    assert math.isnan(attention.compare(shown)[0].cosine[1])


def test_class_names_are_kept_whole(tmp_path: Path, monkeypatch) -> None:
    """A slash in a class name is no directory; the position behind the longest CIFAR-10 name has room."""
    shown = [Panel("m", ["T-shirt/top"] * 4, [True] * 4, {"saliency": torch.rand(4, 8, 8)})]
    text = words(tmp_path / "a.svg", monkeypatch, IMAGES, ["T-shirt/top", "automobile (9999)", "x" * 40, "frog"], shown)
    assert text.count("T-shirt/top") == 1 + 4
    assert "automobile (9999)" in text
    assert any("…" in word and len(word) <= 18 for word in text)


def test_density_has_mean_one() -> None:
    maps = torch.stack([torch.rand(5, 5) * 1e-30, torch.zeros(5, 5)])
    torch.testing.assert_close(attention.density(maps).mean(dim=(1, 2)), torch.tensor([1.0, 0.0]).double())


@pytest.mark.parametrize("kind", ["png", "svg", pytest.param("pdf", marks=pytest.mark.slow)])
def test_equal_input_gives_equal_bytes(tmp_path: Path, kind: str) -> None:
    for name in ("a", "b"):
        attention.draw(tmp_path / f"{name}.{kind}", IMAGES[:2], LABELS[:2], cut(panels(2), 2))
    data = (tmp_path / f"a.{kind}").read_bytes()
    assert data == (tmp_path / f"b.{kind}").read_bytes()
    assert not re.search(rb"(?i)creationdate|<dc:date|producer", data)
    attention.draw(tmp_path / f"c.{kind}", IMAGES[2:], LABELS[:2], cut(panels(2), 2))
    assert data != (tmp_path / f"c.{kind}").read_bytes()


def cut(shown: list[Panel], rows: int) -> list[Panel]:
    return [
        Panel(p.model, p.predictions[:rows], p.correct[:rows], {k: m[:rows] for k, m in p.maps.items()}) for p in shown
    ]


@pytest.mark.parametrize(
    ("models", "kinds"),
    [(1, ("saliency",)), (2, ("grad-cam",)), pytest.param(3, KINDS, marks=pytest.mark.slow), (5, KINDS)],
)
def test_any_number_of_models_fits(tmp_path: Path, models: int, kinds: tuple[str, ...]) -> None:
    grey = IMAGES.mean(1, keepdim=True)
    attention.draw(
        tmp_path / "a.png", grey, LABELS, panels(models, kinds), title="A title " * 12, footnote="words " * 40
    )
    picture = pixels(tmp_path / "a.png")
    cells = 4 * (1 + models * len(kinds))
    inked = (picture < 250).any(axis=-1).mean()
    assert inked > 0.8 * cells * (0.94 * 300) ** 2 / picture[..., 0].size
    wide = (1 + models * len(kinds)) * 0.94 * 300
    assert wide < picture.shape[1] < 1.3 * wide + 100  # words don't widen the figure
    assert (picture[[0, -1]] == 255).all()
    assert (picture[:, [0, -1]] == 255).all()


def test_the_images_are_in_the_picture(tmp_path: Path) -> None:
    images = torch.tensor([0.2, 0.9, 0.4]).view(1, 3, 1, 1).expand(4, 3, 8, 8)
    attention.draw(tmp_path / "a.png", images, LABELS, panels(1))
    picture = pixels(tmp_path / "a.png")
    assert covered(picture, (0.2, 0.9, 0.4)) > 4 * 0.9 * (0.94 * 300) ** 2 / picture[..., 0].size


def test_what_cannot_be_drawn_is_said(tmp_path: Path) -> None:
    def bad(**maps: torch.Tensor) -> list[Panel]:
        return [Panel("m", ["cat"] * 4, [True] * 4, maps)]

    for shown, message in (
        ([], "nothing to draw"),
        (bad(saliency=torch.rand(4, 7, 8)), "don't fit"),
        (bad(saliency=-torch.ones(4, 8, 8)), "negative"),
        (bad(saliency=torch.full((4, 8, 8), math.nan)), "not finite"),
        (panels(1) + panels(1, ("saliency",)), "other kinds"),
        ([Panel("m", ["cat"], [True], {"saliency": torch.rand(4, 8, 8)})], "one prediction"),
    ):
        with pytest.raises(ValueError, match=message):
            attention.draw(tmp_path / "a.png", IMAGES, LABELS, shown)
    with pytest.raises(InputError, match="suffix"):
        attention.draw(tmp_path / "a.bmp", IMAGES, LABELS, panels())
    assert not list(tmp_path.iterdir())
