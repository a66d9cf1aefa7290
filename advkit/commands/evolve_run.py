"""The order of events of ``evolve``: bench, baselines, search, finalists. Imported late: it needs torch."""

from __future__ import annotations

import hashlib
import signal
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from advkit.commands import evolve_beside as beside
from advkit.commands import evolve_setup, options, output
from advkit.commands.evolve_changed import changed
from advkit.commands.evolve_setup import Baseline, Recipe
from advkit.commands.evolve_text import Display
from advkit.data.images import ImageSet
from advkit.engines.engine import Engine, Task, open_engine
from advkit.evolution import finish, search
from advkit.evolution.adversaries import make_missing
from advkit.evolution.bench import BenchSpec, open_bench, open_parts, sample
from advkit.evolution.candidate import evaluate
from advkit.evolution.gradients import record, recordable
from advkit.evolution.measure import measure
from advkit.evolution.offspring import Space
from advkit.evolution.params import SearchParams
from advkit.evolution.records import RunDirectory
from advkit.evolution.search import Record
from advkit.evolution.trainings import Trainings
from advkit.files.checkpoint import dump, read_checkpoint
from advkit.files.errors import InputError, Interrupted
from advkit.files.report import Input
from advkit.models import reference as model_reference
from advkit.models.genome.genes import Genome
from advkit.models.genome.limits import cost
from advkit.models.network import Network


@dataclass
class Campaign:
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
    spec: BenchSpec
    first: list[Genome]
    own: Baseline
    others: list[Baseline]
    runs: list[beside.OtherRun]
    directory: RunDirectory | None = None
    like: Record | None = None
    floors: list[float | None] = field(default_factory=list)
    baselines: dict[str, Record] = field(default_factory=dict)
    result: search.Result = field(default_factory=search.Result)
    finals: list[Record] = field(default_factory=list)
    choice: finish.Choice | None = None

    @property
    def run_id(self) -> str:
        """Hash of the settings: marks what this run wrote."""
        return hashlib.sha256(dump(self.settings).encode()).hexdigest()

    def inputs(self) -> list[Input]:
        """For the report."""
        like = [output.model_input(self.recipe.like, "like")] if self.recipe.like is not None else []
        return [output.model_input(self.reference, "R"), *like, output.data_input(self.images)]


def prepare(given: dict[str, Any], device: str) -> Campaign:
    """Open and check everything; nothing is written yet."""
    params = evolve_setup.search_params(given)
    reference = model_reference.load(given["reference"], device=device)
    recipe = evolve_setup.recipe(given, reference, device)
    spec = evolve_setup.bench_spec(given, recipe, reference, device)
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
    attacks = [options.params_json(attack) for attack in _attacks(given, recipe.data_seed)]
    settings = evolve_setup.settings(given, params, recipe, reference, images, attacks, first, device)
    runs = [beside.read(path, settings) for path in given["beside_run"] or []]
    return Campaign(params, recipe, reference, images, settings, spec, first, own, others, runs)


def _attacks(given: dict[str, Any], seed: int) -> list[Any]:
    """The attacks on R, by the seed of the images: searches of several seeds see the same examples."""
    defaults = {
        "step_size": None,
        "loss": "ce",
        "target": None,
        "random_start": None,
        "restarts": 1,
        "decay": 1.0,
        "di_probability": 0.5,
        "di_shrink": 0.9,
        "ti_kernel": None,
        "si_scales": 5,
        "precision": "float32",
    }
    names = given["method"] or ["pgd", "mi,di"]
    found = [options.attack_params({**defaults, **given, "seed": seed}, name, "transfer") for name in names]
    if len({attack.method.name for attack in found}) < len(found):
        raise InputError(f"--method: {', '.join(names)}: one of them twice; drop it")
    return found


