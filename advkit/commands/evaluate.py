"""``advkit evaluate``: accuracy, or average precision, on clean and on adversarial sets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer

from advkit.commands.checks import check_gates, check_outputs
from advkit.commands.config import command
from advkit.commands.loading import Opened, names_of, open_all, pick_device
from advkit.commands.output import Progress
from advkit.commands.run_options import GateOptions, TestOptions
from advkit.reports.clock import Clock


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
    opened = open_all(config, config.models, pick_device(config.device))
    from advkit.reports import envelope
    from advkit.reports import evaluate as reports

    counts, suspicions = _measure(opened, config)
    result = reports.collect(opened.names, counts, opened.images, config.fail_above, config.fail_below)
    return envelope.finish(
        "evaluate",
        result,
        config,
        table=lambda: reports.table(result, opened.images),
        clock=clock,
        device=opened.device,
        params={"limit": config.limit},
        inputs=opened.inputs(),
        flags=opened.warnings() + suspicions,
        passed=result.gates,
    )


def _measure(opened: Opened, config: EvaluateConfig) -> tuple[list[Any], list[str]]:
    """Counts of each model, and reasons to suspect it."""
    from advkit.attacks.sanity_checks import sanity_checks
    from advkit.tasks.prediction import outputs_of
    from advkit.tasks.task import task_of

    images, networks = opened.images, opened.networks
    counts = [task_of([network]).metric(network.spec.num_classes) for network in networks]
    suspicions: list[str] = []
    with Progress(config.quiet) as progress:
        for start in range(0, len(images), config.batch_size):
            pixels, labels = images.batch(slice(start, start + config.batch_size))
            pixels = pixels.to(opened.device)
            for name, network, count in zip(opened.names, networks, counts, strict=True):
                count.update(outputs_of([network], pixels), labels)
                if start == 0:
                    suspicions += [f"{name}: {flag}" for flag in sanity_checks(network, pixels[:32])]
            progress.step("evaluate", min(start + config.batch_size, len(images)), len(images))
    return counts, suspicions


evaluate = command(EvaluateConfig, run)
