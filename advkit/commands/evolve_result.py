"""From a finished campaign to the report of ``evolve``. Imported late: it needs pydantic and torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from advkit.attacks.alignment import chance_level
from advkit.commands import output
from advkit.commands.evolve_run import Campaign
from advkit.evolution import search
from advkit.evolution.search import Record
from advkit.files.checkpoint import read_checkpoint
from advkit.files.errors import InputError
from advkit.files.results_evolve import Baseline, Candidate, Draws, EvolveResult, Measured, Other
from advkit.files.tensors import fingerprint
from advkit.models.genome.genes import from_json
from advkit.models.genome.limits import cost


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
    )


def candidate(campaign: Campaign, record: Record, file: Path | None) -> Candidate:
    """An evolved network as the report tells it."""
    spec = campaign.reference.spec
    found = cost(from_json(record["genome"]), spec.num_classes, spec.input_size)
    return Candidate(
        id=record["id"],
        genome=record["genome"],
        parents=record.get("parents", []),
        born=record.get("generation"),
        parameters=found.parameters,
        multiply_adds=found.multiply_adds,
        measured=measured(record) if record["error"] is None else None,
        error=record["error"],
        file=str(file) if file is not None else None,
    )


def collect(campaign: Campaign, given: dict[str, Any]) -> EvolveResult:
    """The whole run."""
    directory, result, params = campaign.directory, campaign.result, campaign.params
    assert directory is not None
    floor = campaign.floors[-1]
    finals = [
        candidate(campaign, record, directory.weights(record["id"], "final") if record["error"] is None else None)
        for record in campaign.finals
    ]
    choice = campaign.choice
    chosen = next((one for one in finals if choice is not None and one.id == choice.id), None)
    channels, height, width = campaign.images.size
    seconds = sum(float(record.get("seconds", 0.0)) for record in directory.known.values())
    return EvolveResult(
        checkpoint=str(given["out"]) if choice is not None else None,
        sha256=fingerprint(read_checkpoint(given["out"]).tensors) if choice is not None else None,
        chosen=chosen,
        accuracy_bound=choice.bound if choice is not None else None,
        bound_kept=choice.kept if choice is not None else None,
        finalists=finals,
        like=measured(campaign.like) if campaign.like is not None else None,
        chance=chance_level(channels * height * width),
        run_directory=str(directory.path),
        search=params.search,
        floors=campaign.floors,
        budget=float(params.budget),
        cost=params.cost,
        generations=result.generations,
        trainings=result.trainings,
        failed=result.failed,
        training_seconds=round(seconds, 3),
        draws=Draws(**vars(result.counts)),
        front=[
            candidate(campaign, member.record, directory.weights(member.child.id, "front"))
            for member in search.front(result, params, floor)
        ],
        members=[candidate(campaign, member.record, None) for member in result.members],
        baselines=_baselines(campaign),
        others=[_other(campaign, path) for path in given["beside_run"] or []],
        figure=str(given["figure"]) if given["figure"] is not None else None,
        figure_architecture=str(given["figure_architecture"]) if given["figure_architecture"] is not None else None,
    )


def _baselines(campaign: Campaign) -> list[Baseline]:
    architectures = {one.name: one.architecture for one in [campaign.own, *campaign.others]}
    return [
        Baseline(
            name=name,
            architecture=architectures[name],
            parameters=record.get("parameters", 0),
            measured=measured(record) if record["error"] is None else None,
            error=record["error"],
        )
        for name, record in campaign.baselines.items()
    ]


def _other(campaign: Campaign, path: Path) -> Other:
    """Another run directory; its numbers compare only when it measured on the same images under the same attacks.

    Raises:
        InputError: no run directory, damaged, or of another reference, data or attack.
    """
    try:
        settings = json.loads((path / "run.json").read_text(encoding="utf-8"))
        state = json.loads((path / "population.json").read_text(encoding="utf-8"))
        last = f"rung{settings['search']['rungs'] - 1}"
        lines = (path / "candidates.jsonl").read_text(encoding="utf-8").splitlines()
        members = [line for line in map(json.loads, lines) if line["stage"] == last and "genome" in line]
        front = [candidate(campaign, record, None) for record in state["front"]]
        kind = str(settings["search"]["search"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"--beside-run {path}: is no finished run directory of evolve; give one") from error
    same = ("reference", "data", "data_seed", "validation", "validation_images", "attacks")
    differing = [name for name in same if settings.get(name) != json.loads(json.dumps(campaign.settings[name]))]
    if differing:
        raise InputError(f"--beside-run {path}: was measured with another {', '.join(differing)}; it does not compare")
    return Other(directory=str(path), search=kind, front=front, members=len(members))


def flags(result: EvolveResult) -> list[str]:
    """Reasons for suspicion."""
    found = []
    if result.bound_kept is False:
        found.append(f"no finalist reaches {100 * (result.accuracy_bound or 0):.1f} % accuracy: E is the most accurate")
    if result.failed:
        found.append(f"{result.failed} candidate trainings failed: see {result.run_directory}/candidates.jsonl")
    for one in result.finalists:
        got = one.measured
        if got is not None and got.noise.rate and got.cond.rate is not None and got.noise.rate >= got.cond.rate:
            found.append(f"{one.id}: noise of the same norm fools it as often as R's adversarial examples")
        if got is not None and got.flipped.rate and got.cond.rate is not None and got.flipped.rate >= got.cond.rate:
            found.append(f"{one.id}: the sign-flipped perturbation fools it as often: fragile, not turned away")
    return found
