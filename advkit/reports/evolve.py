"""What the report of ``evolve`` says: its result, and what is suspicious about it."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from advkit.reports.rates import Rate, StrictModel


class Measured(StrictModel):
    """A network on the validation images, under R's adversarial examples of them."""

    accuracy: Rate
    cond: Rate = Field(description="R and network right on clean, R fooled: network fooled; union of the methods")
    both: Rate = Field(description="R and network right on clean: network fooled; union of the methods")
    by_method: list[Rate] = Field(description="cond for each method, in the order of the attacks")
    flipped: Rate = Field(description="over the images of cond: a sign-flipped perturbation fools it")
    noise: Rate = Field(description="over the images of cond: noise of the same norm fools it, a draw for each method")
    cosine: float | None = Field(description="mean cosine of input gradients with R's; null without any")
    absolute_cosine: float | None
    cosine_images: int = Field(description="images where both gradients have a direction")


class Candidate(StrictModel):
    """An evolved network."""

    id: str = Field(description="hash of the active graph")
    genome: dict[str, Any]
    parents: list[str]
    born: int | None = Field(description="generation, from 0")
    parameters: int
    multiply_adds: int
    measured: Measured | None = Field(description="null when its training failed")
    error: str | None
    file: str | None = Field(description="its checkpoint")


class Baseline(StrictModel):
    """A network made by hand, or R' itself."""

    name: str
    architecture: str
    parameters: int
    measured: Measured | None
    error: str | None


class Other(StrictModel):
    """Another run on the same validation images."""

    directory: str
    search: str
    front: list[Candidate]
    hypervolume: float | None = Field(default=None, description="as of the run itself")
    members: int = Field(description="candidates trained to full length")
    cost: float = Field(description="full-length candidate trainings")
    unlike: list[str] = Field(default=[], description="how it was searched otherwise, besides breeding")


class Draws(StrictModel):
    """What became of the genomes that were drawn."""

    drawn: int
    repaired: int
    invalid: int
    duplicates: int


class EvolveResult(StrictModel):
    """Result of ``evolve``."""

    checkpoint: str | None = Field(description="E; null when there is none (status: failed)")
    sha256: str | None
    chosen: Candidate | None = Field(description="E after its final training; without finalists as a candidate")
    accuracy_bound: float | None = Field(description="validation accuracy that E was asked to have")
    bound_kept: bool | None
    finalists: list[Candidate]
    like: Measured | None = Field(description="R' of --recipe-from")
    chance: float = Field(description="mean absolute cosine of random directions of this dimension")
    reference_trained_on: Rate | None = Field(
        default=None, description="validation images that R was trained on; null when its file does not tell"
    )
    run_directory: str
    search: str
    floors: list[float | None] = Field(description="accuracy floor of each rung")
    budget: float = Field(description="full-length candidate trainings that the search was allowed")
    cost: float = Field(description="full-length candidate trainings that it took")
    generations: int
    trainings: list[int] = Field(description="at each rung")
    failed: int
    training_seconds: float = Field(description="of all workers, recorded trainings of earlier starts included")
    draws: Draws
    front: list[Candidate]
    hypervolume: float | None = Field(
        default=None,
        description="area that the front dominates: mean over accuracies in [0, 1] of 1 - the least T_cond at no less",
    )
    members: list[Candidate] = Field(description="all candidates trained to full length")
    baselines: list[Baseline]
    others: list[Other]
    figure: str | None
    figure_architecture: str | None


def flags(result: EvolveResult) -> list[str]:
    """Reasons for suspicion."""
    found = _seen(result.reference_trained_on)
    floor = result.floors[-1]
    best = max((one.measured.accuracy.rate or 0.0 for one in result.members if one.measured is not None), default=0.0)
    if result.members and floor is not None and best < floor:
        found.append(
            f"no candidate reaches the accuracy floor of {100 * floor:.1f} % (the best {100 * best:.1f} %): the search "
            "went by accuracy alone; lower --accuracy-floor or train candidates longer"
        )
    if result.bound_kept is False:
        found.append(f"no finalist reaches {100 * (result.accuracy_bound or 0):.1f} % accuracy: E is the most accurate")
    if result.failed:
        found.append(f"{result.failed} candidate trainings failed: see {result.run_directory}/candidates.jsonl")
    for other in result.others:
        if other.unlike:
            found.append(f"{other.directory}: searched under other terms ({', '.join(other.unlike)}): no fair match")
    e, like = result.chosen.measured if result.chosen is not None else None, result.like
    if e is not None and like is not None and (e.cond.rate or 0.0) >= (like.cond.rate or 0.0):
        counts = f"E on {_counts(e.cond)}, R' on {_counts(like.cond)} held-out images"
        found.append(f"R's adversarial examples fool {counts}: a longer search may find better")
    for name, got in [*((one.id, one.measured) for one in result.finalists), ("R' (--recipe-from)", like)]:
        if got is not None:
            found += _fragile(name, got)
    listed = [*(one.measured for one in result.front), *(one.measured for one in result.baselines)]
    short = [got for got in listed if got is not None]
    noisy = sum(_as_often(got.noise, got.cond) for got in short)
    if noisy:
        found.append(
            f"noise of the same norm fools {noisy} of the {len(short)} networks listed as trained like candidates as "
            "often as R's adversarial examples do: their T_cond is a matter of robustness to noise"
        )
    return found


def _seen(images: Rate | None) -> list[str]:
    if images is None:
        return ["whether R was trained on the validation images cannot be told: T_cond may differ on images new to R"]
    if not images.successes:
        return []
    share = f"{images.successes} of the {images.total}"
    return [
        f"R was trained on {share} validation images, candidates on none: T_cond may differ on images new to R; "
        "measure it on test images with transfer-matrix"
    ]


def _fragile(name: str, got: Measured) -> list[str]:
    found = []
    if _as_often(got.noise, got.cond):
        counts = f"{_counts(got.noise)}, {_counts(got.cond)}"
        found.append(f"{name}: noise of the same norm fools it as often as R's adversarial examples ({counts})")
    if _as_often(got.flipped, got.cond):
        counts = f"{_counts(got.flipped)}, {_counts(got.cond)}"
        found.append(f"{name}: the sign-flipped perturbation fools it as often ({counts}): fragile, not turned away")
    return found


def _as_often(control: Rate, cond: Rate) -> bool:
    return bool(control.successes) and control.successes * cond.total >= cond.successes * control.total


def _counts(rate: Rate) -> str:
    return f"{rate.successes}/{rate.total}"
