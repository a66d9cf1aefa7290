"""From candidates to records: what is recorded is not trained again, the rest goes to the workers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from advkit.evolution.candidate import TrainingJob
from advkit.evolution.offspring import Proposal
from advkit.evolution.params import SearchParams, seed_of
from advkit.evolution.run_directory import RunDirectory
from advkit.evolution.search import Record
from advkit.models.genome.canonical import canonical, canonical_numbering
from advkit.models.genome.genes import Genome, Node, to_json
from advkit.parallel.executor import Executor

ARCHITECTURE = "advkit/genome"


@dataclass(frozen=True)
class RecordedJob:
    """A job with what its record says besides the result.

    Attributes:
        job: the work.
        stage: ``rungN`` or ``final``.
        about: for the record.
        effort: about how long it takes, in a unit of its batch.
    """

    job: TrainingJob
    stage: str
    about: dict[str, Any]
    effort: float = 0.0


@dataclass
class TrainingScheduler:
    """Trains what the search asks for.

    Attributes:
        directory: where records and weights go.
        executor: who works.
        params: settings of the search.
        images: training images of a full-length candidate training.
        epochs: of every candidate training.
        multiply_adds: of a genome.
        show: told after every training.
    """

    directory: RunDirectory
    executor: Executor
    params: SearchParams
    images: int
    epochs: int
    multiply_adds: Callable[[Genome], int]
    show: Callable[[Record], None]

    def __post_init__(self) -> None:
        self._genomes: dict[str, Genome] = {}

    def __call__(self, children: Sequence[Proposal], rung: int, generation: int) -> list[Record]:
        """Records of ``children`` at ``rung``, in their order: the search's ``measure``."""
        for child in children:
            self._genomes[child.id] = child.genome
        return self.run([self._trial(child, rung, generation) for child in children])

    def baseline(self, name: str, architecture: str, model_args: dict[str, Any], rung: int) -> RecordedJob:
        """An architecture made by hand, trained as a candidate is."""
        job = TrainingJob(
            id=name,
            architecture=architecture,
            model_args=model_args,
            images=self.params.length(self.images, rung),
            epochs=self.epochs,
            seed=seed_of(self.params.seed, name),
        )
        about = {"architecture": architecture, "model_args": dict(model_args), "origin": "hand-made"}
        return RecordedJob(job, f"rung{rung}", about, job.images or 0)

    def final(self, child: Proposal, epochs: int, seed: int) -> RecordedJob:
        """A finalist, from scratch, by the whole recipe."""
        job = TrainingJob(
            id=child.id,
            architecture=ARCHITECTURE,
            model_args=_model_args(child),
            images=None,
            epochs=epochs,
            seed=seed,
            recorded=False,
            state=str(self.directory.path / "final" / f"{child.id}.resume.safetensors"),
            weights=str(self.directory.weights(child.id, "final")),
        )
        return RecordedJob(job, "final", {"genome": _model_args(child)["genome"]}, self.multiply_adds(child.genome))

    def run(self, trials: Sequence[RecordedJob], *, again: bool = False) -> list[Record]:
        """Records of ``trials``, in their order.

        Args:
            trials: what to train.
            again: whether those are tried again that failed when the command was given before.
        """
        known = self.directory.known

        def paid(trial: RecordedJob) -> bool:
            record = known.get((trial.job.id, trial.stage))
            if record is None or (again and record["error"]):
                return False
            # A hand-made network goes by a name, which may have come to mean another one.
            return bool(record.get("model_args") == trial.about.get("model_args"))

        missing = [trial for trial in trials if not paid(trial)]
        missing.sort(key=lambda trial: -trial.effort)  # the longest first: nobody waits long for the last one
        for outcome in self.executor.map([trial.job for trial in missing]):
            trial = missing[outcome.item]
            result = outcome.value or {"error": outcome.error, "seconds": round(outcome.seconds, 3)}
            record = {"id": trial.job.id, "stage": trial.stage, "attempts": outcome.attempts, **trial.about, **result}
            self.directory.add(record)
            self.show(record)
        return [known[trial.job.id, trial.stage] for trial in trials]

    def _trial(self, child: Proposal, rung: int, generation: int) -> RecordedJob:
        last = rung + 1 == self.params.rungs
        job = TrainingJob(
            id=child.id,
            architecture=ARCHITECTURE,
            model_args=_model_args(child),
            images=self.params.length(self.images, rung),
            epochs=self.epochs,
            seed=seed_of(self.params.seed, child.id),
            controls=last,
            weights=str(self.directory.weights(child.id)) if last else None,
        )
        parent = self._genomes.get(child.parents[0]) if child.parents and self.params.inherit else None
        if parent is not None:
            start = str(self.directory.weights(child.parents[0]))
            job = replace(job, start=start, carry=inherited_weights(parent, child.genome))
        about = {"generation": generation, "parents": list(child.parents), "genome": job.model_args["genome"]}
        return RecordedJob(job, f"rung{rung}", about, self.multiply_adds(child.genome))


def _model_args(child: Proposal) -> dict[str, Any]:
    return {"genome": to_json(canonical(child.genome))}


def inherited_weights(parent: Genome, child: Genome) -> tuple[tuple[str, str], ...]:
    """Prefixes of tensor names (in the parent, in the child) of the parts whose genes are unchanged.

    A node counts as unchanged when all but its inputs is: whether the shapes still fit is seen when they are loaded.
    """
    theirs, ours = canonical_numbering(parent), canonical_numbering(child)
    before = {node.id: node for node in parent.nodes}
    pairs = []
    if parent.stem == child.stem:
        pairs.append(("stem.", "stem."))
    for node in child.nodes:
        if node.id in ours and node.id in theirs and _alike(node, before[node.id]):
            pairs.append((f"nodes.{theirs[node.id]}.", f"nodes.{ours[node.id]}."))
    if parent.head == child.head:
        pairs.append(("head.", "head."))
    return tuple(pairs)


def _alike(a: Node, b: Node) -> bool:
    return replace(a, inputs=(), merge="") == replace(b, inputs=(), merge="")
