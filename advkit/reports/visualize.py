"""What ``visualize attention`` says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field
from torch import Tensor

from advkit.data.images import ImageSet
from advkit.reports.rates import StrictModel
from advkit.tasks.box_marks import BoxMark, named

if TYPE_CHECKING:
    from advkit.figures.attention import MapAgreement, Panel


class Agreement(StrictModel):
    """How alike two models' maps of one image are."""

    a: str
    b: str
    cosine: float | None
    rank_correlation: float | None


class ShownBox(StrictModel):
    """One box of the figure, in pixels of the image."""

    label: str
    box: tuple[float, float, float, float] = Field(description="x0, y0, x1, y1 from the left and upper edge")
    score: float | None = Field(description="null for a true object")
    right: bool = Field(description="a true object, or a prediction that finds one of its own")
    difficult: bool = Field(description="a true object that nobody asks for")


class AttendedImage(StrictModel):
    """One image of the figure."""

    index: int
    label: int | None = Field(description="null for detectors")
    predictions: dict[str, int] | None = Field(description="by model; null for detectors")
    objects: list[ShownBox] | None = Field(default=None, description="true boxes; null for classifiers")
    found: dict[str, list[ShownBox]] | None = Field(
        default=None, description="by model, predicted boxes of score 0.5 or more; null for classifiers"
    )
    agreement: dict[str, list[Agreement]] = Field(default={}, description="by kind of map")


class VisualizeResult(StrictModel):
    """Result of ``visualize attention``."""

    figure: str
    maps: list[str]
    images: list[AttendedImage]
    mean_agreement: dict[str, list[Agreement]]


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _mean(values: list[float]) -> float | None:
    kept = [value for value in values if not math.isnan(value)]
    return sum(kept) / len(kept) if kept else None


def labelled_images(names: Sequence[str], predictions: Tensor, chosen: ImageSet) -> list[AttendedImage]:
    """The N images of ``chosen`` with their classes; ``predictions`` (M, N) of the models ``names``."""
    labelled = zip(chosen.targets.tolist(), chosen.indices.tolist(), strict=True)
    return [
        AttendedImage(
            index=place, label=label, predictions={name: int(predictions[m, k]) for m, name in enumerate(names)}
        )
        for k, (label, place) in enumerate(labelled)
    ]


def shown_boxes(marks: Sequence[BoxMark], class_names: Sequence[str]) -> list[ShownBox]:
    """The boxes of one image, with the names of their classes."""
    called = named([mark.label for mark in marks], class_names)
    return [
        ShownBox(label=name, box=mark.box, score=mark.score, right=mark.right, difficult=mark.difficult)
        for name, mark in zip(called, marks, strict=True)
    ]


def boxed_images(
    panels: Sequence[Panel], objects: Sequence[Sequence[BoxMark]], chosen: ImageSet
) -> list[AttendedImage]:
    """The N images of ``chosen`` with their true ``objects``, and with what each model finds."""
    return [
        AttendedImage(
            index=place,
            label=None,
            predictions=None,
            objects=shown_boxes(objects[k], chosen.class_names),
            found={panel.model: shown_boxes(panel.boxes[k], chosen.class_names) for panel in panels},
        )
        for k, place in enumerate(chosen.indices.tolist())
    ]


def collect(
    figure: Path, kinds: Sequence[str], names: Sequence[str], images: list[AttendedImage], pairs: Sequence[MapAgreement]
) -> VisualizeResult:
    """How alike the models' maps are, image by image and on average.

    Args:
        figure: where they are drawn.
        kinds: of maps.
        names: of the M models.
        images: N, to which the agreement is added.
        pairs: of models, for each kind.
    """

    def at(pair: MapAgreement, k: int) -> Agreement:
        return Agreement(
            a=names[pair.first],
            b=names[pair.second],
            cosine=_number(pair.cosine[k]),
            rank_correlation=_number(pair.rank_correlation[k]),
        )

    for k, image in enumerate(images):
        image.agreement = {kind: [at(pair, k) for pair in pairs if pair.kind == kind] for kind in kinds}
    return VisualizeResult(
        figure=str(figure),
        maps=list(kinds),
        images=images,
        mean_agreement={
            kind: [
                Agreement(
                    a=names[pair.first],
                    b=names[pair.second],
                    cosine=_mean(pair.cosine),
                    rank_correlation=_mean(pair.rank_correlation),
                )
                for pair in pairs
                if pair.kind == kind
            ]
            for kind in kinds
        },
    )


def table(result: VisualizeResult) -> list[str]:
    """Lines for people."""
    lines = [f"{result.figure}: {len(result.images)} images, {' and '.join(result.maps)}", ""]
    for kind, pairs in result.mean_agreement.items():
        for pair in pairs:
            cosine, rank = ("-" if v is None else f"{v:+.3f}" for v in (pair.cosine, pair.rank_correlation))
            lines.append(f"{kind:9} {pair.a} and {pair.b}: cosine {cosine}, rank correlation {rank}")
    return lines
