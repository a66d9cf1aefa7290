"""What ``domain-distance`` says to people."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from itertools import pairwise

from advkit.distance.measures import HEADLINE
from advkit.figures.names import ellipsize
from advkit.reports.domain_distance import Advice, DomainDistanceResult, MeasuredDistance
from advkit.reports.rates import percent


def table(result: DomainDistanceResult) -> list[str]:
    """Lines for people, 80 columns at most; a long name has a line of its own."""
    what = result.features
    seen = what.kind if what.layer in (None, what.kind) else what.layer
    lines = [
        f"{ellipsize(result.source, 60, 1)}: {result.images} images",
        f"{result.n} images of each, {result.repeats} draws, {what.d} features ({ellipsize(seen, 28, 1)})",
        *_fewest_images(result),
        "",
        f"{'':17}{'Fréchet':>9}  {'over the floor':19} {'KID':>8} {'p':>5} {'proxy-A':>7} sliced W",
        *_row("floor", result.floor, ""),
    ]
    for one in result.targets:
        lines += _row(one.target, one.distances, f"{one.permutation_test.p_value:.3f}")
    if result.advice is not None:
        lines += ["", *_advice_lines(result, result.advice)]
    return lines


def _fewest_images(result: DomainDistanceResult) -> list[str]:
    """The target that leaves every draw fewer images than the source would."""
    fewest = min(result.targets, key=lambda one: one.images)
    if fewest.images > result.n or result.n >= result.images // 2:
        return []
    return [f"{ellipsize(fewest.target, 50, 1)} has no more than {fewest.images} images"]


def _row(name: str, found: Mapping[str, MeasuredDistance], p_value: str) -> list[str]:
    frechet = found["frechet"]
    ratio = ""
    if frechet.ratio is not None and frechet.ratio_interval is not None:
        ratio = f"{_short(frechet.ratio)} [{', '.join(map(_short, frechet.ratio_interval))}]"
    numbers = f"{found['kernel'].value:8.3g} {p_value:>5} {found['proxy_a'].value:7.2f}"
    row = f"{frechet.value:9.4g}  {ratio:19} {numbers} {found['sliced_wasserstein'].value:8.3g}"
    return _named(name, 17, row)


def _named(name: str, width: int, row: str) -> list[str]:
    """``row`` behind ``name``, or beneath it where that is longer than ``width`` allows."""
    if len(name) < width:
        return [f"{name:{width}}{row}"]
    return [ellipsize(name, 79, 1), " " * width + row]


def _short(ratio: float) -> str:
    return f"{ratio:.{2 if ratio < 10 else 1 if ratio < 100 else 0}f}"


def _order(result: DomainDistanceResult, advice: Advice) -> str:
    """The targets from the least ratio to the largest; between neighbours whose intervals overlap stands a ``~``."""
    ends = {one.target: one.distances[HEADLINE].ratio_interval or (0.0, float("inf")) for one in result.targets}
    told = advice.order[0]
    for before, name in pairwise(advice.order):
        told += f" {'<' if ends[before][1] < ends[name][0] else '~'} {name}"
    return f"Order: {told}" + (" (~: their intervals overlap)" if " ~ " in told else "")


def _advice_lines(result: DomainDistanceResult, advice: Advice) -> list[str]:
    lines = textwrap.wrap(advice.text, 79)
    if advice.calibration is None:
        return [*lines, *textwrap.wrap(_order(result, advice), 79)] if len(advice.order) > 1 else lines
    found = advice.calibration
    low, high = found.per_doubling_interval
    lines += [
        f"gain: {ellipsize(found.gain, 73, 1)}",
        f"  at the floor {found.at_floor:+.2f}, for each doubling {found.per_doubling:+.2f} [{low:+.2f}, {high:+.2f}]",
        f"  sign foretold, leaving one out  {percent(found.signs)}",
        f"  sign that most pairs have       {percent(found.commoner_sign)}",
    ]
    for one in sorted(result.targets, key=lambda one: advice.order.index(one.target)):
        if one.forecast is not None:
            low, high = one.forecast.pair_interval
            more = "  beyond all pairs" if one.forecast.extrapolated else ""
            row = f"{one.forecast.gain:+.2f} [{low:+.2f}, {high:+.2f}]{more}"
            lines += [f"  {line}" for line in _named(ellipsize(one.target, 77, 1), 24, row)]
    return lines
