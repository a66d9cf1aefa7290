"""Boxes over pictures: their names stay inside and off each other; images of many sizes stand in rows of their own."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from advkit.data.boxes import stacked
from advkit.figures import attention, canvas
from advkit.figures.attention import Panel
from advkit.figures.boxes import FALSE_COLOUR, RIGHT_COLOUR, TRUE_COLOUR, label_places
from advkit.tasks.detection import DETECTION

NAMES = ("cat", "dog")
TARGETS = stacked(
    [
        torch.tensor([[10.0, 10, 40, 40, 0, 0], [50, 10, 60, 30, 1, 0]]),
        torch.tensor([[5.0, 5, 15, 15, 1, 0], [0, 0, 30, 8, 0, 1]]),
        torch.zeros(0, 6),
    ]
)


def predictions() -> torch.Tensor:
    rows = torch.zeros(3, 4, 6)
    rows[..., 5] = -1.0
    rows[0, :3] = torch.tensor([[11.0, 10, 40, 40, 0.9, 0], [50, 10, 60, 30, 0.6, 0], [50, 10, 60, 30, 0.4, 1]])
    rows[1, :2] = torch.tensor([[5.0, 5, 15, 15, 0.8, 1], [0, 0, 30, 8, 0.7, 0]])
    return rows


def test_marks_say_what_finds_an_object() -> None:
    """One found, one of the wrong class, one too unsure; a difficult object found is neither asked for nor false."""
    found = DETECTION.found(predictions(), TARGETS)
    told = [[(mark.label, round(mark.score or 0, 1), mark.right) for mark in marks] for marks in found]
    assert told == [[(0, 0.9, True), (0, 0.6, False)], [(1, 0.8, True), (0, 0.7, True)], []]
    assert found[0][0].box == (11, 10, 40, 40)
    true = DETECTION.objects(TARGETS)
    assert [[(mark.label, mark.difficult) for mark in marks] for marks in true] == [
        [(0, False), (1, False)],
        [(1, False), (0, True)],
        [],
    ]
    assert DETECTION.titles(TARGETS, NAMES) == ["2 objects", "1 object", "no object"]
    assert DETECTION.captions(predictions(), TARGETS, NAMES) == ["1 of 2 found, 1 false", "1 of 1 found", "no object"]


@pytest.mark.parametrize("size", [(64, 64), (40, 120)])
def test_names_stay_in_the_picture_and_off_each_other(size: tuple[int, int]) -> None:
    height, width = size
    found = [(0.0, 0, 20, 20), (1, 1, 22, 21), (width - 12, 2, width, 20), (20, height - 10, 50, height)]
    places = label_places(found, ["cat 0.90", "dog 0.80", "cat 0.70", "dog 0.60"], size, 1.6)
    for k, place in enumerate(places):
        assert 0 <= place.left < place.right <= width
        assert 0 <= place.top < place.bottom <= height
        assert all(place.shared(other) == 0 for other in places[:k])


def shown(objects: bool = True, found: bool = True) -> tuple[list[torch.Tensor], dict[str, object]]:
    images = [torch.full((3, 64, 64), 0.5), torch.full((3, 20, 60), 0.2), torch.full((3, 60, 30), 0.8)]
    maps = [torch.rand(image.shape[1:], generator=torch.Generator().manual_seed(0)) for image in images]
    marks = DETECTION.found(predictions(), TARGETS) if found else [[], [], []]
    panel = Panel(
        "m", DETECTION.captions(predictions(), TARGETS, NAMES), [False, True, True], {"saliency": maps}, marks
    )
    more = {"objects": DETECTION.objects(TARGETS) if objects else [[], [], []], "class_names": NAMES}
    return images, {"panels": [panel], **more}


def count(path: Path, colour: str) -> int:
    picture = np.asarray(Image.open(path).convert("RGB")).astype(int)
    wanted = [int(colour[k : k + 2], 16) for k in (1, 3, 5)]
    return int((np.abs(picture - wanted).max(-1) <= 3).sum())


def test_boxes_are_drawn_in_their_colours(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    for objects, found in ((True, True), (True, False), (False, True)):
        images, more = shown(objects, found)
        attention.draw(path, images, ["a", "b", "c"], **more)  # type: ignore[arg-type]
        assert (count(path, TRUE_COLOUR) > 50) == objects
        assert (count(path, RIGHT_COLOUR) > 50) == found
        assert (count(path, FALSE_COLOUR) > 50) == found


def test_names_scores_and_captions_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(canvas._SETTINGS, "svg.fonttype", "none")
    images, more = shown()
    attention.draw(tmp_path / "a.svg", images, ["2 objects (0)", "b", "c"], **more)  # type: ignore[arg-type]
    text = re.findall(r"<text[^>]*>([^<]*)</text>", (tmp_path / "a.svg").read_text())
    assert {"cat 0.90", "cat 0.60", "dog 0.80", "cat 0.70", "Found", "2 objects (0)"} <= set(text)
    assert "dog 0.40" not in text
    assert "✗ 1 of 2 found, 1 false" in text
    assert text.count("cat") == text.count("dog") == 2  # names of true boxes stand in the first column only
