"""From a finished campaign to the report of ``evolve``. Imported late: it needs pydantic and torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from advkit.commands import output
from advkit.commands.evolve_run import SearchRun
from advkit.evolution import search
from advkit.evolution.compared_runs import OtherRun
from advkit.evolution.search import Record
from advkit.files.checkpoint import read_checkpoint
from advkit.files.tensors import fingerprint
from advkit.metrics.gradient_similarity import expected_abs_cosine
from advkit.models.genome.genes import from_json
from advkit.models.genome.limits import cost
from advkit.reports.results import Rate
from advkit.reports.results_evolve import Baseline, Candidate, Draws, EvolveResult, Measured, Other


def measured(record: Record) -> Measured:
    """A record's counts as rates with intervals."""
    return Measured(
        accuracy=output.rate(*record["validation"]),
        cond=output.rate(*record["cond"]),
        both=output.rate(*record["both"]),
        by_method=[output.rate(*counts) for counts in record["by_method"]],
        flipped=output.rate(*record["flipped"]),
        noise=output.rate(*record["noise"]),
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
        generation=before.get("generation"),
        parameters=found.parameters,
        multiply_adds=found.multiply_adds,
        measured=measured(record) if record["error"] is None else None,
        error=record["error"],
        file=str(file) if file is not None else None,
    )


def collect(search_run: SearchRun, given: dict[str, Any]) -> EvolveResult:
    """The whole run."""
    directory, result, params = search_run.directory, search_run.result, search_run.params
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
    rivals = search_run.like is not None or len(finals) > 1  # the only one is as accurate as itself
    chosen = next((one for one in (finals if given["finalists"] else front) if one.id == wanted), None)
    channels, height, width = search_run.images.size
    seconds = sum(float(record.get("seconds", 0.0)) for record in directory.known.values())
    return EvolveResult(
        checkpoint=str(given["out"]) if choice is not None else None,
        sha256=fingerprint(read_checkpoint(given["out"]).tensors) if choice is not None else None,
        chosen=chosen,
        accuracy_bound=choice.bound if choice is not None and rivals else None,
        bound_kept=choice.kept if choice is not None and rivals else None,
        finalists=finals,
        like=measured(search_run.like) if search_run.like is not None else None,
        chance=expected_abs_cosine(channels * height * width),
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
        figure=str(given["figure"]) if given["figure"] and result.members else None,
        figure_architecture=str(given["figure_architecture"]) if given["figure_architecture"] and chosen else None,
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


def _other(search_run: SearchRun, run: OtherRun) -> Other:
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


def flags(result: EvolveResult) -> list[str]:
    """Reasons for suspicion."""
    found = []
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
        counts = f"{_counts(e.cond)} of R's adversarial examples, R' {_counts(like.cond)}"
        found.append(f"E takes over {counts} (held-out images): a longer search may find better")
    for name, got in [*((one.id, one.measured) for one in result.finalists), ("R' (--like)", like)]:
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
