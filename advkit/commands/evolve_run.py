"""The order of events of ``evolve``: bench, baselines, search, finalists. Imported late: it needs torch."""

from __future__ import annotations

import hashlib
import signal
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from advkit.commands import evolve_setup, options, output
from advkit.commands.evolve_setup import BaselineArchitecture, Recipe
from advkit.commands.evolve_text import Display
from advkit.data.images import ImageSet
from advkit.evolution import compared_runs as beside
from advkit.evolution import final_selection, search
from advkit.evolution.adversarial_sets import make_missing
from advkit.evolution.candidate import evaluate
from advkit.evolution.evaluation_context import ContextSpec, open_context, open_parts, sample
from advkit.evolution.gradient_cache import record, recordable
from advkit.evolution.measure import measure
from advkit.evolution.offspring import Space
from advkit.evolution.params import SearchParams
from advkit.evolution.run_directory import RunDirectory
from advkit.evolution.search import Record
from advkit.evolution.settings_diff import settings_diff
from advkit.evolution.training_scheduler import TrainingScheduler
from advkit.files.checkpoint import canonical_json, read_checkpoint
from advkit.files.errors import InputError, Interrupted
from advkit.models import reference as model_reference
from advkit.models.genome.genes import Genome
from advkit.models.genome.limits import cost
from advkit.models.network import Network
from advkit.parallel.executor import Executor, Task, open_executor
from advkit.reports.envelope import Input


@dataclass
class SearchRun:
    """Everything about one run, filled in as it goes on.

    Attributes:
        params, recipe, reference, images, settings: what was asked.
        spec: how workers open the bench.
        first, own, others: given genomes, R's architecture, architectures beside.
        runs: other runs, to be shown beside.
        like: R' on the validation images.
        floors: of each rung.
        baselines: names to records, full length.
        result: of the search.
        finals: records of the finalists.
        choice: which of them is E.
    """

    params: SearchParams
    recipe: Recipe
    reference: Network
    images: ImageSet
    settings: dict[str, Any]
    spec: ContextSpec
    first: list[Genome]
    own: BaselineArchitecture
    others: list[BaselineArchitecture]
    runs: list[beside.OtherRun]
    directory: RunDirectory | None = None
    like: Record | None = None
    floors: list[float | None] = field(default_factory=list)
    baselines: dict[str, Record] = field(default_factory=dict)
    result: search.Result = field(default_factory=search.Result)
    finals: list[Record] = field(default_factory=list)
    choice: final_selection.Choice | None = None

    @property
    def run_id(self) -> str:
        """Hash of the settings: marks what this run wrote."""
        return hashlib.sha256(canonical_json(self.settings).encode()).hexdigest()

    def inputs(self) -> list[Input]:
        """For the report."""
        like = [output.model_input(self.recipe.like, "like")] if self.recipe.like is not None else []
        return [output.model_input(self.reference, "R"), *like, output.data_input(self.images)]


def prepare(given: dict[str, Any], device: str) -> SearchRun:
    """Open and check everything; nothing is written yet."""
    params = evolve_setup.search_params(given)
    reference = model_reference.load(given["reference"], device=device)
    recipe = evolve_setup.recipe(given, reference, device)
    spec = evolve_setup.context_spec(given, recipe, reference, device)
    images, training, validation = open_parts(spec)
    if reference.spec.num_classes != images.num_classes or reference.spec.input_size != images.size:
        size, wanted = ("x".join(map(str, s)) for s in (images.size, reference.spec.input_size))
        raise InputError(
            f"{given['reference']}: takes {wanted} images of {reference.spec.num_classes} classes, {given['data']} has "
            f"{size} of {images.num_classes}; use data that it was made for"
        )
    if images.split == "test":
        raise InputError(f"{given['data']}: are test images, which evolve would choose on; give the training split")
    evolve_setup.check_like(given, recipe, images)
    if len(validation) == 0:
        if not recipe.validation:
            raise InputError(f"--like {given['like']}: was trained with --validation 0; train it with a part held out")
        raise InputError(f"{given['data']}: no image is held out to choose on; give more images")
    length = min(given["candidate_images"], len(training))  # rungs are parts of what there is
    given, spec = {**given, "candidate_images": length}, replace(spec, images=length)
    few = params.length(length, 0)
    if few < recipe.params.batch_size:
        raise InputError(
            f"--candidate-images {length}: the first rung has {few} images, less than a batch of "
            f"{recipe.params.batch_size}; raise it or lower --rungs"
        )
    own, others = evolve_setup.baselines(given, reference)
    first = evolve_setup.first_genomes(given, reference, params.limits)
    attacks = [attack.to_json() for attack in _attacks(given, recipe.data_seed)]
    settings = evolve_setup.settings(given, params, recipe, reference, images, attacks, first, device)
    runs = [beside.read(path, settings) for path in given["beside_run"] or []]
    return SearchRun(params, recipe, reference, images, settings, spec, first, own, others, runs)


