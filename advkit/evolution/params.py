"""The settings of a search, and what they cost."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from advkit.models.genome.limits import Limits

RUNG_FACTOR = 3  # each rung trains on so many times more images than the one before, and keeps one in so many


@dataclass(frozen=True)
class SearchParams:
    """Everything that decides which candidates are proposed and which stay.

    Attributes:
        search: ``evolution`` makes offspring of the population, ``random`` draws every candidate; all else is equal.
        objective: ``front``: NSGA-II on validation accuracy (up) and T_cond (down); ``scalar``: their difference.
        ageing: the oldest of the population leave, not the worst (Real et al. 2019).
        budget: full-length candidate trainings that the whole search may cost.
        population: parents of a generation.
        offspring: candidates proposed in a generation.
        rungs: trainings of growing length; after each but the last, one in three goes on.
        accuracy_floor: validation accuracy below which a candidate loses against every one above; None for
            two points below the reference's own architecture, trained as a candidate.
        inherit: candidates start from their parent's weights where node and shape are unchanged.
        seed: of all randomness.
        limits: what a network may cost.
    """

    search: Literal["evolution", "random"] = "evolution"
    objective: Literal["front", "scalar"] = "front"
    ageing: bool = False
    budget: int = 60
    population: int = 12
    offspring: int = 12
    rungs: int = 2
    accuracy_floor: float | None = None
    inherit: bool = False
    seed: int = 0
    limits: Limits = field(default_factory=Limits)

    def rung_size(self, rung: int) -> int:
        """How many candidates of a generation are trained at ``rung``, counted from 0."""
        count = self.offspring
        for _ in range(rung):
            count = -(-count // RUNG_FACTOR)
        return count

    def rung_fraction(self, rung: int) -> float:
        """Length of a training at ``rung``, as a part of a full-length one."""
        return float(RUNG_FACTOR ** (rung + 1 - self.rungs))

    def length(self, images: int, rung: int) -> int:
        """Training images at ``rung``, of ``images`` at full length."""
        return round(images * self.rung_fraction(rung))

    @property
    def generation_cost(self) -> float:
        """Full-length trainings that a generation costs."""
        return sum(self.rung_size(rung) * self.rung_fraction(rung) for rung in range(self.rungs))

    @property
    def generations(self) -> int:
        """As many as the budget pays for, at least one."""
        return max(1, int(self.budget / self.generation_cost + 1e-9))

    def cost_of(self, trainings: Sequence[int]) -> float:
        """Full-length trainings that so many ``trainings`` at each rung cost."""
        return sum(count * self.rung_fraction(rung) for rung, count in enumerate(trainings))

    @property
    def cost(self) -> float:
        """Full-length trainings that the whole search costs."""
        return self.generations * self.generation_cost


@dataclass(frozen=True)
class SearchRequest:
    """What one run is asked for, besides attacks and how E is trained where no R' says it.

    Attributes:
        reference: MODEL reference of R.
        data: DATA reference.
        out: checkpoint of E to write.
        run_dir: where the run is kept.
        recipe_from: checkpoint of R', by whose recipe E is trained; None without one.
        search: settings of the search.
        begin_with: ARCH references of genomes in the first generation.
        baselines: ARCH references of networks that are trained for comparison.
        compare_runs: directories of other runs.
        candidate_images, candidate_epochs: of a full-length candidate training.
        validation_images: held-out images to measure on, at most.
        finalists: candidates retrained by the whole recipe.
        limit: images taken of the data; None for all. With ``recipe_from`` R' says it.
        download: whether data may be fetched.
        fix_boxes: mend wrong boxes of the data.
        device: where to work.
        workers, ray, threads: see :func:`advkit.parallel.executor.open_executor`.
        candidate_timeout: seconds for a candidate training; None for no limit.
        force: drop another run, replace its checkpoint.
    """

    reference: str
    data: str
    out: Path
    run_dir: Path
    recipe_from: Path | None = None
    search: SearchParams = field(default_factory=SearchParams)
    begin_with: tuple[str, ...] = ()
    baselines: tuple[str, ...] = ()
    compare_runs: tuple[Path, ...] = ()
    candidate_images: int = 5000
    candidate_epochs: int = 3
    validation_images: int = 1000
    finalists: int = 2
    limit: int | None = None
    download: bool = False
    fix_boxes: bool = False
    device: str = "cpu"
    workers: int = 1
    ray: str | None = None
    threads: int = 1
    candidate_timeout: float | None = None
    force: bool = False


def seed_of(run_seed: int, name: str) -> int:
    """The seed of a candidate: a function of the run's and of the candidate's id, never of order or worker."""
    return int.from_bytes(hashlib.sha256(f"{run_seed}:{name}".encode()).digest()[:6], "big")