def carry_out(campaign: Campaign, given: dict[str, Any]) -> None:
    """Run, or go on with, the campaign; fills in its results and writes E."""
    _refuse_foreign(campaign, given)
    torch.set_num_threads(given["threads"])  # what is made here is part of the result as what workers make
    if given["ray"] is not None:  # nothing is written for a cluster that is not there
        with _engine(campaign, given, None):
            pass
    path = given["run_dir"] or evolve_setup.default_run_dir(given["out"])
    directory = RunDirectory(path, campaign.settings, changed=changed, force=given["force"])
    campaign.directory = directory
    try:
        with Display(campaign, given["quiet"]) as display:
            _furnish(campaign, given, directory)
            if campaign.recipe.like is not None:
                campaign.like = measure(open_bench(campaign.spec), campaign.recipe.like) | {"error": None}
            _search(campaign, directory, display, given)
            _finish(campaign, directory, display, given)
    except (KeyboardInterrupt, Interrupted) as error:
        number = error.signum if isinstance(error, Interrupted) else signal.SIGINT
        raise Interrupted(number, f"{directory.path} is kept; the same command goes on") from None
    if campaign.choice is not None:
        folder = "final" if given["finalists"] else "front"
        finish.write_chosen(directory, campaign.choice, folder, given["out"], campaign.run_id)


def _furnish(campaign: Campaign, given: dict[str, Any], directory: RunDirectory) -> None:
    """Make what all candidates share: R's adversarial examples, and R's gradients along their training."""
    data, training, validation = open_parts(campaign.spec)
    attacks = _attacks(given, campaign.spec.data_seed)
    described = list(zip(attacks, campaign.settings["attacks"], strict=True))
    device, params = campaign.spec.device, campaign.recipe.params
    adversarial = make_missing(directory.path, campaign.reference, validation, described, device)
    campaign.spec = replace(campaign.spec, adversarial=adversarial)
    if recordable(params):
        positions = sample(data, training, campaign.spec.images, campaign.spec.data_seed)
        path = directory.path / "gradients.safetensors"
        record(path, campaign.reference, data, positions, replace(params, epochs=campaign.spec.epochs), device)
        campaign.spec = replace(campaign.spec, gradients=str(path))


def _engine(campaign: Campaign, given: dict[str, Any], timeout: float | None) -> Any:
    return open_engine(
        Task(open_bench, (campaign.spec,), evaluate),
        workers=given["workers"],
        ray=given["ray"],
        threads=given["threads"],
        timeout=timeout,
        gpus=int(campaign.spec.device.startswith("cuda")),
    )


def _trainings(
    campaign: Campaign, directory: RunDirectory, engine: Engine, given: dict[str, Any], show: Callable[[Record], None]
) -> Trainings:
    spec, length = campaign.reference.spec, campaign.spec.images

    def multiply_adds(genome: Genome) -> int:
        return cost(genome, spec.num_classes, spec.input_size).multiply_adds

    return Trainings(directory, engine, campaign.params, length, given["candidate_epochs"], multiply_adds, show)


def _search(campaign: Campaign, directory: RunDirectory, display: Display, given: dict[str, Any]) -> None:
    """Floors without a time limit, then the search under it."""
    params, spec = campaign.params, campaign.reference.spec
    with _engine(campaign, given, None) as engine:
        _measure_baselines(campaign, _trainings(campaign, directory, engine, given, display.trained))

    def after(result: search.Result) -> None:
        campaign.result = result
        display.generation(result)
        if result.generations <= directory.newest():
            return  # gone through again: what later generations need must stay
        directory.save_population(_state(campaign, result))
        wanted = {member.child.id for member in search.front(result, params, campaign.floors[-1])}
        directory.keep_weights(wanted | {result.members[place].child.id for place in result.population})

    with _engine(campaign, given, given["candidate_timeout"]) as engine:
        trainings = _trainings(campaign, directory, engine, given, display.trained)
        space = Space(spec.num_classes, spec.input_size, params.limits)
        campaign.result = search.run(params, space, campaign.first, campaign.floors, trainings, after)
    directory.save_population(_state(campaign, campaign.result, finished=True))
    finish.write_front(directory, search.front(campaign.result, params, campaign.floors[-1]))


def _finish(campaign: Campaign, directory: RunDirectory, display: Display, given: dict[str, Any]) -> None:
    """Finalists by the whole recipe, and the choice among them; without finalists the best candidate as it is."""
    params, final, floor = campaign.params, campaign.recipe.params, campaign.floors[-1]
    if not given["finalists"]:
        front = search.front(campaign.result, params, floor)
        members = search.finalists(campaign.result, params, floor, 1, among=front)
        campaign.choice = finish.choose([member.record for member in members], None)
        return
    chosen = search.finalists(campaign.result, params, floor, given["finalists"])
    if chosen:
        with _engine(campaign, given, None) as engine:
            trainings = _trainings(campaign, directory, engine, given, display.trained)
            trials = [trainings.final(member.child, final.epochs, final.seed) for member in chosen]
            campaign.finals = trainings.run(trials, again=True)
    rival = search.accuracy(campaign.like) if campaign.like is not None else None
    campaign.choice = finish.choose(campaign.finals, rival)


