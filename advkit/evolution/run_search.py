"""The order of events of a run: what candidates share, baselines, search, finalists, E."""

from __future__ import annotations

import contextlib
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch

from advkit.attacks.dataset import CLEAN_WRONG, FOOLED
from advkit.evolution import final_selection, search
from advkit.evolution.adversarial_sets import make_missing
from advkit.evolution.candidate import evaluate
from advkit.evolution.evaluation_context import open_context
from advkit.evolution.gradient_cache import record, recordable
from advkit.evolution.measure import measure
from advkit.evolution.offspring import DrawCounts, Space, generator, unseen_child
from advkit.evolution.run_directory import RunDirectory
from advkit.evolution.search import Record
from advkit.evolution.search_run import SearchRun
from advkit.evolution.training_scheduler import TrainingScheduler
from advkit.evolution.variation import random_genome
from advkit.files.adversarial import read_adversarial
from advkit.files.checkpoint import read_checkpoint
from advkit.files.errors import InputError, Interrupted
from advkit.models.genome.genes import Genome
from advkit.models.genome.limits import cost
from advkit.parallel.executor import Executor, open_executor
from advkit.parallel.task import WorkerTask
from advkit.tasks.sampling import sample
from advkit.tasks.task import task_of


class Observer(Protocol):
    """Who is told how a run gets on."""

    def begin(self) -> None:
        """The work begins: nothing was refused."""
        ...

    def trained(self, record: Record) -> None:
        """One more training is done."""
        ...

    def generation(self, result: search.Result) -> None:
        """A generation is done."""
        ...


def run(search_run: SearchRun, observer: Observer) -> None:
    """Run, or go on with, a search; fills in its results and writes E.

    Raises:
        InputError: a foreign checkpoint or run directory, no cluster, or nothing that T_cond could be measured on.
        Interrupted: by a signal; the same run goes on from there.
    """
    request = search_run.request
    _refuse_foreign(search_run)
    torch.set_num_threads(request.threads)  # what is made here is part of the result as what workers make
    if request.ray is not None:  # nothing is written for a cluster that is not there
        with _open_executor(search_run, None):
            pass
    directory = RunDirectory(request.run_dir, search_run.settings, force=request.force)
    search_run.directory = directory
    observer.begin()
    try:
        _make_shared_files(search_run, directory)
        if search_run.recipe.r_prime is not None:
            context = open_context(search_run.spec, search_run.parts, search_run.reference)
            search_run.r_prime = measure(context, search_run.recipe.r_prime) | {"error": None}
        with _shared_executor(search_run) as shared:
            _search(search_run, directory, observer, shared)
            _select_final(search_run, directory, observer, shared)
    except (KeyboardInterrupt, Interrupted) as error:
        number = error.signum if isinstance(error, Interrupted) else signal.SIGINT
        raise Interrupted(number, f"{directory.path} is kept; the same command goes on") from None
    if search_run.choice is not None:
        folder = "final" if request.finalists else "front"
        final_selection.write_chosen(directory, search_run.choice, folder, request.out, search_run.run_id)


