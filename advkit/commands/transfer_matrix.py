"""``advkit transfer-matrix``: does an attack on this network also fool that one, and how sure is that?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from advkit.commands.config import command
from advkit.commands.loading import names_of, pick_device
from advkit.commands.matrix_config import MatrixConfig, check, parse_compare
from advkit.commands.output import Progress
from advkit.reports.clock import Clock

if TYPE_CHECKING:
    from advkit.transfer.matrix import Plan
    from advkit.transfer.outcomes import SurrogateRun


def run(config: MatrixConfig) -> int:
    """Attack every MODEL, have every MODEL classify the result, and count.

    Rates are over the images that surrogate and victim both get right and that fool the surrogate.
    """
    clock = Clock()
    names = names_of(config.models)
    check(config, names)
    device = pick_device(config.device)
    from advkit.commands.matrix_setup import measured, open_setup, precomputed_runs, threads_of
    from advkit.reports import envelope, transfer_matrix_table
    from advkit.reports import transfer_matrix as reports

    setup = open_setup(config, device)
    plan, chosen = setup.plan, setup.chosen
    ready = precomputed_runs(setup, config)  # first: they may not fit
    _require_pair(config, plan, ready)
    with Progress(config.quiet) as progress:
        found = measured(setup, config, lambda done: progress.step("attack and predict", done, len(chosen)))
    found.attempts += ready
    comparisons = [parse_compare(text, names, reports.rows(found)) for text in config.compare]
    result = reports.collect(plan, found, chosen, comparisons)
    result.gates = reports.bounds(result.pairs, config.rate, config.fail_above, config.fail_below)
    if config.figure is not None:
        result.figure = str(config.figure)
        transfer_matrix_table.draw(config.figure, result, config.rate)
    return envelope.finish(
        "transfer-matrix",
        result,
        config,
        table=lambda: transfer_matrix_table.table(
            result, config.rate, f"{chosen.ref}{chosen.split and f'#{chosen.split}'}"
        ),
        clock=clock,
        device=device,
        params={
            "methods": [params.to_json() for params in plan.params if plan.surrogates],
            "target": config.target,
            "limit": config.limit,
            "rate": config.rate,
        },
        inputs=setup.opened.inputs(),
        flags=setup.opened.warnings() + reports.flags(plan, chosen, found, result),
        passed=result.gates,
        processes=config.workers,
        threads=threads_of(config.workers, config.ray),
    )


def _require_pair(config: MatrixConfig, plan: Plan, ready: Sequence[SurrogateRun]) -> None:
    """Raise InputError when a bound was given and every row was made on all the models there are."""
    rows = [(one,) for one in plan.surrogates] + [one.crafted_on for one in ready]
    if not any(set(range(len(plan.names))) - set(crafted_on) for crafted_on in rows):
        config.refuse(("fail_above", "fail_below"), "no transfer to judge, every row was made on every model there is")


transfer_matrix = command(MatrixConfig, run)
