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

if TYPE_CHECKING:
    from advkit.figures.attention import MapAgreement


class Agreement(StrictModel):
    """How alike two models' maps of one image are."""

    a: str
    b: str
    cosine: float | None
    rank_correlation: float | None


class AttendedImage(StrictModel):
    """One image of the figure."""

    index: int
    label: int
    predictions: dict[str, int]
    agreement: dict[str, list[Agreement]] = Field(description="by kind of map")


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


def collect(
    figure: Path,
    kinds: Sequence[str],
    names: Sequence[str],
    predictions: Tensor,
    chosen: ImageSet,
    pairs: Sequence[MapAgreement],
) -> VisualizeResult:
    """How alike the models' maps are, image by image and on average.

    Args:
        figure: where they are drawn.
        kinds: of maps.
        names: of the M models.
        predictions: (M, N) of the models.
        chosen: the N images.
        pairs: of models, for each kind.
    """

    def at(pair: MapAgreement, k: int) -> Agreement:
        return Agreement(
            a=names[pair.first],
            b=names[pair.second],
            cosine=_number(pair.cosine[k]),
            rank_correlation=_number(pair.rank_correlation[k]),
        )

    labelled = zip(chosen.targets.tolist(), chosen.indices.tolist(), strict=True)
    return VisualizeResult(
        figure=str(figure),
        maps=list(kinds),
        images=[
            AttendedImage(
                index=place,
                label=label,
                predictions={name: int(predictions[m, k]) for m, name in enumerate(names)},
                agreement={kind: [at(pair, k) for pair in pairs if pair.kind == kind] for kind in kinds},
            )
            for k, (label, place) in enumerate(labelled)
        ],
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