def _measure_baselines(campaign: Campaign, trainings: Trainings) -> None:
    """R's architecture as a candidate, at every rung, sets the floors; those beside are trained at full length.

    A floor that the user gives holds for the last rung; at the others it lies as far from R' as there.
    """
    params, own = campaign.params, campaign.own
    last = params.rungs - 1
    trials = [trainings.baseline(one.name, one.architecture, one.model_args, last) for one in campaign.others]
    records = trainings.run(trials, again=True)
    campaign.baselines = {one.name: record for one, record in zip(campaign.others, records, strict=True)}
    if ".py:" in own.architecture:  # not rebuilt: prepare has seen to it that there is a floor
        campaign.floors = [*(None for _ in range(last)), params.accuracy_floor]
        return
    trials = [trainings.baseline(own.name, own.architecture, own.model_args, rung) for rung in range(params.rungs)]
    records = trainings.run(trials, again=True)
    campaign.baselines[own.name] = records[-1]
    failed = next((record["error"] for record in records if record["error"]), None)
    if failed is not None and params.accuracy_floor is None:
        raise InputError(f"R's own architecture could not be trained as a candidate ({failed}); give --accuracy-floor")
    if failed is not None:
        campaign.floors = [*(None for _ in range(last)), params.accuracy_floor]
        return
    campaign.floors = list(finish.floors([search.accuracy(record) for record in records], params.accuracy_floor))


def _state(campaign: Campaign, result: search.Result, *, finished: bool = False) -> dict[str, Any]:
    """What ``population.json`` says: nothing that equal searches may differ in, such as times and retries."""

    def one(member: search.Member) -> dict[str, Any]:
        kept = {k: v for k, v in member.record.items() if not k.endswith("seconds") and k != "attempts"}
        return kept | {"born": member.born}

    members = search.front(result, campaign.params, campaign.floors[-1])
    return {
        "generation": result.generations,
        "generations": campaign.params.generations,
        "floors": campaign.floors,
        "population": [one(result.members[place]) for place in result.population],
        "front": [one(member) for member in members],
        "counts": vars(result.counts),
        "cost": campaign.params.cost_of(result.trainings),
        "finished": finished,
        "failed": result.failed,
        "trainings": result.trainings,
    }


def _refuse_foreign(campaign: Campaign, given: dict[str, Any]) -> None:
    """Another run's checkpoint (or another file) is not replaced unasked."""
    out = given["out"]
    if not out.exists() or given["force"]:
        return
    try:
        same = read_checkpoint(out).meta.get("settings") == {"evolve": campaign.run_id}
    except InputError as error:
        raise InputError(f"{out}: exists and is no checkpoint of this run; --force replaces it") from error
    if not same:
        raise InputError(f"{out}: holds the checkpoint of another run; choose another name or --force")


def measure_one(campaign: Campaign, given: dict[str, Any]) -> Record:
    """Train one candidate at the first rung, in a directory that is thrown away: what a dry run tells the time by."""
    import tempfile
    from pathlib import Path

    from advkit.evolution.offspring import Counts, fresh, generator
    from advkit.evolution.variation import random_genome

    spec = campaign.reference.spec
    space = Space(spec.num_classes, spec.input_size, campaign.params.limits)
    rng, seen = generator(campaign.params.seed, 0), set[str]()
    drawn = [fresh(lambda: (random_genome(rng), ()), space, seen, Counts()) for _ in range(15)]
    found = [child for child in drawn if child is not None]
    if not found:
        raise InputError("no network keeps --max-parameters and --max-multiply-adds; raise them")
    found.sort(key=lambda child: cost(child.genome, spec.num_classes, spec.input_size).multiply_adds)
    with tempfile.TemporaryDirectory() as folder:
        directory = RunDirectory(Path(folder) / "run", campaign.settings)
        _furnish(campaign, given, directory)
        alone = {**given, "workers": 1, "ray": None}
        with _engine(campaign, alone, None) as engine:
            trainings = _trainings(campaign, directory, engine, given, lambda record: None)
            return trainings([found[len(found) // 2]], 0, 0)[0]
