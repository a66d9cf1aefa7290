"""Gains that were measured, as a line over the distance: exact data, intervals, weights, and what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from advkit.distance.calibration import GainRegression, MeasuredGain, between_pair_variance, read_calibration
from advkit.files.errors import InputError
from advkit.metrics.intervals import Z95

RATIOS = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)


def pairs(gains: list[float], widths: list[float | None] | None = None) -> list[MeasuredGain]:
    widths = widths or [None] * len(gains)
    return [
        MeasuredGain(
            source="s",
            target=f"t{k}",
            ratio=ratio,
            gain=gain,
            interval=None if width is None else (gain - width / 2, gain + width / 2),
        )
        for k, (ratio, gain, width) in enumerate(zip(RATIOS, gains, widths, strict=False))
    ]


def test_gains_on_a_line_are_found_again() -> None:
    line = GainRegression(pairs([-4.0 + 3.0 * math.log2(ratio) for ratio in RATIOS]))
    assert (line.at_floor, line.per_doubling) == pytest.approx((-4.0, 3.0))
    found = line.predict(4.0)
    assert found.gain == pytest.approx(2.0)
    assert found.interval == pytest.approx((2.0, 2.0), abs=0.5)
    assert found.chance > 0.95
    assert not found.extrapolated
    assert line.predict(1.2).chance < 0.05
    assert (line.correct_signs, line.signs, line.commoner_sign) == (7, 7, 4)


def test_what_lies_beyond_all_pairs_is_told() -> None:
    line = GainRegression(pairs([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]))
    assert [line.predict(ratio).extrapolated for ratio in (0.9, 1.0, 8.0, 8.1)] == [True, False, False, True]


def test_gains_that_do_not_depend_on_the_distance_have_a_slope_about_none() -> None:
    line = GainRegression(pairs([1.0, -1.0, 1.0, -1.0, 1.0, -1.0, 1.0]))
    assert line.slope_interval[0] < 0 < line.slope_interval[1]
    assert line.correct_signs < line.commoner_sign
    found = line.predict(3.0)
    assert found.pair_interval[0] < found.interval[0] < found.gain < found.interval[1] < found.pair_interval[1]


def test_a_pair_that_was_measured_badly_weighs_little() -> None:
    gains = [math.log2(ratio) for ratio in RATIOS]
    gains[-1] = -20.0
    blunt = GainRegression(pairs(gains, [0.1] * 6 + [40.0]))
    sharp = GainRegression(pairs(gains))
    assert abs(blunt.per_doubling - 1.0) < abs(sharp.per_doubling - 1.0) / 2


def test_the_variance_between_pairs_by_hand() -> None:
    """Gains of ±2 at two places: squares of 16 are left of a line through the middle, with n - 2 = 2 in the way."""
    x, y = np.array([0.0, 0.0, 3.0, 3.0]), np.array([2.0, -2.0, 7.0, 3.0])
    assert between_pair_variance(x, y, np.zeros(4)) == pytest.approx(16 / 2)
    assert between_pair_variance(x, y, np.ones(4)) == pytest.approx(16 / 2 - 1)
    assert between_pair_variance(x, y, np.array([4.0, 0.0, 0.0, 0.0])) == pytest.approx(16 / 2 - 1)
    assert between_pair_variance(x, y, np.full(4, 9.0)) == 0.0, "their measurement explains more than there is"
    assert between_pair_variance(np.ones(4), y, np.ones(4)) == pytest.approx(np.var(y, ddof=1) - 1), "a level line"


def test_the_variance_between_pairs_has_no_bias() -> None:
    """Places of unequal leverage, measurements of unequal variance; the truth is 4."""
    generator = np.random.default_rng(0)
    x, variances = np.array([0.0, 0.1, 0.2, 0.4, 3.0]), np.array([0.5, 2.0, 0.1, 1.0, 8.0])
    projection = np.stack([np.ones(5), x], 1)
    residual = np.eye(5) - projection @ np.linalg.pinv(projection)
    found = []
    for _ in range(400):
        y = 1 + 2 * x + generator.normal(0, np.sqrt(4 + variances))
        left = y @ residual @ y - float(np.diag(residual) @ variances)
        found.append(left / 3)
        assert between_pair_variance(x, y, variances) == pytest.approx(max(0.0, left / 3))
    assert np.mean(found) == pytest.approx(4.0, abs=3 * np.std(found) / 20)


def test_a_pair_weighs_by_the_inverse_of_both_its_variances() -> None:
    gains, widths = [1.0, 0.0, 3.0, 2.0, 5.0, -4.0, 7.0], [1.0, 2.0, 4.0, 1.0, 3.0, 12.0, 2.0]
    line = GainRegression(pairs(gains, list(widths)))
    x, y, variances = np.log2(RATIOS), np.array(gains), (np.array(widths) / (2 * Z95)) ** 2
    between = between_pair_variance(x, y, variances)
    assert between > 1
    slope, intercept = np.polyfit(x, y, 1, w=1 / np.sqrt(variances + between))
    assert (line.at_floor, line.per_doubling) == pytest.approx((intercept, slope))
    residuals = y - intercept - slope * x
    assert line.residual_spread == pytest.approx(math.sqrt(float(residuals @ residuals) / 5))


def test_a_pair_without_an_interval_is_as_exact_as_the_others_on_average() -> None:
    gains = [1.0, 0.0, 3.0, 2.0, 5.0, -4.0, 7.0]
    some: list[float | None] = [1.0, None, 7.0, None, 1.0, 7.0, None]
    same = [1.0, 5.0, 7.0, 5.0, 1.0, 7.0, 5.0]  # the root of the mean square of 1, 7, 1 and 7
    found, expected = GainRegression(pairs(gains, some)), GainRegression(pairs(gains, list(same)))
    assert (found.at_floor, found.per_doubling) == pytest.approx((expected.at_floor, expected.per_doubling))


def test_intervals_of_gains_of_plus_and_minus_one_by_hand() -> None:
    """Four pairs: in one resample of 16 all four are above; residuals of ±1 spread by the root of 4 / (4 - 2)."""
    made = [
        MeasuredGain(source="s", target="t", ratio=ratio, gain=gain) for ratio in (1.0, 8.0) for gain in (1.0, -1.0)
    ]
    line = GainRegression(made, seed=2)
    assert (line.at_floor, line.per_doubling) == pytest.approx((0.0, 0.0))
    assert line.residual_spread == pytest.approx(math.sqrt(2))
    found = line.predict(math.sqrt(8.0))
    assert found.interval == pytest.approx((-1.0, 1.0))
    assert found.pair_interval == pytest.approx((-1 - math.sqrt(2), 1 + math.sqrt(2)))


def test_a_pair_without_gain_has_no_sign() -> None:
    line = GainRegression(pairs([0.0, 1.0, 2.0, 3.0]))
    assert (line.correct_signs, line.signs, line.commoner_sign) == (3, 3, 3)


def test_a_pair_of_wide_interval_weighs_little_in_intervals_too() -> None:
    gains = [-4.0 + 3.0 * math.log2(ratio) for ratio in RATIOS]
    gains[3] += 50.0
    line = GainRegression(pairs(gains, [0.1, 0.1, 0.1, 1000.0, 0.1, 0.1, 0.1]))
    assert line.per_doubling == pytest.approx(3.0, abs=0.01)
    assert line.slope_interval == pytest.approx((3.0, 3.0), abs=0.1)


def test_the_same_seed_gives_the_same_interval() -> None:
    gains = [1.0, 0.0, 3.0, 2.0, 5.0, 4.0, 7.0]
    one, same, other = (GainRegression(pairs(gains), seed).predict(3.0) for seed in (0, 0, 1))
    assert one == same
    assert one.interval != other.interval


@pytest.mark.slow
def test_intervals_cover_the_mean_and_a_further_pair_about_as_often_as_they_say() -> None:
    generator, covered_pairs, covered_means = np.random.default_rng(0), 0, 0
    for _ in range(60):
        ratios = 2 ** generator.uniform(0, 3, 20)
        gains = -2 + 2 * np.log2(ratios) + generator.normal(0, 1.5, 20)
        made = [
            MeasuredGain(source="s", target="t", ratio=ratio, gain=gain)
            for ratio, gain in zip(ratios, gains, strict=True)
        ]
        found = GainRegression(made).predict(3.0)
        truth = -2 + 2 * math.log2(3.0)
        covered_means += found.interval[0] <= truth <= found.interval[1]
        covered_pairs += found.pair_interval[0] <= truth + generator.normal(0, 1.5) <= found.pair_interval[1]
    assert covered_pairs >= 50
    assert covered_means >= 50


GOOD: dict[str, Any] = {
    "spec": "advkit/calibration/1",
    "gain": "mAP@.5, points",
    "features": {"sha256": "ab", "layer": "backbone", "size": [320, 320]},
    "images": 24,
    "pairs": [
        {"source": "photo", "target": f"t{k}", "ratio": 1.0 + k, "gain": float(k), "interval": [k - 1.0, k + 1.0]}
        for k in range(4)
    ],
}


def written(folder: Path, **changes: Any) -> Path:
    path = folder / "c.json"
    path.write_text(json.dumps({key: value for key, value in (GOOD | changes).items() if value != "left out"}))
    return path


def test_a_file_is_read(tmp_path: Path) -> None:
    found = read_calibration(written(tmp_path))
    assert (found.gain, found.images, len(found.pairs)) == ("mAP@.5, points", 24, 4)
    assert read_calibration(written(tmp_path, features="left out", images=None)).features is None


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"spec": "advkit/calibration/2"}, "spec"),
        ({"gain": "left out"}, "gain"),
        ({"more": 1}, "more"),
        ({"pairs": GOOD["pairs"][:3]}, "3 pairs; at least 4"),
        ({"pairs": [{**pair, "ratio": 2.0} for pair in GOOD["pairs"]]}, "one ratio"),
        ({"pairs": [*GOOD["pairs"], {**GOOD["pairs"][0], "ratio": 0.0}]}, "pairs.4.ratio"),
        ({"pairs": [*GOOD["pairs"], {**GOOD["pairs"][0], "gain": "much"}]}, "pairs.4.gain"),
        ({"pairs": [*GOOD["pairs"], {**GOOD["pairs"][0], "gain": float("nan")}]}, "pairs.4.gain"),
        ({"pairs": [*GOOD["pairs"], {**GOOD["pairs"][0], "interval": [1.0, -1.0]}]}, "pairs.4.interval"),
    ],
)
def test_a_file_that_is_none_is_refused_by_place(changes: dict[str, Any], word: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        read_calibration(written(tmp_path, **changes))
    assert word in str(error.value)
    assert "c.json" in str(error.value)


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, "\x00"])
def test_no_json_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(InputError, match=r"c\.json"):
        read_calibration(tmp_path / "c.json")
    with pytest.raises(InputError, match="cannot read"):
        read_calibration(tmp_path / "missing.json")
