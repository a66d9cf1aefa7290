"""Average precisions of a detector, as every report tells them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from advkit.reports.rates import StrictModel


class ClassPrecision(StrictModel):
    """One class of objects."""

    label: str
    objects: int = Field(description="asked for; difficult ones are not")
    images: int = Field(description="with such an object")
    predictions: int
    ap50: float | None = Field(description="COCO's, overlap 0.5; null without an object")
    ap50_95: float | None
    voc2007_ap50: float | None = Field(description="PASCAL VOC's by 11 recalls")
    voc2010_ap50: float | None = Field(description="PASCAL VOC's, area under the curve")
    recall50: float | None = Field(description="of the objects, found at overlap 0.5 whatever the score")


class AveragePrecisions(StrictModel):
    """Means over the classes that have objects; intervals by bootstrap over the images, 95 %."""

    images: int
    objects: int
    difficult: int = Field(description="objects that are neither asked for nor false to predict")
    predictions: int
    not_finite: int
    unknown_class: int
    classes_without_objects: int
    map50: float | None
    map50_interval: tuple[float, float] | None
    map50_95: float | None
    map50_95_interval: tuple[float, float] | None
    voc2007_map50: float | None
    voc2010_map50: float | None
    recall50: float | None
    images_right: int = Field(
        description="every object found at score and overlap 0.5, or none where there is no object"
    )
    per_class: list[ClassPrecision]


def average_precisions(found: Mapping[str, Any], class_names: Sequence[str]) -> AveragePrecisions:
    """What :meth:`advkit.tasks.detection.DetectionMetric.compute` gives, with the classes' names."""
    rows = zip(class_names, found["per_class"], strict=True)
    return AveragePrecisions(**{**found, "per_class": [ClassPrecision(label=name, **row) for name, row in rows]})


def precision(value: float | None, interval: tuple[float, float] | None = None) -> str:
    """``0.653 [0.601, 0.702]``."""
    if value is None:
        return "- (no object)"
    return f"{value:.3f}" + (f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval is not None else "")


def precision_lines(found: AveragePrecisions, most: int) -> list[str]:
    """Lines for people, with those of the classes unless there are more than ``most``."""
    objects = f"{found.objects} objects in {found.images} images"
    lines = [
        f"  mAP@.5             {precision(found.map50, found.map50_interval)}  {objects}",
        f"  mAP@[.5:.95]       {precision(found.map50_95, found.map50_95_interval)}",
        f"  VOC 2007 (11 pts)  {precision(found.voc2007_map50)}",
        f"  images right       {found.images_right}/{found.images}",
    ]
    if found.difficult:
        lines.append(f"  difficult objects  {found.difficult}, not counted")
    if found.not_finite:
        lines.append(f"  not finite         {found.not_finite} predictions")
    if len(found.per_class) <= most:
        for one in found.per_class:
            lines.append(f"  {one.label[:17]:17}  {precision(one.ap50)}  {one.objects} objects in {one.images} images")
    return lines
