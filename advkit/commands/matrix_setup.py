"""What ``transfer-matrix`` opens, here or in each of its workers, and how the work is shared between those."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from advkit.commands import options
from advkit.commands.loading import names_of, open_all, pick_device
from advkit.files.errors import InputError
from advkit.parallel.executor import open_executor
from advkit.parallel.task import Task

if TYPE_CHECKING:
    from advkit.attacks.params import AttackParams
    from advkit.data.images import ImageSet
    from advkit.models.network import Network
    from advkit.transfer.matrix import BatchPredictions, Matrix, Plan


@dataclass(frozen=True)
class Setup:
    """Everything opened and checked.

    Attributes:
        networks: as loaded.
        images: of ``--data``.
        chosen: those that are attacked.
        plan: what to measure on them.
    """

    networks: list[Network]
    images: ImageSet
    chosen: ImageSet
    plan: Plan


def open_setup(given: dict[str, Any]) -> Setup:
    """From the command's options to a plan.

    Raises:
        InputError: anything that can't be opened or doesn't fit.
    """
    from advkit.attacks.dataset import without_target
    from advkit.attacks.targets import parse_target
    from advkit.models.fuse import fuse_conv_bn
    from advkit.transfer.matrix import Plan

    names, methods, device = names_of(given["models"]), _methods(given), pick_device(given["device"])
    opening = {name: given[name] for name in ("limit", "seed", "size", "download")}
    networks, images = open_all(given["models"], given["data"], **opening, device=device)
    target = parse_target(given["target"], images.class_names) if given["target"] is not None else None
    chosen = without_target(images, target)
    if len(chosen) == 0:
        raise InputError(f"--target {given['target']}: every image is of that class already; nothing to attack")
    only_sets = bool(given["adversarial"]) and not given["surrogate"] and given["method"] is None
    if only_sets:
        _refuse_attack_options(given)
    wanted = [] if only_sets else given["surrogate"] or names
    plan = Plan(
        names=names,
        networks=networks,
        gradient_models=[fuse_conv_bn(network) for network in networks],
        surrogates=[names.index(name) for name in wanted],
        params=methods,
        target=target,
        gradients=given["gradients"],
        batch_size=given["batch_size"],
        device=device,
    )
    return Setup(networks, images, chosen, plan)


def _refuse_attack_options(given: dict[str, Any]) -> None:
    """Raise InputError when an option of an attack was given another value than its default though nobody attacks."""
    usual = {"eps": "8/255", "norm": "linf", "steps": 10, "loss": "ce", "restarts": 1, "precision": "float32"}
    usual |= dict.fromkeys(("step_size", "random_start", "target"))
    for name, default in usual.items():
        if given[name] != default:
            option = f"--{name.replace('_', '-')}"
            raise InputError(f"{option}: sets made before bring their own attack; leave it out, or give --method too")


def measured(setup: Setup, given: dict[str, Any], show: Callable[[int], None]) -> Matrix:
    """The matrix, measured in this process or by the workers that the options ask for.

    Args:
        setup: as opened in this process.
        given: the options that it was opened by.
        show: told the number of images that are done.

    Raises:
        InputError: a batch that failed twice, or what a worker met.
    """
    from advkit.transfer.matrix import batches, measure, merged

    workers, ray = given["workers"], given["ray"]
    if workers == 1 and ray is None:
        return measure(setup.plan, setup.chosen, show)
    cuda = setup.plan.device.startswith("cuda")
    # Ray shows each worker its own GPU only. What had to be fetched is there by now.
    theirs = given | {"device": "cuda" if cuda and ray else setup.plan.device, "download": False}
    task = Task(_open, (theirs, [network.spec.sha256 for network in setup.networks]), _measure)
    wanted = batches(setup.plan, setup.chosen)
    parts: dict[int, BatchPredictions] = {}
    done = 0
    with open_executor(
        task, workers=workers, ray=ray, threads=threads_of(workers, ray), gpus=int(cuda and ray is not None)
    ) as engine:
        for outcome in engine.map(wanted):
            batch = wanted[outcome.item]
            if outcome.value is None:
                hint = "; lower --batch-size" if outcome.error == "out of memory" else ""
                raise InputError(f"images {batch.start} to {batch.stop - 1}: {outcome.error}{hint}")
            parts[outcome.item] = outcome.value
            done += batch.stop - batch.start
            show(done)
    return merged(setup.plan, setup.chosen, [parts[number] for number in range(len(wanted))])


def threads_of(workers: int, ray: str | None) -> int:
    """Threads of each worker: one on a cluster, which counts CPUs; else this process's, shared out."""
    import torch

    return 1 if ray is not None else max(1, torch.get_num_threads() // workers)


def _open(given: dict[str, Any], expected: list[str]) -> Setup:
    """A worker's state: the same models as in the process that asks, or none."""
    setup = open_setup(given)
    for ref, network, sha256 in zip(given["models"], setup.networks, expected, strict=True):
        if network.spec.sha256 != sha256:
            raise InputError(f"{ref}: a worker found another network there; let nobody write it during a run")
    return setup


def _measure(setup: Setup, batch: slice) -> BatchPredictions:
    from advkit.transfer.matrix import measure_batch

    return measure_batch(setup.plan, setup.chosen, batch)


def _methods(given: dict[str, Any]) -> list[AttackParams]:
    found = [options.attack_params(given, text, "transfer") for text in given["method"] or ["pgd"]]
    names = [params.method.name for params in found]
    if len(set(names)) < len(names):
        raise InputError(f"--method: {', '.join(names)}: one of them twice; drop it")
    return found