def _attacks(given: dict[str, Any], seed: int) -> list[Any]:
    """The attacks on R, by the seed of the images: searches of several seeds see the same examples."""
    defaults = {
        "step_size": None,
        "loss": None,
        "target": None,
        "random_start": None,
        "restarts": 1,
        "precision": "float32",
    }
    names = given["method"] or ["pgd", "mi,di"]
    found = [options.attack_params({**defaults, **given, "seed": seed}, name, "transfer") for name in names]
    if len({attack.method.name for attack in found}) < len(found):
        raise InputError(f"--method: {', '.join(names)}: one of them twice; drop it")
    return found


def run(search_run: SearchRun, given: dict[str, Any]) -> None:
    """Run, or go on with, the campaign; fills in its results and writes E."""
    _refuse_foreign(search_run, given)
    torch.set_num_threads(given["threads"])  # what is made here is part of the result as what workers make
    if given["ray"] is not None:  # nothing is written for a cluster that is not there
        with _engine(search_run, given, None):
            pass
    path = given["run_dir"] or evolve_setup.default_run_dir(given["out"])
    directory = RunDirectory(path, search_run.settings, settings_diff=settings_diff, force=given["force"])
    search_run.directory = directory
    try:
        with Display(search_run, given["quiet"]) as display:
            _furnish(search_run, given, directory)
            if search_run.recipe.like is not None:
                search_run.like = measure(open_context(search_run.spec), search_run.recipe.like) | {"error": None}
            _search(search_run, directory, display, given)
            _finish(search_run, directory, display, given)
    except (KeyboardInterrupt, Interrupted) as error:
        number = error.signum if isinstance(error, Interrupted) else signal.SIGINT
        raise Interrupted(number, f"{directory.path} is kept; the same command goes on") from None
    if search_run.choice is not None:
        folder = "final" if given["finalists"] else "front"
        final_selection.write_chosen(directory, search_run.choice, folder, given["out"], search_run.run_id)


def _furnish(search_run: SearchRun, given: dict[str, Any], directory: RunDirectory) -> None:
    """Make what all candidates share: R's adversarial examples, and R's gradients along their training."""
    data, training, validation = open_parts(search_run.spec)
    attacks = _attacks(given, search_run.spec.data_seed)
    described = list(zip(attacks, search_run.settings["attacks"], strict=True))
    device, params = search_run.spec.device, search_run.recipe.params
    adversarial = make_missing(directory.path, search_run.reference, validation, described, device)
    search_run.spec = replace(search_run.spec, adversarial=adversarial)
    if recordable(params):
        positions = sample(data, training, search_run.spec.images, search_run.spec.data_seed)
        path = directory.path / "gradients.safetensors"
        record(path, search_run.reference, data, positions, replace(params, epochs=search_run.spec.epochs), device)
        search_run.spec = replace(search_run.spec, gradients=str(path))


def _engine(search_run: SearchRun, given: dict[str, Any], timeout: float | None) -> Any:
    return open_executor(
        Task(open_context, (search_run.spec,), evaluate),
        workers=given["workers"],
        ray=given["ray"],
        threads=given["threads"],
        timeout=timeout,
        gpus=int(search_run.spec.device.startswith("cuda")),
    )


def _trainings(
    search_run: SearchRun,
    directory: RunDirectory,
    engine: Executor,
    given: dict[str, Any],
    show: Callable[[Record], None],
) -> TrainingScheduler:
    spec, length = search_run.reference.spec, search_run.spec.images

    def multiply_adds(genome: Genome) -> int:
        return cost(genome, spec.num_classes, spec.input_size).multiply_adds

    return TrainingScheduler(
        directory, engine, search_run.params, length, given["candidate_epochs"], multiply_adds, show
    )


def _search(search_run: SearchRun, directory: RunDirectory, display: Display, given: dict[str, Any]) -> None:
    """Floors without a time limit, then the search under it."""
    params, spec = search_run.params, search_run.reference.spec
    with _engine(search_run, given, None) as engine:
        _measure_baselines(search_run, _trainings(search_run, directory, engine, given, display.trained))

    def after(result: search.Result) -> None:
        search_run.result = result
        display.generation(result)
        if result.generations <= directory.newest():
            return  # gone through again: what later generations need must stay
        directory.save_population(_state(search_run, result))
        wanted = {member.child.id for member in search.front(result, params, search_run.floors[-1])}
        directory.keep_weights(wanted | {result.members[place].child.id for place in result.population})

    with _engine(search_run, given, given["candidate_timeout"]) as engine:
        trainings = _trainings(search_run, directory, engine, given, display.trained)
        space = Space(spec.num_classes, spec.input_size, params.limits)
        search_run.result = search.run(params, space, search_run.first, search_run.floors, trainings, after)
    directory.save_population(_state(search_run, search_run.result, finished=True))
    final_selection.write_front(directory, search.front(search_run.result, params, search_run.floors[-1]))


