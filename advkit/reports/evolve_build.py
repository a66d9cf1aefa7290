"""From a finished search to the result that the report of ``evolve`` tells. Imported late: it needs torch."""

from __future__ import annotations

from pathlib import Path

from advkit.evolution import search
from advkit.evolution.compared_runs import ComparedRun
from advkit.evolution.search import Record
from advkit.evolution.search_run import SearchRun
from advkit.files.checkpoint import read_checkpoint
from advkit.files.tensors import fingerprint
from advkit.metrics.gradient_similarity import expected_abs_cosine
from advkit.models.genome.genes import from_json
from advkit.models.genome.limits import cost
from advkit.reports.evolve import Baseline, Candidate, Draws, EvolveResult, Measured, Other
from advkit.reports.rates import Rate, rate


def measured(record: Record) -> Measured:
    """A record's counts as rates with intervals."""
    return Measured(
        accuracy=rate(*record["validation"]),
        cond=rate(*record["cond"]),
        both=rate(*record["both"]),
        by_method=[rate(*counts) for counts in record["by_method"]],
        flipped=rate(*record["flipped"]),
        noise=rate(*record["noise"]),
        cosine=record["cosine"],
        absolute_cosine=record["absolute_cosine"],
        cosine_images=record["cosine_images"],
    )


def candidate(search_run: SearchRun, record: Record, file: Path | None) -> Candidate:
    """An evolved network as the report tells it; a finalist's descent is that of the candidate that it was."""
    spec = search_run.reference.spec
    before = {member.child.id: member.record for member in search_run.result.members}.get(record["id"], record)
    found = cost(from_json(record["genome"]), spec.num_classes, spec.input_size)
    return Candidate(
        id=record["id"],
        genome=record["genome"],
        parents=before.get("parents", []),
        born=before.get("generation"),
        parameters=found.parameters,
        multiply_adds=found.multiply_adds,
        measured=measured(record) if record["error"] is None else None,
        error=record["error"],
        file=str(file) if file is not None else None,
    )


def collect(search_run: SearchRun, figure: Path | None, figure_architecture: Path | None) -> EvolveResult:
    """The whole run, and the figures that are drawn of it where there is anything to draw."""
    directory, result, request, params = search_run.directory, search_run.result, search_run.request, search_run.params
    assert directory is not None
    floor = search_run.floors[-1]
    finals = [
        candidate(search_run, record, directory.weights(record["id"], "final") if record["error"] is None else None)
        for record in search_run.finals
    ]
    choice = search_run.choice
    front = [
        candidate(search_run, member.record, directory.weights(member.child.id, "front"))
        for member in search.front(result, params, floor)
    ]
    wanted = choice.id if choice is not None else None
    rivals = search_run.r_prime is not None or len(finals) > 1  # the only one is as accurate as itself
    chosen = next((one for one in (finals if request.finalists else front) if one.id == wanted), None)
    channels, height, width = search_run.images.size
    seconds = sum(float(record.get("seconds", 0.0)) for record in directory.known.values())
    return EvolveResult(
        checkpoint=str(request.out) if choice is not None else None,
        sha256=fingerprint(read_checkpoint(request.out).tensors) if choice is not None else None,
        chosen=chosen,
        accuracy_bound=choice.bound if choice is not None and rivals else None,
        bound_kept=choice.kept if choice is not None and rivals else None,
        finalists=finals,
        like=measured(search_run.r_prime) if search_run.r_prime is not None else None,
        chance=expected_abs_cosine(channels * height * width),
        reference_trained_on=_trained_on(search_run),
        run_directory=str(directory.path),
        search=params.search,
        floors=search_run.floors,
        budget=float(params.budget),
        cost=params.cost_of(result.trainings),
        generations=result.generations,
        trainings=result.trainings,
        failed=result.failed,
        training_seconds=round(seconds, 3),
        draws=Draws(**vars(result.counts)),
        front=front,
        hypervolume=search.hypervolume([member.record for member in search.front(result, params, floor)]),
        members=[candidate(search_run, member.record, None) for member in result.members],
        baselines=_baselines(search_run),
        others=[_other(search_run, run) for run in search_run.runs],
        figure=str(figure) if figure and result.members else None,
        figure_architecture=str(figure_architecture) if figure_architecture and chosen else None,
    )


def _baselines(search_run: SearchRun) -> list[Baseline]:
    architectures = {one.name: one.architecture for one in [search_run.own, *search_run.others]}
    return [
        Baseline(
            name=name,
            architecture=architectures[name],
            parameters=record.get("parameters", 0),
            measured=measured(record) if record["error"] is None else None,
            error=record["error"],
        )
        for name, record in search_run.baselines.items()
    ]


def _other(search_run: SearchRun, run: ComparedRun) -> Other:
    front = [candidate(search_run, record, None) for record in run.front]
    return Other(
        directory=str(run.path),
        search=run.search,
        front=front,
        hypervolume=search.hypervolume(run.front),
        members=run.members,
        cost=run.cost,
        unlike=run.unlike,
    )


def _trained_on(search_run: SearchRun) -> Rate | None:
    return rate(search_run.seen, len(search_run.parts.validation)) if search_run.seen is not None else None


def failure(search_run: SearchRun) -> str:
    """Why there is no E, and what to change."""
    directory = search_run.directory
    assert directory is not None
    records = [record for record in directory.known.values() if "genome" in record]  # a baseline has none
    if not records:
        return "no network keeps --max-parameters and --max-multiply-adds; raise them"
    last = max(record["stage"] for record in records if record["stage"] != "final")
    records = search_run.finals or [record for record in records if record["stage"] == last]
    if any(record["error"] is None and search.transfer(record) is None for record in records):
        return (
            "there is nothing to measure T_cond on (0/0): R's attack fooled none of the "
            f"{len(search_run.parts.validation)} validation images that R and a candidate get right; give a larger "
            "--eps, more --validation-images, a stronger --method, or train candidates longer"
        )
    return f"no candidate could be trained; see {directory.path}/candidates.jsonl"
