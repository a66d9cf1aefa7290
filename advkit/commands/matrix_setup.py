"""What ``transfer-matrix`` opens, here or in each of its workers, and how the work is shared between those.

Imported late: it needs torch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from advkit.attacks.dataset import pool_for
from advkit.attacks.objective import settled
from advkit.attacks.params import AttackParams
from advkit.commands.attack_options import aim_at, attack_params, check_budget, probed
from advkit.commands.loading import Opened, open_all, pick_device
from advkit.commands.matrix_config import MatrixConfig, set_name
from advkit.data.images import ImageSet
from advkit.files.adversarial import read_adversarial
from advkit.files.errors import MEMORY_ADVICE, InputError
from advkit.metrics.norms import flat_norm
from advkit.models.black_box import has_gradients
from advkit.models.fuse import fuse_conv_bn
from advkit.parallel.executor import open_executor
from advkit.parallel.task import TaskResult, WorkerTask
from advkit.tasks.task import task_of
from advkit.transfer.matrix import BatchOutcomes, Plan, batches, measure, measure_batch, merged
from advkit.transfer.outcomes import Matrix, SurrogateRun
from advkit.transfer.precomputed import precomputed


@dataclass(frozen=True)
class MatrixSetup:
    """Everything opened and checked.

    Attributes:
        opened: models and the images of ``--data``.
        chosen: those that are attacked.
        plan: what to measure on them.
    """

    opened: Opened
    chosen: ImageSet
    plan: Plan


def open_setup(config: MatrixConfig, device: str) -> MatrixSetup:
    """From the command's options to a plan.

    Raises:
        InputError: anything that can't be opened or doesn't fit.
    """
    only_sets = bool(config.adversarial) and not config.surrogate and not config.method
    if only_sets:
        config.refuse(_OF_ATTACKS, "sets made before bring their own attack; leave it out, or give --method")
    methods = _methods(config, device)
    opened = open_all(config, config.models, device)
    check_budget(config, opened.images)
    target, chosen = aim_at(config, opened.networks, opened.images)
    wanted = [] if only_sets else config.surrogate or opened.names
    gradient_models = [fuse_conv_bn(network) for network in opened.networks]
    params = [settled(one, opened.networks) for one in methods]
    if wanted:
        first = [gradient_models[opened.names.index(wanted[0])]]
        longest = max(params, key=lambda one: one.step_count * one.method.copies)
        # One for all: what stands in one matrix is to be compared.
        attacks = len(wanted) * len(params)
        precision = probed(config, longest, first, chosen, device, config.batch_size, attacks).precision
        params = [dataclasses.replace(one, precision=precision) for one in params]
    plan = Plan(
        names=opened.names,
        networks=opened.networks,
        gradient_models=gradient_models,
        surrogates=[opened.names.index(name) for name in wanted],
        params=params,
        target=target,
        gradients=config.gradients and all(map(has_gradients, opened.networks)),
        batch_size=config.batch_size,
        device=device,
        pool=None if only_sets else pool_for(opened.networks, chosen, methods),
    )
    return MatrixSetup(opened, chosen, plan)


# What only an attack made here listens to.
_OF_ATTACKS = ("eps", "norm", "steps", "loss", "restarts", "precision", "step_size", "random_start", "target")


def _methods(config: MatrixConfig, device: str) -> list[AttackParams]:
    found = [attack_params(config, text, seed=config.seed, device=device) for text in config.method or ("pgd",)]
    names = [params.method.name for params in found]
    if len(set(names)) < len(names):
        raise InputError(f"--method: {', '.join(names)}: one of them twice; drop it")
    return found


def precomputed_runs(setup: MatrixSetup, config: MatrixConfig) -> list[SurrogateRun]:
    """The rows of ready-made sets.

    Raises:
        InputError: a set that was not made from these images.
    """
    return [_precomputed(setup, path, config.limit) for path in config.adversarial]


def _precomputed(setup: MatrixSetup, path: Path, limit: int | None) -> SurrogateRun:
    """A ready-made set as a row; it must have been made from just these images."""
    images, task = setup.chosen, task_of(setup.opened.networks)
    if task.has_places:
        advice = "give the detector that it was made on as a MODEL"
        raise InputError(f"--adversarial {path}: sets with boxes keep no predictions to compare; {advice}")
    found = read_adversarial(path)
    place = {index: position for position, index in enumerate(images.indices.tolist())}
    missing = [index for index in found.index.tolist() if index not in place]
    if missing:
        taken = f"the {limit} images that --limit takes of {images.ref}" if limit is not None else images.ref
        advice = "give the attack's --limit, or none" if limit is not None else "give its DATA"
        raise InputError(f"{path}: {len(missing)} of its {len(found.index)} images are not in {taken}; {advice}")
    positions = torch.tensor([place[index] for index in found.index.tolist()], dtype=torch.int64)
    if not torch.equal(images.targets[positions], found.labels):
        raise InputError(f"{path}: its labels are not those of {images.ref}; it was made from other data")
    if found.meta["attack"]["eps"] is None:
        raise InputError(f"{path}: made without a bound, so its noise has no size to have; attack again with --eps")
    bound, norm = float(found.meta["attack"]["eps"]), found.meta["attack"]["norm"]
    slack = 1e-5 * max(1.0, bound)  # of float32, which an L1 norm sums many roundings of

    def check(adversarial: Any, clean: Any) -> None:
        if not bool(((adversarial >= 0) & (adversarial <= 1)).all()):  # NaN is neither
            raise InputError(f"{path}: pixels outside [0, 1]; write it again")
        if adversarial.shape != clean.shape or not bool((flat_norm(adversarial - clean, norm) <= bound + slack).all()):
            raise InputError(f"{path}: lies further than its eps {bound:.4g} from {images.ref}; made from other data")

    made_on = {one["sha256"] for one in found.meta["surrogates"]}
    crafted_on = tuple(place for place, network in enumerate(setup.opened.networks) if network.spec.sha256 in made_on)
    return precomputed(setup.plan, images, found, set_name(path), crafted_on, positions, check)


def measured(setup: MatrixSetup, config: MatrixConfig, show: Callable[[int], None]) -> Matrix:
    """The matrix, measured in this process or by the workers that the options ask for.

    Args:
        setup: as opened in this process.
        config: the options that it was opened by.
        show: told the number of images that are done.

    Raises:
        InputError: a batch that failed twice, or what a worker met.
    """
    workers, ray = config.workers, config.ray
    if workers == 1 and ray is None:
        return measure(setup.plan, setup.chosen, show)
    cuda = setup.plan.device.startswith("cuda")
    # Ray shows each worker its own GPU only. What had to be fetched is there by now.
    theirs = dataclasses.replace(
        config,
        device="cuda" if cuda and ray else setup.plan.device,
        download=False,
        precision=setup.plan.params[0].precision if setup.plan.params else config.precision,  # measured once, here
    )
    task = WorkerTask(_open, (theirs, [network.spec.sha256 for network in setup.opened.networks]), _measure)
    wanted = batches(setup.plan, setup.chosen)
    with open_executor(
        task, workers=workers, ray=ray, threads=threads_of(workers, ray), gpus=int(cuda and ray is not None)
    ) as engine:
        return merged(setup.plan, setup.chosen, _in_order(engine.map(wanted), wanted, show))


def _in_order(
    outcomes: Iterable[TaskResult], wanted: Sequence[slice], show: Callable[[int], None]
) -> Iterator[BatchOutcomes]:
    """The parts in the order of the batches, each as soon as those before it are there."""
    waiting: dict[int, BatchOutcomes] = {}
    done = place = 0
    for outcome in outcomes:
        batch = wanted[outcome.item]
        if outcome.value is None:
            advice = MEMORY_ADVICE.get(outcome.error or "")
            hint = f"; {advice}" if advice else ""
            raise InputError(f"images {batch.start} to {batch.stop - 1}: {outcome.error}{hint}")
        waiting[outcome.item] = outcome.value
        done += batch.stop - batch.start
        show(done)
        while place in waiting:
            yield waiting.pop(place)
            place += 1


def threads_of(workers: int, ray: str | None) -> int:
    """Threads of each worker: one on a cluster, which counts CPUs; else this process's, shared out."""
    return 1 if ray is not None else max(1, torch.get_num_threads() // workers)


def _open(config: MatrixConfig, expected: list[str]) -> MatrixSetup:
    """A worker's state: the same models as in the process that asks, or none."""
    setup = open_setup(config, pick_device(config.device))
    for ref, network, sha256 in zip(config.models, setup.opened.networks, expected, strict=True):
        if network.spec.sha256 != sha256:
            raise InputError(f"{ref}: a worker found another network there; let nobody write it during a run")
    return setup


def _measure(setup: MatrixSetup, batch: slice) -> BatchOutcomes:
    return measure_batch(setup.plan, setup.chosen, batch)
