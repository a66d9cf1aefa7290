"""``advkit adapt``: a classifier or a detector for another domain, of which there are images but no labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from advkit.commands.adapt_config import AdaptConfig, check
from advkit.commands.config import command
from advkit.commands.training_run import fit, in_process_group, refuse_foreign, write
from advkit.reports.clock import Clock

if TYPE_CHECKING:
    from advkit.commands.adapt_setup import AdaptSetup
    from advkit.training.run import Run


def run(config: AdaptConfig) -> int:
    """Adapt MODEL from the labelled images of one domain to the unlabelled ones of another.

    With --compare, networks trained on the source alone (and on the target's labels) stand beside it.
    """
    clock = Clock()
    check(config)
    return in_process_group(config, lambda device, rank, world: _adapt(config, clock, device, rank, world))


def _adapt(config: AdaptConfig, clock: Clock, device: str, rank: int, world: int) -> int:
    from advkit.adaptation.comparison import evaluate_network
    from advkit.commands.adapt_checks import check_before_data
    from advkit.commands.adapt_controls import controls_of, train_controls
    from advkit.commands.adapt_setup import open_adaptation
    from advkit.data.overlap import images_in_both
    from advkit.reports import adapt as reports
    from advkit.reports import envelope
    from advkit.training.state import resume_path

    check_before_data(config, device)
    setup = open_adaptation(config, device)
    settings = setup.settings(config, world)
    controls = controls_of(config, setup, world)
    state_path = resume_path(config.out)
    started = any(control.started for control in controls)
    if not (started and not state_path.exists() and not config.out.exists()):
        refuse_foreign(config, settings, state_path)
    job = _job(config, setup, settings)
    train_controls(controls, config, rank)
    job_config = config if state_path.exists() or not started else _anew(config)
    fit(job, job_config, rank)
    if rank > 0:
        return 0
    networks = [*((control.name, control.network) for control in controls), ("adapted", job.network)]
    found = [evaluate_network(name, network, setup.compared) for name, network in networks] if setup.compared else []
    shared = images_in_both(setup.target, setup.compared) if setup.compared else 0
    result = reports.collect(job, setup.adaptation, len(setup.target), config.out, found, shared, config)
    write(job, config, "adapt", result.model_dump(include=set(reports.METRICS)))
    images = [setup.source, setup.target, *([setup.compared] if setup.compared else [])]
    return envelope.finish(
        "adapt",
        result,
        config,
        table=lambda: reports.table(result),
        clock=clock,
        device=device,
        params=settings["params"],
        inputs=[envelope.model_input(setup.start.network), *map(envelope.data_input, images)],
        flags=[
            *(flag for one in images for flag in envelope.data_flags(one)),
            *setup.start.notes(),
            *reports.flags(job, result, setup.adaptation),
        ],
        passed=result.gates,
        processes=world,
    )


def _job(config: AdaptConfig, setup: AdaptSetup, settings: dict[str, Any]) -> Run:
    """The adaptation as a training run."""
    from advkit.adaptation.method import MethodContext
    from advkit.adaptation.objective import adaptation_of
    from advkit.adaptation.selection import TargetSelection
    from advkit.training.run import Run
    from advkit.training.state import resume_path

    start = setup.start
    context = MethodContext(start.network, setup.target, setup.adaptation, start.params)
    return Run(
        start.network,
        setup.source,
        start.train,
        start.validation,
        [],
        start.params,
        resume_path(config.out),
        settings,
        objective=adaptation_of(context),
        selection=TargetSelection(config.select, setup.target, setup.labelled, config.seed),
    )


def _anew(config: AdaptConfig) -> AdaptConfig:
    """``config`` for a run that had not begun when another one beside it was interrupted."""
    from dataclasses import replace

    return replace(config, resume=False)


adapt = command(AdaptConfig, run)
