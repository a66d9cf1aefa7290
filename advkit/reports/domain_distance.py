"""What ``domain-distance`` says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import Field

from advkit.distance.calibration import Calibration, GainPrediction, GainRegression
from advkit.distance.comparison import Distance, DomainComparison, SubsamplingPlan, TargetDistances
from advkit.distance.measures import HEADLINE, MEASURES
from advkit.reports.gates import Gate, gates
from advkit.reports.rates import Rate, StrictModel, rate

_INTERVAL = "95 %, bootstrap over the drawn images, for the mean of such draws"


class FeatureSource(StrictModel):
    """What the distances are between: features of the images."""

    kind: str = Field(description="model, pixels or file")
    ref: str | None = Field(description="of the model; null without one")
    sha256: str | None = Field(description="of the model's weights")
    layer: str | None = Field(description="whose outputs, or inputs, are averaged over the places; null for files")
    size: tuple[int, int] | None = Field(description="height and width to which every image is scaled and cut")
    crop_pct: float | None = Field(description="part of the scaled shorter side that the cut leaves")
    interpolation: str | None
    channels: int | None
    d: int = Field(description="numbers of an image")
    dtype: str = Field(description="in which they were computed; distances are computed in float64")


class MeasuredDistance(StrictModel):
    """One measure between two domains."""

    value: float = Field(description="mean over the draws; Frechet and sliced Wasserstein are squared")
    interval: tuple[float, float] = Field(description=f"{_INTERVAL}; of proxy_a Wilson's, of the errors of half a draw")
    draws: list[float]
    errors: int | None = Field(description="of proxy_a: wrong predictions over all draws; null for others")
    ties: int | None = Field(
        default=None, description="of proxy_a: predictions of neither domain, half an error each; null for others"
    )
    predictions: int | None
    ratio: float | None = Field(
        description="to the floor; null for measures that are 0 on average where nothing differs"
    )
    ratio_interval: tuple[float, float] | None = Field(description="95 %, from the same resamples of both")


class PermutationTest(StrictModel):
    """Of the kernel distance of the first draw."""

    reached: int = Field(description="regroupings of the images that lie as far apart")
    permutations: int
    p_value: float = Field(description="(reached + 1) / (permutations + 1)")


class GainForecast(StrictModel):
    """What a calibration says of one target."""

    gain: float = Field(description="on average at this ratio")
    interval: tuple[float, float] = Field(description="95 %, of that average")
    pair_interval: tuple[float, float] = Field(description="95 %, of a single pair of domains")
    chance: float = Field(description="share of such pairs on which there is a gain at all")
    extrapolated: bool = Field(description="no pair of the calibration lies as far, or as near")


class DomainDistances(StrictModel):
    """One domain against the source."""

    target: str
    images: int
    shared: int = Field(description="of these images, those that are in the source too")
    distances: dict[str, MeasuredDistance]
    permutation_test: PermutationTest
    forecast: GainForecast | None = Field(description="null without a calibration")


class CalibrationSummary(StrictModel):
    """The measured pairs that a forecast rests on."""

    file: str
    gain: str
    pairs: int
    at_floor: float = Field(description="gain at a ratio of 1")
    per_doubling: float = Field(description="gain for each doubling of the ratio")
    per_doubling_interval: tuple[float, float]
    residual_spread: float = Field(description="standard deviation of measured gains around the line, by n - 2")
    signs: Rate = Field(description="pairs whose sign the line through all others foretells; those of no gain left out")
    commoner_sign: Rate = Field(description="pairs of the sign that most have")


class Advice(StrictModel):
    """Whether adversarial pre-training on the source may help."""

    text: str
    order: list[str] = Field(description="targets from the least ratio to the largest: from the least likely on")
    calibration: CalibrationSummary | None


class DomainDistanceResult(StrictModel):
    """Result of ``domain-distance``."""

    source: str
    images: int
    features: FeatureSource
    n: int = Field(description="images of each domain in a draw")
    repeats: int
    floor: dict[str, MeasuredDistance] = Field(description="between two halves of the source, at the same n")
    targets: list[DomainDistances]
    advice: Advice | None
    figure: str | None
    figure_variance: tuple[float, float] | None = Field(
        description="shares of the variance that the figure's axes have"
    )
    gates: list[Gate]


def _measured(found: Mapping[str, Distance]) -> dict[str, MeasuredDistance]:
    return {
        name: MeasuredDistance(
            value=one.value,
            interval=one.interval,
            draws=one.draws,
            errors=one.errors,
            ties=one.ties,
            predictions=one.predictions,
            ratio=one.ratio,
            ratio_interval=one.ratio_interval,
        )
        for name, one in found.items()
    }


def collect(
    names: Sequence[str],
    counts: Sequence[int],
    shared: Sequence[int],
    features: FeatureSource,
    draws: SubsamplingPlan,
    found: DomainComparison,
    *,
    line: GainRegression | None,
    advice: Advice | None,
    figure: tuple[str, tuple[float, float]] | None,
    bounds: tuple[float | None, float | None],
) -> DomainDistanceResult:
    """The result.

    Args:
        names: of the source and of each target.
        counts: their images.
        shared: images of each target that are in the source too.
        features: what was compared.
        draws: how images were drawn.
        found: the distances.
        line: of a calibration.
        advice: if it was asked for.
        figure: where it was drawn, and the shares of the variance that its axes have.
        bounds: above and below which a ratio to the floor fails.
    """
    targets = [
        DomainDistances(
            target=name,
            images=count,
            shared=common,
            distances=_measured(one.by_measure),
            permutation_test=PermutationTest(reached=one.reached, permutations=draws.permutations, p_value=one.p_value),
            forecast=_forecast(one, line),
        )
        for name, count, common, one in zip(names[1:], counts[1:], shared, found.targets, strict=True)
    ]
    label = MEASURES[HEADLINE].label
    return DomainDistanceResult(
        source=names[0],
        images=counts[0],
        features=features,
        n=draws.images,
        repeats=draws.repeats,
        floor=_measured(found.floor),
        targets=targets,
        advice=advice,
        figure=None if figure is None else figure[0],
        figure_variance=None if figure is None else figure[1],
        gates=[
            gate
            for one in targets
            for gate in gates(
                f"{label} ratio {names[0]} -> {one.target}",
                one.distances[HEADLINE].ratio,
                *bounds,
                undefined=f"undefined (halves of {names[0]} are at distance 0)",
            )
        ],
    )


def _forecast(one: TargetDistances, line: GainRegression | None) -> GainForecast | None:
    ratio = one.by_measure[HEADLINE].ratio
    if line is None or not ratio:
        return None
    found: GainPrediction = line.predict(ratio)
    return GainForecast(**vars(found))


def advise(
    names: Sequence[str],
    found: DomainComparison,
    file: Path | None,
    read: Calibration | None,
    line: GainRegression | None,
) -> Advice:
    """Monotone advice about the targets ``names``, in words: no threshold is known, so none is named."""
    ratios = {name: one.by_measure[HEADLINE].ratio or 0.0 for name, one in zip(names, found.targets, strict=True)}
    text = (
        "The larger the ratio to the floor, the likelier adversarial pre-training on the source helps on the target, "
        "and aligning the features adds to it; near 1 it may cost (Fujii, Kera and Kawamoto 2022). "
    )
    summary = None
    if line is None or read is None:
        text += "No threshold is known: train with adv-pretrain at a small --eps and at --eps 0, and compare."
    else:
        summary = CalibrationSummary(
            file=str(file),
            gain=read.gain,
            pairs=len(read.pairs),
            at_floor=line.at_floor,
            per_doubling=line.per_doubling,
            per_doubling_interval=line.slope_interval,
            residual_spread=line.residual_spread,
            signs=rate(line.correct_signs, line.signs),
            commoner_sign=rate(line.commoner_sign, line.signs),
        )
        text += f"The forecasts are a line through {len(read.pairs)} measured pairs; mind their intervals."
    return Advice(text=text, order=sorted(ratios, key=lambda name: ratios[name]), calibration=summary)


def few_images_flags(result: DomainDistanceResult) -> list[str]:
    """Fewer images than features in a draw: of the covariances most is unknown."""
    if result.n > result.features.d:
        return []
    return [
        f"{result.n} images of each and {result.features.d} features: covariances are singular, and much of a Fréchet "
        "distance is what chance adds; go by the ratio and by KID, or give more images"
    ]


def less_varied_flags(result: DomainDistanceResult) -> list[str]:
    """Targets that are nearer than two halves of the source: what chance adds to a distance goes with the variety."""
    return [
        f"{one.target}: less varied than {result.source}, so that its distance lies below the floor; "
        f"whether they differ, p = {one.permutation_test.p_value:.3g} tells"
        for one in result.targets
        if (ends := one.distances[HEADLINE].ratio_interval) is not None and ends[1] < 1
    ]


def calibration_flags(read: Calibration | None, features: FeatureSource, n: int) -> list[str]:
    """Where the ratios of a calibration are not those of this run."""
    if read is None:
        return []
    flags = []
    known = read.features or {}
    for name in ("sha256", "layer", "size"):
        own = getattr(features, name)
        own = list(own) if isinstance(own, tuple) else own
        if name in known and known[name] != own:
            flags.append(f"calibration: its ratios are of features with another {name} ({known[name]}, here {own})")
    if not known:
        flags.append("calibration: does not say of which features its ratios are")
    if read.images not in (None, n):
        flags.append(f"calibration: its ratios are at n {read.images}, here at {n}; give --subsample {read.images}")
    return flags
