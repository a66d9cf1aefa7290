"""What ``visualize features`` says."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from advkit.data.images import ImageSet
from advkit.reports.rates import StrictModel
from advkit.reports.visualize import ShownBox, shown_boxes
from advkit.tasks.box_marks import BoxMark

if TYPE_CHECKING:
    from advkit.figures.features import Picture


class FeaturePicture(StrictModel):
    """One picture that a model made of one image."""

    kind: str = Field(description="inversion or maximisation")
    model: str
    start: float | None = Field(
        description="before the first step: of inversion the squared distance of the features from those of the image, "
        "divided by their squared length; of maximisation the score; null without an object"
    )
    end: float | None = Field(description="likewise, of the picture that is drawn")
    correlation: float | None = Field(description="of the picture's values with the image's; null where one is flat")
    recognised_by: list[str] = Field(description="models that predict what is true of the image")


class FeaturedImage(StrictModel):
    """One image of the figure."""

    index: int
    label: int | None = Field(description="null for detectors")
    objects: list[ShownBox] | None = Field(description="true boxes; null for classifiers")
    pictures: list[FeaturePicture]


class FeatureSummary(StrictModel):
    """All pictures of one kind that one model made."""

    kind: str
    model: str
    pictures: int
    counted: int = Field(description="pictures that have a start and an end")
    mean_start: float | None
    mean_end: float | None
    mean_correlation: float | None
    recognised_by: dict[str, int] = Field(description="by model, pictures about which it is right")


class FeaturesResult(StrictModel):
    """Result of ``visualize features``."""

    figure: str
    kinds: list[str]
    layers: dict[str, str] = Field(description="by model, whose outputs inversion takes; empty without inversion")
    images: list[FeaturedImage]
    summaries: list[FeatureSummary]


def collect(
    figure: Path,
    names: Sequence[str],
    layers: Mapping[str, str],
    chosen: ImageSet,
    objects: Sequence[Sequence[BoxMark]] | None,
    pictures: Sequence[Picture],
) -> FeaturesResult:
    """Picture by picture and on average.

    Args:
        figure: where they are drawn.
        names: of the models.
        layers: from a model's name to the layer that inversion took.
        chosen: the N images.
        objects: (N) their true boxes, where the task has boxes.
        pictures: all of them.
    """

    def told(one: Picture) -> FeaturePicture:
        values = one.made.values
        asked = objects is None or any(not mark.difficult for mark in objects[one.row])
        lost = one.kind == "maximisation" and not asked
        return FeaturePicture(
            kind=one.kind,
            model=names[one.model],
            start=None if lost else values[0],
            end=None if lost else values[-1],
            correlation=None if math.isnan(one.correlation) else one.correlation,
            recognised_by=[name for name, right in zip(names, one.recognised, strict=True) if right],
        )

    images = [
        FeaturedImage(
            index=place,
            label=int(chosen.targets[row]) if objects is None else None,
            objects=None if objects is None else shown_boxes(objects[row], chosen.class_names),
            pictures=[told(one) for one in pictures if one.row == row],
        )
        for row, place in enumerate(chosen.indices.tolist())
    ]
    kinds = list(dict.fromkeys(one.kind for one in pictures))
    return FeaturesResult(
        figure=str(figure),
        kinds=kinds,
        layers=dict(layers),
        images=images,
        summaries=[
            _summary(
                [one for image in images for one in image.pictures if (one.kind, one.model) == (kind, name)], names
            )
            for kind in kinds
            for name in names
        ],
    )


def _summary(pictures: Sequence[FeaturePicture], names: Sequence[str]) -> FeatureSummary:
    return FeatureSummary(
        kind=pictures[0].kind,
        model=pictures[0].model,
        pictures=len(pictures),
        counted=sum(one.start is not None for one in pictures),
        mean_start=_mean([one.start for one in pictures]),
        mean_end=_mean([one.end for one in pictures]),
        mean_correlation=_mean([one.correlation for one in pictures]),
        recognised_by={name: sum(name in one.recognised_by for one in pictures) for name in names},
    )


def _mean(values: Sequence[float | None]) -> float | None:
    kept = [value for value in values if value is not None]
    return sum(kept) / len(kept) if kept else None


def table(result: FeaturesResult) -> list[str]:
    """Lines for people."""
    lines = [f"{result.figure}: {len(result.images)} images, {' and '.join(result.kinds)}", ""]
    for one in result.summaries:
        start, end = ("-" if value is None else f"{value:.3g}" for value in (one.mean_start, one.mean_end))
        like = "-" if one.mean_correlation is None else f"{one.mean_correlation:.2f}"
        lines.append(f"{one.kind:12} {one.model[:16]}: {start} -> {end}, image correlation {like}")
        for judge, count in one.recognised_by.items():
            lines.append(f"{'':12}   right about it: {judge[:30]} {count}/{one.pictures}")
    return lines
