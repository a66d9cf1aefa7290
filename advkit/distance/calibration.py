"""What adversarial pre-training gained on pairs of domains that somebody measured, as a line over their distance."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from advkit.files.errors import InputError
from advkit.metrics.intervals import Z95

SPEC = "advkit/calibration/1"
MIN_PAIRS = 4
RESAMPLES = 2000
_MIN_VARIANCE = 1e-12  # variance of x, below which a line is level


class MeasuredGain(BaseModel):
    """A pair of domains on which a plainly and an adversarially trained model were compared."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    source: str
    target: str
    ratio: float = Field(gt=0, description="squared Fréchet distance over its floor")
    gain: float
    interval: tuple[float, float] | None = None


class Calibration(BaseModel):
    """The file.

    Attributes:
        spec: ``advkit/calibration/1``.
        gain: what is gained, with its unit, such as ``mAP@.5 in points``.
        features: sha256 of the extractor's weights, its layer and the size of the images; None where unknown.
        images: n of each domain in a draw; a ratio belongs to it.
        pairs: what was measured.
    """

    model_config = ConfigDict(extra="forbid")
    spec: Literal["advkit/calibration/1"]
    gain: str
    features: dict[str, str | int | list[int] | None] | None = None
    images: int | None = None
    pairs: list[MeasuredGain]


@dataclass(frozen=True)
class GainPrediction:
    """What a calibration says of one distance.

    Attributes:
        gain: on average, at that distance.
        interval: 95 %, of that average.
        pair_interval: 95 %, of a single further pair.
        chance: share of such pairs on which there is a gain at all.
        extrapolated: whether no pair of the calibration lies as far, or as near.
    """

    gain: float
    interval: tuple[float, float]
    pair_interval: tuple[float, float]
    chance: float
    extrapolated: bool


class GainRegression:
    """gain = at_floor + per_doubling · log2(ratio), by least squares over the pairs.

    A random-effects meta-regression: a pair weighs the less the wider its interval, by the inverse of its variance plus
    :func:`between_pair_variance`. Pairs without an interval are taken to be as exact as the others are on average.
    Intervals are by bootstrap over the pairs.

    Attributes:
        at_floor: gain where the distance is that of two halves of the source.
        per_doubling: gain for each doubling of the ratio.
        slope_interval: 95 %, of ``per_doubling``.
        residual_spread: standard deviation of a pair's gain around the line, its own measurement included; n - 2 in the
            denominator, for the two numbers that were fitted.
        correct_signs: pairs whose gain has the sign that the line through all others foretells.
        signs: pairs that are not 0.
        commoner_sign: pairs that have the sign that most have: what one gets right without any distance.
    """

    def __init__(self, pairs: Sequence[MeasuredGain], seed: int = 0) -> None:
        self._x = np.array([math.log2(pair.ratio) for pair in pairs])
        self._y = np.array([pair.gain for pair in pairs])
        widths = [None if p.interval is None else (p.interval[1] - p.interval[0]) / (2 * Z95) for p in pairs]
        known = [width**2 for width in widths if width is not None]
        mean = sum(known) / len(known) if known else 0.0
        self._variances = np.array([mean if width is None else width**2 for width in widths])
        self.at_floor, self.per_doubling = _random_effects_line(self._x, self._y, self._variances)
        generator = np.random.default_rng(seed & (2**63 - 1))
        drawn = generator.integers(0, len(pairs), (RESAMPLES, len(pairs)))
        self._bootstrap_lines = np.array(
            [_random_effects_line(self._x[rows], self._y[rows], self._variances[rows]) for rows in drawn]
        )
        residuals = self._y - self._predicted(self._x, self.at_floor, self.per_doubling)
        freedom = len(pairs) - 2
        self.residual_spread = math.sqrt(float(residuals @ residuals) / freedom)
        inflation = math.sqrt(len(pairs) / freedom)
        self._residuals = inflation * residuals[generator.integers(0, len(pairs), RESAMPLES)]
        self.slope_interval = _percentile_interval(self._bootstrap_lines[:, 1])
        self.correct_signs, self.signs, self.commoner_sign = self._leave_one_out_signs()

    @staticmethod
    def _predicted(x: np.ndarray | float, intercept: np.ndarray | float, slope: np.ndarray | float) -> np.ndarray:
        return np.asarray(intercept + slope * x)

    def predict(self, ratio: float) -> GainPrediction:
        """The gain at ``ratio``, above 0."""
        x = math.log2(ratio)
        means = self._predicted(x, self._bootstrap_lines[:, 0], self._bootstrap_lines[:, 1])
        single = means + self._residuals
        return GainPrediction(
            float(self._predicted(x, self.at_floor, self.per_doubling)),
            _percentile_interval(means),
            _percentile_interval(single),
            float((single > 0).mean()),
            not self._x.min() <= x <= self._x.max(),
        )

    def _leave_one_out_signs(self) -> tuple[int, int, int]:
        right = 0
        for k, (x, y) in enumerate(zip(self._x, self._y, strict=True)):
            kept = np.arange(len(self._x)) != k
            line = _random_effects_line(self._x[kept], self._y[kept], self._variances[kept])
            right += bool(self._predicted(x, *line) * y > 0)
        above, below = int((self._y > 0).sum()), int((self._y < 0).sum())
        return right, above + below, max(above, below)


