"""What ``transfer-matrix`` says."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from pydantic import Field

from advkit.attacks.sanity_checks import sanity_checks
from advkit.data.images import ImageSet
from advkit.metrics.gradient_similarity import expected_abs_cosine
from advkit.metrics.paired_tests import holm, paired_test
from advkit.reports.attack import SURPRISING, step_flags
from advkit.reports.gates import Gate, gates
from advkit.reports.rates import Rate, StrictModel, rate
from advkit.reports.transfer_precisions import TransferPrecisions, transfer_precisions
from advkit.transfer.matrix import Plan
from advkit.transfer.outcomes import Matrix, SurrogateRun
from advkit.transfer.rates import count, eligible

UNION = "union"


class Pair(StrictModel):
    """One surrogate and one victim under one method (or the union of all)."""

    surrogate: str
    victim: str
    method: str
    white_box: bool = Field(description="the victim is the network (or one of those) that the images were made on")
    cond: Rate = Field(description="both right on clean, surrogate fooled: victim fooled")
    both: Rate = Field(description="both right on clean: victim fooled")
    raw: Rate = Field(description="all images: victim wrong, or at the target")
    same: Rate = Field(description="as cond: victim fooled into the surrogate's class")
    flipped: Rate | None = Field(description="over the images of cond: the sign-flipped perturbation fools the victim")
    noise: Rate | None = Field(description="as flipped, noise of the same norm, one draw for each method")


class SurrogateSuccess(StrictModel):
    """How well an attack did on the network it was made on."""

    surrogate: str
    method: str
    norm: str
    eps: float
    goal: str = Field(description="robustness: stopped on fooled images, which understates transfer")
    success: Rate
    zero_gradients: int
    dead_gradients: int
    forwards_per_image: float
    backwards_per_image: float


class Accuracy(StrictModel):
    """Clean accuracy of one model."""

    model: str
    accuracy: Rate


class GradientMatrix(StrictModel):
    """Mean cosines between the models' input gradients on the clean images."""

    models: list[str]
    cosine: list[list[float | None]] = Field(description="null when no image counts")
    absolute_cosine: list[list[float | None]]
    chance: float = Field(description="mean absolute cosine of random directions of this dimension")
    images: list[list[int]] = Field(description="images where both gradients have a direction")


class Comparison(StrictModel):
    """Two victims of one surrogate on the common set."""

    surrogate: str
    a: str
    b: str
    method: str
    total: int = Field(description="surrogate, a and b right on clean, surrogate fooled")
    both: int
    only_a: int
    only_b: int
    neither: int
    difference: float | None = Field(description="rate of a minus rate of b")
    interval: tuple[float, float] | None = Field(description="score interval of the difference (Tango 1998), 95 %")
    p_value: float = Field(description="exact McNemar test, two-sided, over images: of these two checkpoints")
    p_value_holm: float | None = Field(
        default=None, description="p_value adjusted over all comparisons of the report (Holm 1979)"
    )


class TransferMatrixResult(StrictModel):
    """Result of ``transfer-matrix``."""

    images: int
    models: list[str]
    surrogates: list[str]
    methods: list[str]
    clean: list[Accuracy]
    surrogate_success: list[SurrogateSuccess]
    pairs: list[Pair]
    gradients: GradientMatrix | None
    comparisons: list[Comparison]
    detection: TransferPrecisions | None = Field(default=None, description="null for classifiers")
    gates: list[Gate]
    attack_seconds: float
    figure: str | None


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
    for comparison, adjusted in zip(compared, holm([each.p_value for each in compared]), strict=True):
        comparison.p_value_holm = adjusted
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
            Accuracy(model=name, accuracy=rate(int(found.correct[k].sum()), total)) for k, name in enumerate(plan.names)
        ],
        surrogate_success=[_success(attempt) for attempt in found.attempts],
        pairs=pairs,
        gradients=gradients,
        comparisons=compared,
        detection=transfer_precisions(plan.names, found, images.class_names),
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
        success=rate(int((surrogate.fooled & surrogate.correct).sum()), int(surrogate.correct.sum())),
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
    sides = [(attempt.as_surrogate(), attempt.as_victim(victim, found.correct)) for attempt in attempts]
    counts = count(sides)
    held = sides[0][0].correct & sides[0][1].correct & np.any([surrogate.fooled for surrogate, _ in sides], axis=0)
    flipped = np.any([attempt.victims.flipped[victim] for attempt in attempts], axis=0)
    noise = np.any([attempt.victims.noise[victim] for attempt in attempts], axis=0)
    return Pair(
        surrogate=attempts[0].surrogate,
        victim=name,
        method=method,
        white_box=any(victim in attempt.crafted_on for attempt in attempts),
        cond=rate(*counts.cond),
        both=rate(*counts.both),
        raw=rate(*counts.raw),
        same=rate(*counts.same),
        flipped=rate(int((flipped & held).sum()), int(held.sum())),
        noise=rate(int((noise & held).sum()), int(held.sum())),
    )


