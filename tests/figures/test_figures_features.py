"""The figure of features: every picture at its place, with its own numbers beneath."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from advkit.figures import canvas, features
from advkit.figures.feature_images import Made
from advkit.figures.features import Picture
from advkit.figures.grid import Grid
from advkit.files.errors import InputError
from advkit.tasks.box_marks import BoxMark

KINDS = ("inversion", "maximisation")
IMAGES = list(torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)))
NOTES = {"inversion": "outputs of layer3", "maximisation": "the logit raised", "all": "7 steps"}
NAMES = ["runs/normal.safetensors", "runs/robust.safetensors"]


def pictures() -> list[Picture]:
    """Of one colour each, which tells kind, model and image."""
    found = []
    for k, kind in enumerate(KINDS):
        for model in range(2):
            for row in range(2):
                picture = torch.tensor([k, model, row]).view(1, 3, 1, 1).float().expand(1, 3, 8, 8)
                values = [float(100 * k + 10 * model + row), 50.0, -0.5 - row]
                found.append(Picture(kind, model, row, Made(picture, values), 0.5, [True, False]))
    return found


def words(path: Path, monkeypatch: pytest.MonkeyPatch, shown: list[Picture], **more: object) -> list[str]:
    monkeypatch.setitem(canvas._SETTINGS, "svg.fonttype", "none")
    features.draw(path, IMAGES, ["cat (3)", "dog (9)"], NAMES, shown, notes=NOTES, **more)  # type: ignore[arg-type]
    return re.findall(r"<text[^>]*>([^<]*)</text>", path.read_text())


def centres(path: Path, colour: Tensor) -> np.ndarray:
    """Where ``colour`` is: mean (y, x) of its pixels, in parts of the figure."""
    picture = np.asarray(Image.open(path).convert("RGB")).astype(int)
    there = np.abs(picture - 255 * colour.numpy()).max(axis=-1) <= 1
    return np.argwhere(there).mean(axis=0) / picture.shape[:2]


def test_the_numbers_are_those_of_the_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = words(tmp_path / "f.svg", monkeypatch, pictures())
    for k, word in enumerate(("loss", "score")):
        for model in range(2):
            for row in range(2):
                assert text.count(f"{word} {100 * k + 10 * model + row} → −{0.5 + row:g}") == 1
    assert {"cat (3)", "dog (9)", "A  normal", "B  robust", "Rebuilt from its features", "Score maximised"} <= set(text)
    assert [line for line in text if line.startswith("7 steps")] == ["7 steps."]


def test_every_picture_is_at_the_place_of_its_kind_model_and_image(tmp_path: Path) -> None:
    path = tmp_path / "f.png"
    features.draw(path, IMAGES, ["cat", "dog"], NAMES, pictures()[::-1], notes=NOTES)
    left = {}
    for k, model in ((0, 0), (0, 1), (1, 0), (1, 1)):
        ups = []
        for row in range(2):
            colour = torch.tensor([k, model, row]).float()
            if not colour.any() or colour.all():
                continue  # black is the text's, white the paper's
            y, x = centres(path, colour)
            ups.append((row, y))
            left.setdefault((k, model), x)
        assert ups == sorted(ups)
        assert [y for _, y in ups] == sorted(y for _, y in ups)
    positions = [left[key] for key in sorted(left)]
    assert positions == sorted(positions)
    assert len(set(np.round(positions, 3))) == 4


def test_boxes_are_drawn_and_an_image_without_an_object_has_no_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects = [[BoxMark((1.0, 1.0, 6.0, 6.0), 0)], [BoxMark((1.0, 1.0, 6.0, 6.0), 0, difficult=True)]]
    text = words(tmp_path / "f.svg", monkeypatch, pictures(), objects=objects, class_names=("cow",))
    assert text.count("no object") == 2, "one for each model, of maximisation alone"
    assert sum(word.startswith("loss") for word in text) == 4
    assert sum(word.startswith("score") for word in text) == 2
    assert "cow" in text
    assert any("dashed" in word for word in text)


def test_a_maximised_picture_is_drawn_from_black_to_white_and_its_range_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grey = torch.linspace(0.4, 0.6, 64).view(1, 1, 8, 8).expand(1, 3, 8, 8)
    shown = [Picture(kind, 0, 0, Made(grey, [1.0, 2.0]), 0.5, [True]) for kind in KINDS]
    drawn: list[Tensor] = []
    own = Grid.picture

    def kept(self: Grid, figure: object, left: float, row: int, image: Tensor) -> object:
        drawn.append(image)
        return own(self, figure, left, row, image)  # type: ignore[arg-type]

    monkeypatch.setattr(Grid, "picture", kept)
    monkeypatch.setitem(canvas._SETTINGS, "svg.fonttype", "none")
    features.draw(tmp_path / "f.svg", IMAGES[:1], ["cat"], NAMES[:1], shown, notes=NOTES)
    text = re.findall(r"<text[^>]*>([^<]*)</text>", (tmp_path / "f.svg").read_text())
    image, rebuilt, raised = drawn
    assert torch.equal(image, IMAGES[0])
    assert torch.equal(rebuilt, grey[0])
    assert (float(raised.min()), float(raised.max())) == (0.0, 1.0)
    assert raised == pytest.approx((grey[0] - 0.4) / 0.2, abs=1e-5)
    assert text.count("in [0.40, 0.60]") == 1
    assert any("drawn stretched" in line for line in text)
    flat, bounds = features.stretched(torch.full((3, 2, 2), 0.3))
    assert float(flat.max()) == bounds[0] == bounds[1] == pytest.approx(0.3)


def test_equal_input_gives_equal_bytes(tmp_path: Path) -> None:
    for suffix in ("png", "svg"):
        for name in "ab":
            features.draw(tmp_path / f"{name}.{suffix}", IMAGES, ["c", "d"], NAMES, pictures(), notes=NOTES)
        assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()


def test_what_does_not_fit_is_not_drawn(tmp_path: Path) -> None:
    path = tmp_path / "f.png"
    for wrong in (pictures()[1:], [*pictures(), pictures()[0]], []):
        with pytest.raises(ValueError, match="one of each"):
            features.draw(path, IMAGES, ["c", "d"], NAMES, wrong, notes=NOTES)
    with pytest.raises(InputError, match="suffix"):
        features.draw(tmp_path / "f.gif", IMAGES, ["c", "d"], NAMES, pictures(), notes=NOTES)
    assert list(tmp_path.iterdir()) == []
