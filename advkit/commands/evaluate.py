"""``advkit evaluate``: accuracy, or average precision, on clean and on adversarial sets."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from advkit.commands.checks import check_gates, check_outputs
from advkit.commands.config import command
from advkit.commands.loading import Opened, device_of_rank, names_of, open_all
from advkit.commands.output import Progress
from advkit.commands.run_options import GateOptions, TestOptions
from advkit.reports.clock import Clock

if TYPE_CHECKING:
    from advkit.tasks.task import Metric


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(TestOptions, GateOptions):
    """The options of ``evaluate``."""

    models: Annotated[tuple[str, ...], typer.Argument(metavar="[NAME=]MODEL...", help="Models of one task.")]


def run(config: EvaluateConfig) -> int:
    """Accuracy, or average precision, of every MODEL on DATA; what attack wrote is DATA too."""
    clock = Clock()
    check_outputs(config, "report")
    check_gates(config)
    names_of(config.models)
    from advkit.parallel import process_group

    with process_group.joined() as (rank, world):
        return _evaluate(config, clock, device_of_rank(config.device, world), rank, world)


def _evaluate(config: EvaluateConfig, clock: Clock, device: str, rank: int, world: int) -> int:
    """This process's part; the first one, of ``rank`` 0 of ``world``, adds up that of all and reports."""
    opened = open_all(config, config.models, device)
    from advkit.reports import envelope
    from advkit.reports import evaluate as reports

    counts = _measure(opened, config, rank)
    if rank > 0:
        return 0
    suspicions = opened.sanity_flags(opened.images, config.batch_size)
    result = reports.collect(opened.names, counts, opened.images, config.fail_above, config.fail_below)
    return envelope.finish(
        "evaluate",
        result,
        config,
        table=lambda: reports.table(result, opened.images),
        clock=clock,
        device=device,
        params={"limit": config.limit},
        inputs=opened.inputs(),
        flags=opened.warnings() + suspicions,
        passed=result.gates,
        processes=world,
    )


def _measure(opened: Opened, config: EvaluateConfig, rank: int) -> list[Metric]:
    """Counts of each model over all images, which the processes share; empty ones where ``rank`` is not 0."""
    from advkit.parallel import process_group
    from advkit.tasks.prediction import outputs_of
    from advkit.tasks.task import task_of

    images, size = opened.images, process_group.items_each(config.batch_size, len(opened.images))

    def metrics() -> list[Metric]:
        return [task_of([network]).metric(network.spec.num_classes) for network in opened.networks]

    def counted(k: int) -> Iterator[list[Metric]]:
        pixels, labels = images.batch(slice(k * size, (k + 1) * size))
        pixels, found = pixels.to(opened.device), metrics()
        for network, metric in zip(opened.networks, found, strict=True):
            metric.update(outputs_of([network], pixels), labels)
        yield found

    counts, done = metrics(), 0
    with Progress(config.quiet or rank > 0) as progress:
        for found in process_group.shared(counted, math.ceil(len(images) / size)):
            for metric, part in zip(counts, found, strict=True):
                metric.merge(part)
            done = min(done + size, len(images))
            progress.step("evaluate", done, len(images))
    return counts


evaluate = command(EvaluateConfig, run)
