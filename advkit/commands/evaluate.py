"""``advkit evaluate``: accuracy, on clean and on adversarial sets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from advkit.commands import output
from advkit.commands.checks import check_gates, check_outputs
from advkit.commands.config import command
from advkit.commands.loading import model_warnings, names_of, open_all, pick_device
from advkit.commands.run_options import GateOptions, TestOptions
from advkit.reports.clock import Clock

if TYPE_CHECKING:
    from advkit.data.images import ImageSet
    from advkit.metrics.accuracy import AccuracyMetric
    from advkit.models.network import Network


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(TestOptions, GateOptions):
    """The options of ``evaluate``."""

    models: Annotated[tuple[str, ...], typer.Argument(metavar="[NAME=]MODEL...", help="Classifiers.")]


def run(config: EvaluateConfig) -> int:
    """Accuracy of every MODEL on DATA; what attack wrote is DATA too."""
    clock = Clock()
    check_outputs(config, "report")
    check_gates(config)
    names = names_of(config.models)
    device = pick_device(config.device)
    networks, images = open_all(
        config.models,
        config.data,
        limit=config.limit,
        seed=config.seed,
        size=config.size,
        download=config.download,
        device=device,
    )
    from advkit.reports import envelope
    from advkit.reports import evaluate as reports

    counts, suspicions = _measure(names, networks, images, config, device)
    result = reports.collect(names, counts, images, config.fail_above, config.fail_below)
    return envelope.finish(
        "evaluate",
        result,
        config,
        table=lambda: reports.table(result, images),
        clock=clock,
        device=device,
        params={"limit": config.limit},
        inputs=[
            *[envelope.model_input(network, name) for network, name in zip(networks, names, strict=True)],
            envelope.data_input(images),
        ],
        flags=model_warnings(names, config.models, networks, images) + suspicions,
        passed=result.gates,
    )


def _measure(
    names: list[str], networks: list[Network], images: ImageSet, config: EvaluateConfig, device: str
) -> tuple[list[AccuracyMetric], list[str]]:
    from advkit.attacks.sanity_checks import sanity_checks
    from advkit.metrics.accuracy import AccuracyMetric
    from advkit.models.prediction import predict_logits

    line = output.Progress(config.quiet)
    counts = [AccuracyMetric(network.spec.num_classes) for network in networks]
    suspicions: list[str] = []
    for start in range(0, len(images), config.batch_size):
        pixels, labels = images.batch(slice(start, start + config.batch_size))
        pixels = pixels.to(device)
        for name, network, count in zip(names, networks, counts, strict=True):
            count.add(predict_logits([network], pixels).cpu(), labels)
            if start == 0:
                suspicions += [f"{name}: {flag}" for flag in sanity_checks(network, pixels[:32])]
        line.step("evaluate", min(start + config.batch_size, len(images)), len(images))
    line.clear()
    return counts, suspicions


evaluate = command(EvaluateConfig, run)
