"""Which anchors stand for which objects, on anchors few enough to be counted by hand."""

from __future__ import annotations

import torch
from torch import Tensor

from advkit.data.boxes import stacked
from advkit.models.detectors.matching import BACKGROUND, IGNORED, match_fcos, match_retinanet, match_ssd
from advkit.models.detectors.output import ObjectTargets, object_targets
from advkit.models.detectors.resize import ImageGroup

# Overlaps with the box (0, 0, 10, 10): 1, 0.6, 0.45 and 0; one more anchor far away.
ANCHORS = torch.tensor([[0, 0, 10, 10], [0, 0, 10, 6], [0, 0, 10, 4.5], [10, 10, 20, 20], [100, 100, 110, 110.0]])


def wanted(*rows: list[float]) -> ObjectTargets:
    """One image's objects: box, class, difficult."""
    found = stacked([torch.tensor(rows)])
    return ObjectTargets(found[..., :4], found[..., 4].long(), found[..., 5] > 0)


def squares(side: float, *centres: float) -> Tensor:
    """Anchors (A, 4) of FCOS around points on the diagonal."""
    middle = torch.tensor(centres)[:, None].expand(-1, 4)
    return middle + torch.tensor([-side, -side, side, side]) / 2


def test_an_object_that_is_asked_for_matches_by_its_overlap() -> None:
    asked = wanted([0, 0, 10, 10, 0, 0.0])
    assert match_ssd(asked, ANCHORS, 0.5).tolist() == [[0, 0, BACKGROUND, BACKGROUND, BACKGROUND]]
    expected = [[0, IGNORED, IGNORED, BACKGROUND, BACKGROUND]]
    assert match_retinanet(asked, ANCHORS, 0.4, 0.7).tolist() == expected


def test_anchors_that_half_cover_a_difficult_object_are_ignored() -> None:
    """Neither positive nor background: the far object matches as if there were no other."""
    both = wanted([100, 100, 110, 110, 0, 0.0], [0, 0, 10, 10, 1, 1.0])
    expected = [[IGNORED, IGNORED, BACKGROUND, BACKGROUND, 0]]
    assert match_ssd(both, ANCHORS, 0.5).tolist() == expected
    assert match_retinanet(both, ANCHORS, 0.4, 0.5).tolist() == expected


def test_points_in_a_difficult_object_are_ignored() -> None:
    anchors = squares(8, 4.0, 12.0, 60.0)
    both = wanted([52, 52, 68, 68, 0, 0.0], [0, 0, 16, 16, 1, 1.0])
    assert match_fcos(both, anchors, [3], 1.5).tolist() == [[IGNORED, IGNORED, 0]]


def test_levels_of_points_divide_the_sizes_of_objects_among_them() -> None:
    """A point's reach, its farthest side, is below 8 sides on the first level and over 4 on the last, of any size."""
    anchors = torch.cat([squares(8, 64.0), squares(16, 64.0), squares(32, 64.0)])
    for half, level in ((4.0, 0), (63.0, 0), (65.0, 1), (127.0, 1), (129.0, 2), (2000.0, 2)):
        found = match_fcos(wanted([64 - half, 64 - half, 64 + half, 64 + half, 0, 0.0]), anchors, [1, 1, 1], 1.5)
        assert found.tolist() == [[0 if k == level else BACKGROUND for k in range(3)]], half


def test_of_two_objects_a_point_stands_for_the_smaller() -> None:
    both = wanted([0, 0, 40, 40, 0, 0.0], [10, 10, 30, 30, 1, 0.0])
    assert match_fcos(both, squares(8, 20.0), [1], 1.5).tolist() == [[1]]


def test_rows_that_no_image_of_a_group_fills_cost_nothing() -> None:
    """A data set's most crowded image decides how many rows there are; another batch does not pay for it."""
    crowd = torch.tensor([[10, 10, 60, 70, 1, 0.0]]).expand(50, -1)
    targets = stacked([crowd, crowd[:2], torch.empty(0, 6)])
    rest = torch.tensor([1, 2])
    group = ImageGroup(rest, torch.zeros(2, 3, 8, 8), torch.full((2, 2), 8), torch.ones(2, 4))
    found = object_targets(targets, group)
    assert found.boxes.shape == (2, 2, 4)
    assert found.labels.tolist() == [[1, 1], [-1, -1]]
    alone = object_targets(targets[2:], ImageGroup(rest[:1] * 0, group.images[:1], group.sizes[:1], group.scale[:1]))
    assert alone.labels.tolist() == [[-1]]