def _comparisons(plan: Plan, found: Matrix, row: str, a: str, b: str) -> list[Comparison]:
    own = [attempt for attempt in found.attempts if attempt.surrogate == row]

    def both(attempt: SurrogateRun) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        surrogate = attempt.as_surrogate()
        victims = [attempt.as_victim(plan.names.index(name), found.correct) for name in (a, b)]
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


def bounds(pairs: Sequence[Pair], rate: str, fail_above: float | None, fail_below: float | None) -> list[Gate]:
    """Every transfer (to another network than the images were made on) must keep the bounds."""
    found: list[Gate] = []
    for pair in headline(pairs):
        if not pair.white_box:
            what = f"T_{rate} {pair.surrogate} -> {pair.victim} ({pair.method})"
            found += gates(what, getattr(pair, rate).rate, fail_above, fail_below)
    return found


def flags(plan: Plan, images: ImageSet, found: Matrix, result: TransferMatrixResult) -> list[str]:
    """Reasons for suspicion."""
    sample = images.batch(slice(0, 32))[0].to(plan.device)
    told = [flag for params in plan.params if plan.surrogates for flag in step_flags(params)]
    for place, (name, network) in enumerate(zip(plan.names, plan.networks, strict=True)):
        told += [f"{name}: {flag}" for flag in sanity_checks(network, sample) if flag != "not-finite"]
        clean = int(found.not_finite[place].sum())
        bad = [
            f"{int(missed.sum())} of {one.surrogate}'s ({one.method})"
            for one in found.attempts
            if (missed := one.victims.not_finite[place]).any()
        ]
        if clean or bad:
            told.append(f"{name}: not finite on {', '.join([f'{clean} clean images', *bad])}; they count as fooled")
        same = [other for other in plan.names[:place] if _twins(plan, other, name)]
        told += [f"{name}: has the weights of {other}" for other in same]
    for success in result.surrogate_success:
        told += [f"{success.surrogate}, {success.method}: {flag}" for flag in _attack_flags(success)]
    for pair in headline(result.pairs):
        noise, cond = pair.noise, pair.cond
        if pair.white_box or noise is None or noise.rate is None or cond.rate is None:
            continue
        if noise.rate and noise.rate >= cond.rate:
            told.append(f"{pair.surrogate} -> {pair.victim}: noise of the same norm fools as often")
    return told + stronger_transfers(result.pairs, [plan.names[k] for k in plan.surrogates])


def stronger_transfers(pairs: Sequence[Pair], surrogates: Sequence[str]) -> list[str]:
    """Of networks that others' adversarial examples fool more often than their own (Athalye et al. 2018).

    Of those made here on ``surrogates``, which have one budget and the same images; sets made before have theirs.
    """
    told = []
    made = [pair for pair in headline(pairs) if pair.surrogate in surrogates]
    own = {pair.victim: pair.raw for pair in made if pair.surrogate == pair.victim}
    for pair in made:
        best = own.get(pair.victim)
        if best is None:
            continue
        more = pair.raw.successes - best.successes
        if more > max(1.0, SURPRISING * best.total):
            told.append(
                f"{pair.victim}: {pair.surrogate}'s examples fool it on {pair.raw.successes} of {best.total} images, "
                f"those made on itself on {best.successes}: its gradients may be masked"
            )
    return told


def _attack_flags(success: SurrogateSuccess) -> list[str]:
    told = []
    if success.goal == "robustness":
        told.append("made for robustness, which stops on fooled images; transfer is understated")
    if success.zero_gradients:
        told.append(f"zero gradients on {success.zero_gradients} images")
    if success.dead_gradients:
        told.append(f"no gradient at all on {success.dead_gradients} images")
    return told


def _twins(plan: Plan, a: str, b: str) -> bool:
    one, two = (plan.networks[plan.names.index(name)].spec for name in (a, b))
    return (one.sha256, one.architecture) == (two.sha256, two.architecture)
