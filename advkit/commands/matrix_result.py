"""From predictions to the report of ``transfer-matrix``. Imported late: it needs pydantic and torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from advkit.commands import output
from advkit.data.images import ImageSet
from advkit.metrics.gradient_similarity import expected_abs_cosine
from advkit.metrics.paired_tests import holm, paired_test
from advkit.reports.results import (
    Accuracy,
    Comparison,
    GradientMatrix,
    Pair,
    SurrogateSuccess,
    TransferMatrixResult,
)
from advkit.transfer.matrix import Matrix, Plan, SurrogateRun
from advkit.transfer.rates import count, eligible

UNION = "union"


def rows(found: Matrix) -> list[str]:
    """Names of the surrogates, in order."""
    return list(dict.fromkeys(attempt.surrogate for attempt in found.attempts))


def collect(
    plan: Plan, found: Matrix, images: ImageSet, comparisons: Sequence[tuple[str, str, str]]
) -> TransferMatrixResult:
    """All rates, intervals and tests; gates and figure are left to the caller.

    Args:
        plan, found: what was measured.
        images: on which images.
        comparisons: (surrogate, victim A, victim B).
    """
    pairs = [pair for row in rows(found) for pair in _pairs(plan, found, row)]
    compared = [comparison for wanted in comparisons for comparison in _comparisons(plan, found, *wanted)]
    adjusted = holm([comparison.p_value for comparison in compared])
    total = len(images)
    gradients = None
    if found.cosines is not None:
        channels, height, width = images.size
        signed, absolute, counted = found.cosines.tolist()
        gradients = GradientMatrix(
            models=plan.names,
            cosine=_means(signed, counted),
            absolute_cosine=_means(absolute, counted),
            chance=expected_abs_cosine(channels * height * width),
            images=[[int(value) for value in row] for row in counted],
        )
    return TransferMatrixResult(
        images=total,
        models=plan.names,
        surrogates=rows(found),
        methods=list(dict.fromkeys(attempt.method for attempt in found.attempts)),
        clean=[
            Accuracy(model=name, accuracy=output.rate(int((found.clean[k] == found.labels).sum()), total))
            for k, name in enumerate(plan.names)
        ],
        surrogate_success=[_success(attempt) for attempt in found.attempts],
        pairs=pairs,
        gradients=gradients,
        comparisons=[
            comparison.model_copy(update={"p_value_holm": p}) for comparison, p in zip(compared, adjusted, strict=True)
        ],
        gates=[],
        attack_seconds=round(found.seconds, 3),
        figure=None,
    )


def _means(sums: list[list[float]], counts: list[list[float]]) -> list[list[float | None]]:
    return [[a / n if n else None for a, n in zip(*rows, strict=True)] for rows in zip(sums, counts, strict=True)]


def _success(attempt: SurrogateRun) -> SurrogateSuccess:
    surrogate = attempt.as_surrogate()
    total = len(attempt.positions)
    return SurrogateSuccess(
        surrogate=attempt.surrogate,
        method=attempt.method,
        norm=attempt.norm,
        eps=attempt.eps,
        goal=attempt.goal,
        success=output.rate(int((surrogate.fooled & surrogate.correct).sum()), int(surrogate.correct.sum())),
        zero_gradients=attempt.zero,
        dead_gradients=attempt.dead,
        forwards_per_image=attempt.forwards / total if total else 0.0,
        backwards_per_image=attempt.backwards / total if total else 0.0,
    )


def _pairs(plan: Plan, found: Matrix, row: str) -> list[Pair]:
    """All victims of one surrogate: one entry for each method, and the union of several."""
    own = [attempt for attempt in found.attempts if attempt.surrogate == row]
    groups = [(attempt.method, [attempt]) for attempt in own]
    if len(own) > 1:
        groups.append((UNION, own))
    return [
        _pair(found, method, attempts, victim, name)
        for victim, name in enumerate(plan.names)
        for method, attempts in groups
    ]


def _pair(found: Matrix, method: str, attempts: list[SurrogateRun], victim: int, name: str) -> Pair:
    sides = [(attempt.as_surrogate(), attempt.as_victim(victim, found.clean, found.labels)) for attempt in attempts]
    counts = count(sides)
    held = sides[0][0].correct & sides[0][1].correct & np.any([surrogate.fooled for surrogate, _ in sides], axis=0)
    flipped = np.any([attempt.control(victim, attempt.flipped) for attempt in attempts], axis=0)
    noise = np.any([attempt.control(victim, attempt.noise) for attempt in attempts], axis=0)
    return Pair(
        surrogate=attempts[0].surrogate,
        victim=name,
        method=method,
        white_box=any(victim in attempt.crafted_on for attempt in attempts),
        cond=output.rate(*counts.cond),
        both=output.rate(*counts.both),
        raw=output.rate(*counts.raw),
        same=output.rate(*counts.same),
        flipped=output.rate(int((flipped & held).sum()), int(held.sum())),
        noise=output.rate(int((noise & held).sum()), int(held.sum())),
    )


def _comparisons(plan: Plan, found: Matrix, row: str, a: str, b: str) -> list[Comparison]:
    own = [attempt for attempt in found.attempts if attempt.surrogate == row]

    def both(attempt: SurrogateRun) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        surrogate = attempt.as_surrogate()
        victims = [attempt.as_victim(plan.names.index(name), found.clean, found.labels) for name in (a, b)]
        inside = eligible(surrogate, victims)
        fooled_a, fooled_b = (victim.fooled & surrogate.fooled for victim in victims)
        return inside, fooled_a, fooled_b

    found_sets = [(attempt.method, both(attempt)) for attempt in own]
    if len(own) > 1:
        inside, fooled_a, fooled_b = (np.any([parts[k] for _, parts in found_sets], axis=0) for k in range(3))
        found_sets.append((UNION, (inside, fooled_a, fooled_b)))
    return [
        Comparison(
            surrogate=row,
            a=a,
            b=b,
            method=method,
            **dataclasses.asdict(paired_test(fooled_a[inside], fooled_b[inside])),
        )
        for method, (inside, fooled_a, fooled_b) in found_sets
    ]


def headline(pairs: Sequence[Pair]) -> list[Pair]:
    """One pair for each surrogate and victim: the union where there is one."""
    best: dict[tuple[str, str], Pair] = {}
    for pair in pairs:
        if pair.method == UNION or (pair.surrogate, pair.victim) not in best:
            best[pair.surrogate, pair.victim] = pair
    return list(best.values())