def _finish(search_run: SearchRun, directory: RunDirectory, display: Display, given: dict[str, Any]) -> None:
    """Finalists by the whole recipe, and the choice among them; without finalists the best candidate as it is."""
    params, final, floor = search_run.params, search_run.recipe.params, search_run.floors[-1]
    if not given["finalists"]:
        front = search.front(search_run.result, params, floor)
        members = search.finalists(search_run.result, params, floor, 1, among=front)
        search_run.choice = final_selection.choose([member.record for member in members], None)
        return
    chosen = search.finalists(search_run.result, params, floor, given["finalists"])
    if chosen:
        with _engine(search_run, given, None) as engine:
            trainings = _trainings(search_run, directory, engine, given, display.trained)
            trials = [trainings.final(member.child, final.epochs, final.seed) for member in chosen]
            search_run.finals = trainings.run(trials, again=True)
    rival = search.accuracy(search_run.like) if search_run.like is not None else None
    search_run.choice = final_selection.choose(search_run.finals, rival)


def _measure_baselines(search_run: SearchRun, trainings: TrainingScheduler) -> None:
    """R's architecture as a candidate, at every rung, sets the floors; those beside are trained at full length.

    A floor that the user gives holds for the last rung; at the others it lies as far from R' as there.
    """
    params, own = search_run.params, search_run.own
    last = params.rungs - 1
    trials = [trainings.baseline(one.name, one.architecture, one.model_args, last) for one in search_run.others]
    records = trainings.run(trials, again=True)
    search_run.baselines = {one.name: record for one, record in zip(search_run.others, records, strict=True)}
    if ".py:" in own.architecture:  # not rebuilt: prepare has seen to it that there is a floor
        search_run.floors = [*(None for _ in range(last)), params.accuracy_floor]
        return
    trials = [trainings.baseline(own.name, own.architecture, own.model_args, rung) for rung in range(params.rungs)]
    records = trainings.run(trials, again=True)
    search_run.baselines[own.name] = records[-1]
    failed = next((record["error"] for record in records if record["error"]), None)
    if failed is not None and params.accuracy_floor is None:
        raise InputError(f"R's own architecture could not be trained as a candidate ({failed}); give --accuracy-floor")
    if failed is not None:
        search_run.floors = [*(None for _ in range(last)), params.accuracy_floor]
        return
    search_run.floors = list(
        final_selection.floors([search.accuracy(record) for record in records], params.accuracy_floor)
    )


def _state(search_run: SearchRun, result: search.Result, *, finished: bool = False) -> dict[str, Any]:
    """What ``population.json`` says: nothing that equal searches may differ in, such as times and retries."""

    def one(member: search.Individual) -> dict[str, Any]:
        kept = {k: v for k, v in member.record.items() if not k.endswith("seconds") and k != "attempts"}
        return kept | {"born": member.generation}

    members = search.front(result, search_run.params, search_run.floors[-1])
    return {
        "generation": result.generations,
        "generations": search_run.params.generations,
        "floors": search_run.floors,
        "population": [one(result.members[place]) for place in result.population],
        "front": [one(member) for member in members],
        "counts": vars(result.counts),
        "cost": search_run.params.cost_of(result.trainings),
        "finished": finished,
        "failed": result.failed,
        "trainings": result.trainings,
    }


def _refuse_foreign(search_run: SearchRun, given: dict[str, Any]) -> None:
    """Another run's checkpoint (or another file) is not replaced unasked."""
    out = given["out"]
    if not out.exists() or given["force"]:
        return
    try:
        same = read_checkpoint(out).meta.get("settings") == {"evolve": search_run.run_id}
    except InputError as error:
        raise InputError(f"{out}: exists and is no checkpoint of this run; --force replaces it") from error
    if not same:
        raise InputError(f"{out}: holds the checkpoint of another run; choose another name or --force")


def time_candidate(search_run: SearchRun, given: dict[str, Any]) -> Record:
    """Train one candidate at the first rung, in a directory that is thrown away: what a dry run tells the time by."""
    import tempfile
    from pathlib import Path

    from advkit.evolution.offspring import DrawCounts, generator, unseen_child
    from advkit.evolution.variation import random_genome

    spec = search_run.reference.spec
    space = Space(spec.num_classes, spec.input_size, search_run.params.limits)
    rng, seen = generator(search_run.params.seed, 0), set[str]()
    drawn = [unseen_child(lambda: (random_genome(rng), ()), space, seen, DrawCounts()) for _ in range(15)]
    found = [child for child in drawn if child is not None]
    if not found:
        raise InputError("no network keeps --max-parameters and --max-multiply-adds; raise them")
    found.sort(key=lambda child: cost(child.genome, spec.num_classes, spec.input_size).multiply_adds)
    with tempfile.TemporaryDirectory() as folder:
        directory = RunDirectory(Path(folder) / "run", search_run.settings)
        _furnish(search_run, given, directory)
        alone = {**given, "workers": 1, "ray": None}
        with _engine(search_run, alone, None) as engine:
            trainings = _trainings(search_run, directory, engine, given, lambda record: None)
            return trainings([found[len(found) // 2]], 0, 0)[0]
