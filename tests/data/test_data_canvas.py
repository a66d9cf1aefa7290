"""Images of many sizes on one canvas."""

from __future__ import annotations

import torch

from advkit.data.boxes import DIFFICULT, LABEL, is_object, objects, stacked
from advkit.data.canvas import is_pixel, on_canvas, sizes


def test_images_of_many_sizes_come_back_from_their_canvas() -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = [(3, 5), (4, 2), (4, 5), (1, 1)]
    images = [torch.rand(3, *shape, generator=generator) for shape in shapes]
    canvas = on_canvas(images, (4, 5))
    assert canvas.shape == (4, 3, 4, 5)
    assert sizes(canvas).tolist() == [list(shape) for shape in shapes]
    assert is_pixel(canvas).sum((1, 2, 3)).tolist() == [h * w for h, w in shapes]
    for image, place, (h, w) in zip(images, canvas, shapes, strict=True):
        assert torch.equal(place[:, :h, :w], image)
        assert int(place.isnan().sum()) == 3 * (20 - h * w)


def test_pixels_that_are_not_there_stay_so_through_steps_and_clamps() -> None:
    canvas = on_canvas([torch.full((1, 2, 2), 0.5), torch.full((1, 3, 3), 0.5)], (3, 3))
    moved = (canvas + 0.7).clamp(0.0, 1.0)
    assert sizes(moved).tolist() == [[2, 2], [3, 3]]
    assert moved[is_pixel(moved)].eq(1.0).all()


def test_rows_without_object_come_last_and_difficult_ones_are_not_asked_for() -> None:
    easy, hard = torch.tensor([1.0, 2.0, 3.0, 4.0, 1.0, 0.0]), torch.tensor([0.0, 0.0, 9.0, 9.0, 0.0, 1.0])
    targets = stacked([torch.stack([hard, easy]), torch.empty(0, 6), easy[None]])
    assert targets.shape == (3, 2, 6)
    assert is_object(targets).tolist() == [[True, True], [False, False], [True, False]]
    assert torch.equal(objects(targets[0]), easy[None])
    assert len(objects(targets[1])) == 0
    assert targets[1, :, LABEL].tolist() == [-1.0, -1.0]
    assert targets[2, 0, DIFFICULT] == 0.0
    assert stacked([torch.empty(0, 6)]).shape == (1, 1, 6)