def between_pair_variance(x: np.ndarray, y: np.ndarray, variances: np.ndarray) -> float:
    """By how much gains vary around their line beyond what their own measurement explains.

    The moment estimator of unweighted residuals (Hedges and Olkin 1985), for a regression: their sum of squares is on
    average the sum of (1 - h) (variance + what is sought), h the leverages. Unlike the weighted one of DerSimonian and
    Laird (1986) it allows variances of 0.

    Args:
        x: (n,) logarithms of the ratios, n above 2.
        y: (n,) gains.
        variances: (n,) of each gain's measurement.

    Returns:
        in squares of the gains' unit; 0 where the estimate is below.
    """
    intercept, slope = _weighted_least_squares(x, y, np.ones_like(x))
    squares = (x - x.mean()) ** 2
    across = float(squares.sum())
    leverages = 1 / len(x) + (squares / across if across > _MIN_VARIANCE * len(x) else np.zeros_like(x))
    explained = float(((1 - leverages) * variances).sum())
    left = float(((y - intercept - slope * x) ** 2).sum()) - explained
    return max(0.0, left / float((1 - leverages).sum()))


def _random_effects_line(x: np.ndarray, y: np.ndarray, variances: np.ndarray) -> tuple[float, float]:
    """Intercept and slope; level where all of ``x`` are the same."""
    total = variances + between_pair_variance(x, y, variances)
    return _weighted_least_squares(x, y, np.ones_like(x) if float(total.min()) <= 0 else 1 / total)


def _weighted_least_squares(x: np.ndarray, y: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    weights = weights / weights.sum()
    mean_x, mean_y = float(weights @ x), float(weights @ y)
    across = float(weights @ (x - mean_x) ** 2)
    slope = float(weights @ ((x - mean_x) * (y - mean_y))) / across if across > _MIN_VARIANCE else 0.0
    return mean_y - slope * mean_x, slope


def _percentile_interval(values: np.ndarray) -> tuple[float, float]:
    low, high = np.quantile(values, (0.025, 0.975)).tolist()
    return low, high


def read_calibration(path: Path) -> Calibration:
    """The calibration in ``path``.

    Raises:
        InputError: unreadable, no calibration, too few pairs, all at one distance, intervals the wrong way round.
    """
    try:
        found = Calibration.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise InputError(f"--calibration {path}: cannot read: {error.strerror or error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the document"
        raise InputError(f"--calibration {path}: {place}: {first['msg']}; see advkit-formats(5)") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"--calibration {path}: no JSON ({str(error)[:80]}); see advkit-formats(5)") from error
    if len(found.pairs) < MIN_PAIRS:
        raise InputError(f"--calibration {path}: {len(found.pairs)} pairs; at least {MIN_PAIRS} are needed")
    for number, pair in enumerate(found.pairs):
        if pair.interval is not None and not pair.interval[0] <= pair.interval[1]:
            raise InputError(f"--calibration {path}: pairs.{number}.interval ends before it begins; swap its ends")
    if len({pair.ratio for pair in found.pairs}) < 2:
        raise InputError(f"--calibration {path}: all pairs lie at one ratio; a line needs two")
    return found