def time_candidate(search_run: SearchRun) -> Record:
    """Train one candidate at the first rung, in a directory that is thrown away: what a dry run tells the time by."""
    spec = search_run.reference.spec
    space = _space(search_run)
    rng, seen = generator(search_run.params.seed, 0), set[str]()
    drawn = [unseen_child(lambda: (random_genome(rng), ()), space, seen, DrawCounts()) for _ in range(15)]
    found = [child for child in drawn if child is not None]
    if not found:
        raise InputError("no network keeps --max-parameters and --max-multiply-adds; raise them")
    found.sort(key=lambda child: cost(child.genome, spec.num_classes, spec.input_size).multiply_adds)
    alone = replace(search_run, request=replace(search_run.request, workers=1, ray=None))
    with tempfile.TemporaryDirectory() as folder:
        directory = RunDirectory(Path(folder) / "run", alone.settings)
        _make_shared_files(alone, directory)
        with _open_executor(alone, None) as executor:
            scheduler = _scheduler(alone, directory, executor, lambda record: None)
            return scheduler([found[len(found) // 2]], 0, 0)[0]


def _refuse_foreign(search_run: SearchRun) -> None:
    """Another run's checkpoint (or another file) is not replaced unasked."""
    out = search_run.request.out
    if not out.exists() or search_run.request.force:
        return
    try:
        same = read_checkpoint(out).meta.get("settings") == {"evolve": search_run.run_id}
    except InputError as error:
        raise InputError(f"{out}: exists and is no checkpoint of this run; --force replaces it") from error
    if not same:
        raise InputError(f"{out}: holds the checkpoint of another run; choose another name or --force")


def _make_shared_files(search_run: SearchRun, directory: RunDirectory) -> None:
    """Make what all candidates share: R's adversarial examples, and R's gradients along their training."""
    data, training, validation = search_run.parts
    device, params = search_run.spec.device, search_run.recipe.params
    adversarial = make_missing(directory.path, search_run.reference, validation, search_run.attacks, device)
    _require_fooled(adversarial)
    search_run.spec = replace(search_run.spec, adversarial=adversarial)
    if recordable(params):
        positions = sample(
            task_of([search_run.reference]), data, training, search_run.spec.images, search_run.spec.data_seed
        )
        path = directory.path / "gradients.safetensors"
        record(path, search_run.reference, data, positions, replace(params, epochs=search_run.spec.epochs), device)
        search_run.spec = replace(search_run.spec, gradients=str(path))


def _require_fooled(paths: tuple[str, ...]) -> None:
    """Raise InputError when R withstands every attack on every image: T_cond would be 0/0 for every network."""
    outcomes = torch.stack([read_adversarial(Path(path)).outcome for path in paths])
    if not (outcomes == FOOLED).any():
        right, total = int((outcomes[0] != CLEAN_WRONG).sum()), outcomes.shape[1]
        raise InputError(
            f"R's attack fooled R on none of the {right} of {total} validation images that R gets right, so there is "
            "nothing to measure T_cond on; give a larger --eps, more --validation-images or a stronger --method"
        )


def _open_executor(search_run: SearchRun, timeout: float | None) -> AbstractContextManager[Executor]:
    request = search_run.request
    return open_executor(
        WorkerTask(open_context, (search_run.spec,), evaluate),
        workers=request.workers,
        ray=request.ray,
        threads=request.threads,
        timeout=timeout,
        gpus=int(search_run.spec.device.startswith("cuda")),
    )


@contextlib.contextmanager
def _shared_executor(search_run: SearchRun) -> Iterator[Executor | None]:
    """Workers for the whole run; none where candidates have a time limit, for other trainings have none."""
    if search_run.request.candidate_timeout is not None:
        yield None
        return
    with _open_executor(search_run, None) as executor:
        yield executor


def _executor(
    search_run: SearchRun, shared: Executor | None, timeout: float | None = None
) -> AbstractContextManager[Executor]:
    """The ``shared`` workers, or some with ``timeout`` that end with the block."""
    return contextlib.nullcontext(shared) if shared is not None else _open_executor(search_run, timeout)


def _space(search_run: SearchRun) -> Space:
    spec = search_run.reference.spec
    return Space(spec.num_classes, spec.input_size, search_run.params.limits)


def _scheduler(
    search_run: SearchRun, directory: RunDirectory, executor: Executor, show: Callable[[Record], None]
) -> TrainingScheduler:
    spec, shared = search_run.reference.spec, search_run.spec

    def multiply_adds(genome: Genome) -> int:
        return cost(genome, spec.num_classes, spec.input_size).multiply_adds

    return TrainingScheduler(directory, executor, search_run.params, shared.images, shared.epochs, multiply_adds, show)


def _search(search_run: SearchRun, directory: RunDirectory, observer: Observer, shared: Executor | None) -> None:
    """Floors without a time limit, then the search under it."""
    params = search_run.params
    with _executor(search_run, shared) as executor:
        _measure_baselines(search_run, _scheduler(search_run, directory, executor, observer.trained))

    def after(result: search.Result) -> None:
        search_run.result = result
        observer.generation(result)
        if result.generations <= directory.newest():
            return  # gone through again: what later generations need must stay
        directory.save_population(population_state(search_run, result))
        wanted = {member.child.id for member in search.front(result, params, search_run.floors[-1])}
        directory.keep_weights(wanted | {result.members[place].child.id for place in result.population})

    with _executor(search_run, shared, search_run.request.candidate_timeout) as executor:
        scheduler = _scheduler(search_run, directory, executor, observer.trained)
        space, floors = _space(search_run), search_run.floors
        search_run.result = search.run(params, space, search_run.first, floors, scheduler, after)
    directory.save_population(population_state(search_run, search_run.result, finished=True))
    final_selection.write_front(directory, search.front(search_run.result, params, search_run.floors[-1]))


def _measure_baselines(search_run: SearchRun, scheduler: TrainingScheduler) -> None:
    """R's architecture as a candidate, at every rung, sets the floors; baselines are trained at full length.

    A floor that the user gives holds for the last rung; at the others it lies as far from R' as there.
    """
    params, own = search_run.params, search_run.own
    last = params.rungs - 1
    jobs = [scheduler.baseline(one.name, one.architecture, one.model_args, last) for one in search_run.others]
    records = scheduler.run(jobs, again=True)
    search_run.baselines = {one.name: record for one, record in zip(search_run.others, records, strict=True)}
    search_run.floors = [*(None for _ in range(last)), params.accuracy_floor]
    if ".py:" in own.architecture:  # not rebuilt: prepare has seen to it that there is a floor
        return
    jobs = [scheduler.baseline(own.name, own.architecture, own.model_args, rung) for rung in range(params.rungs)]
    records = scheduler.run(jobs, again=True)
    search_run.baselines[own.name] = records[-1]
    failed = next((record["error"] for record in records if record["error"]), None)
    if failed is not None and params.accuracy_floor is None:
        raise InputError(f"R's own architecture could not be trained as a candidate ({failed}); give --accuracy-floor")
    if failed is None:
        reached = [search.accuracy(record) for record in records]
        search_run.floors = list(final_selection.floors(reached, params.accuracy_floor))


def _select_final(search_run: SearchRun, directory: RunDirectory, observer: Observer, shared: Executor | None) -> None:
    """Finalists by the whole recipe, and the choice among them; without finalists the best candidate as it is."""
    params, recipe, floor = search_run.params, search_run.recipe.params, search_run.floors[-1]
    count = search_run.request.finalists
    if not count:
        front = search.front(search_run.result, params, floor)
        members = search.finalists(search_run.result, params, floor, 1, among=front)
        search_run.choice = final_selection.choose([member.record for member in members], None)
        return
    chosen = search.finalists(search_run.result, params, floor, count)
    if chosen:
        with _executor(search_run, shared) as executor:
            scheduler = _scheduler(search_run, directory, executor, observer.trained)
            jobs = [scheduler.final(member.child, recipe.epochs, recipe.seed) for member in chosen]
            search_run.finals = scheduler.run(jobs, again=True)
    rival = search.accuracy(search_run.r_prime) if search_run.r_prime is not None else None
    search_run.choice = final_selection.choose(search_run.finals, rival)


def population_state(search_run: SearchRun, result: search.Result, *, finished: bool = False) -> dict[str, Any]:
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
