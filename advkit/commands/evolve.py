"""``advkit evolve``: search for an architecture that a reference's adversarial examples don't reach."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from advkit.commands.attack_options import check_budget
from advkit.commands.config import command
from advkit.commands.evolve_config import EvolveConfig, check
from advkit.commands.loading import model_notes, pick_device
from advkit.files import streams
from advkit.files.errors import InputError
from advkit.reports.clock import Clock

if TYPE_CHECKING:
    from advkit.evolution.search_run import SearchRun
    from advkit.reports.evolve import EvolveResult


def run(config: EvolveConfig) -> int:
    """Search for an architecture E that, trained with the misalignment penalty, resists R's adversarial examples.

    Candidates are judged on a part of the training images that is held out; test images are never read.
    """
    clock = Clock()
    check(config)
    device = pick_device(config.device)
    from advkit.commands import evolve_request
    from advkit.commands.evolve_display import Display
    from advkit.evolution import run_search, search_run
    from advkit.files.lock import sole_writer
    from advkit.reports import envelope, evolve_build, evolve_table
    from advkit.reports.evolve import flags

    request = evolve_request.search_request(config, device)
    usual = evolve_request.usual_recipe(config, device)
    prepared = search_run.prepare(request, usual, lambda seed: evolve_request.attacks(config, seed, device))
    check_budget(config, prepared.images)
    if config.dry_run:
        for line in evolve_table.plan(prepared, run_search.time_candidate(prepared)):
            typer.echo(line, file=streams.results())
        return 0
    with sole_writer(config.out), Display(prepared, config.quiet) as display:
        run_search.run(prepared, display)
    result = evolve_build.collect(prepared, config.figure, config.figure_architecture)
    _draw(config, prepared, result)
    status = envelope.finish(
        "evolve",
        result,
        config,
        table=lambda: evolve_table.table(result),
        clock=clock,
        device=device,
        params=prepared.settings,
        inputs=evolve_request.inputs(prepared),
        flags=[
            *envelope.data_flags(prepared.images),
            *model_notes(prepared.reference, "R"),
            *flags(result),
        ],
        processes=config.workers,
        threads=config.threads,
        complete=result.checkpoint is not None,
    )
    if result.checkpoint is None:
        raise InputError(f"{config.out}: not written, {evolve_build.failure(prepared)}")
    return status


evolve = command(EvolveConfig, run)


def _draw(config: EvolveConfig, prepared: SearchRun, result: EvolveResult) -> None:
    from advkit.reports import evolve_figure

    if config.figure is not None and result.members:
        evolve_figure.draw_front(config.figure, prepared, result)
    if config.figure_architecture is not None and result.chosen is not None:
        evolve_figure.draw_architecture(config.figure_architecture, prepared, result)
