"""``advkit domain-distance``: how far other domains lie from a source."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from advkit.commands.config import command
from advkit.commands.domain_distance_config import DistanceConfig, check
from advkit.commands.domain_distance_setup import OpenedDomains, open_domains
from advkit.commands.output import Progress
from advkit.reports.clock import Clock

if TYPE_CHECKING:
    from advkit.distance.comparison import DomainComparison


def run(config: DistanceConfig) -> int:
    """Distances of other domains to a source, the first DATA, by features of their images."""
    clock = Clock()
    check(config)
    from advkit.distance.calibration import GainRegression, read_calibration
    from advkit.distance.comparison import SubsamplingPlan, compare
    from advkit.distance.features import shared_images
    from advkit.reports import domain_distance as reports
    from advkit.reports import envelope
    from advkit.reports.domain_distance_table import table

    calibration = None if config.calibration is None else read_calibration(config.calibration)
    line = None if calibration is None else GainRegression(calibration.pairs, config.seed)
    with Progress(config.quiet) as progress:
        opened = open_domains(config, lambda done, total: progress.step("features", done, total))
        source, *targets = opened.tables
        draws = SubsamplingPlan(opened.n, config.repeats, config.permutations, config.seed)
        found = compare(source, targets, draws, lambda done, total: progress.step("distances", done, total))
    shared = [shared_images(source, target) for target in targets]
    shares = None if config.figure is None else _draw(config.figure, opened, found)
    result = reports.collect(
        opened.names,
        [table.count for table in opened.tables],
        shared,
        opened.features,
        draws,
        found,
        line=line,
        advice=reports.advise(opened.names[1:], found, config.calibration, calibration, line)
        if config.advise
        else None,
        figure=None if shares is None else (str(config.figure), shares),
        bounds=(config.fail_above, config.fail_below),
    )
    return envelope.finish(
        "domain-distance",
        result,
        config,
        table=lambda: table(result),
        clock=clock,
        device=opened.device,
        params={
            "features": config.features,
            "subsample": config.subsample,
            "repeats": config.repeats,
            "permutations": config.permutations,
            "size": config.size,
            "limit": config.limit,
            "advise": config.advise,
            "calibration": None if config.calibration is None else str(config.calibration),
        },
        inputs=opened.inputs,
        flags=[
            *opened.flags,
            *(
                f"{name}: {count} of its images are in {opened.names[0]} too; distances are too small"
                for name, count in zip(opened.names[1:], shared, strict=True)
                if count
            ),
            *reports.few_images_flags(result),
            *reports.less_varied_flags(result),
            *reports.calibration_flags(calibration, opened.features, opened.n),
        ],
        passed=result.gates,
    )


def _draw(path: Path, opened: OpenedDomains, found: DomainComparison) -> tuple[float, float]:
    """The figure; returns the shares of the variance that its plane has."""
    import torch

    from advkit.distance.measures import HEADLINE
    from advkit.figures.domains import DOTS, PlottedDomain, draw

    shown = torch.arange(min(opened.n, DOTS))  # the first in the order of hashes: any
    rows = [table.rows(shown) for table in opened.tables]
    plotted = [
        PlottedDomain(name, one.by_measure[HEADLINE].ratio, one.by_measure[HEADLINE].ratio_interval, features)
        for name, one, features in zip(opened.names[1:], found.targets, rows[1:], strict=True)
    ]
    what = opened.features
    note = f"Principal components of {len(shown)} images of each, {what.d} features."
    return draw(path, opened.names[0], rows[0], plotted, axis="Fréchet distance (squared) over the floor", note=note)


domain_distance = command(DistanceConfig, run)
