"""What the report of ``evolve`` says under ``result``."""

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
    generation: int | None = Field(description="generation, from 0")
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

    checkpoint: str | None = Field(description="E; null when no finalist could be trained")
    sha256: str | None
    chosen: Candidate | None = Field(description="E after its final training; without finalists as a candidate")
    accuracy_bound: float | None = Field(description="validation accuracy that E was asked to have")
    bound_kept: bool | None
    finalists: list[Candidate]
    like: Measured | None = Field(description="R' of --like")
    chance: float = Field(description="mean absolute cosine of random directions of this dimension")
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
