"""``advkit evolve``: search for an architecture that a reference's adversarial examples don't reach."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from advkit.commands import options, output
from advkit.commands.opening import pick_device
from advkit.files.errors import InputError

if TYPE_CHECKING:
    from advkit.commands.evolve_run import Campaign

FIGURES = (".png", ".svg", ".pdf")


def evolve(
    reference: Annotated[str, typer.Argument(metavar="R", help="The reference network.")],
    data: options.DataOption,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The checkpoint of E to write.")],
    run_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where the run is kept; the same command goes on. [FILE.run]")
    ] = None,
    like: Annotated[
        Path | None, typer.Option(metavar="MODEL", help="R': E is trained as this checkpoint was, and held against it.")
    ] = None,
    search: Annotated[str, typer.Option(help="evolution, or random under the same budget.")] = "evolution",
    objective: Annotated[str, typer.Option(help="front (NSGA-II) or scalar (accuracy - T_cond).")] = "front",
    ageing: Annotated[bool, typer.Option("--ageing", help="The oldest leave the population, not the worst.")] = False,
    budget: Annotated[int, typer.Option(min=1, help="Full-length candidate trainings to spend.")] = 60,
    population: Annotated[int, typer.Option(min=2, help="Candidates that breed.")] = 12,
    offspring: Annotated[int, typer.Option(min=1, help="Candidates proposed in a generation.")] = 12,
    rungs: Annotated[int, typer.Option(min=1, max=5, help="Trainings of growing length; one in 3 goes on.")] = 2,
    accuracy_floor: Annotated[
        float | None,
        typer.Option(metavar="RATE", help="Validation accuracy to keep [that of R' as a candidate - 2 %]."),
    ] = None,
    inherit: Annotated[bool, typer.Option("--inherit", help="Children start from their parent's weights.")] = False,
    begin_with: Annotated[
        list[str] | None, typer.Option(metavar="ARCH", help="A genome in the first generation; repeatable.")
    ] = None,
    beside: Annotated[
        list[str] | None, typer.Option(metavar="ARCH", help="Train this too, for comparison; repeatable.")
    ] = None,
    beside_run: Annotated[
        list[Path] | None, typer.Option(metavar="DIR", help="Another run, drawn and listed beside; repeatable.")
    ] = None,
    candidate_images: Annotated[int, typer.Option(min=2, help="Training images of a candidate.")] = 5000,
    candidate_epochs: Annotated[int, typer.Option(min=1, help="Epochs of a candidate.")] = 3,
    validation_images: Annotated[int, typer.Option(min=1, help="Held-out images to measure on.")] = 1000,
    finalists: Annotated[int, typer.Option(min=0, help="Candidates retrained by the whole recipe; 0 for none.")] = 2,
    epochs: Annotated[int, typer.Option(min=1, help="Of the final training, without --like.")] = 10,
    misalign_weight: Annotated[float, typer.Option(help="As for train, without --like.")] = 1.0,
    smoothness_weight: Annotated[float, typer.Option(help="As for train, without --like.")] = 0.0,
    method: Annotated[list[str] | None, typer.Option(help="Attack on R; repeatable [pgd and mi,di].")] = None,
    eps: options.Eps = "8/255",
    norm: options.NormOption = "linf",
    steps: options.Steps = 10,
    max_parameters: Annotated[int, typer.Option(min=1, help="Of a candidate.")] = 2_000_000,
    max_multiply_adds: Annotated[int, typer.Option(min=1, help="Of a candidate, for one image.")] = 60_000_000,
    workers: options.Workers = 1,
    ray: options.Ray = None,
    threads: Annotated[int, typer.Option(min=1, help="Of each worker.")] = 1,
    candidate_timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="A training that takes longer is tried once more.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Train one candidate, print plan and time, leave.")
    ] = False,
    figure: Annotated[Path | None, typer.Option(metavar="FILE", help="Accuracy against T_cond.")] = None,
    figure_architecture: Annotated[Path | None, typer.Option(metavar="FILE", help="E drawn as a graph.")] = None,
    limit: options.Limit = None,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    download: options.Download = False,
    force: options.Force = False,
    report: options.ReportFile = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> int:
    """Search for an architecture E that, trained with the misalignment penalty, resists R's adversarial examples.

    Candidates are judged on a part of the training images that is held out; test images are never read.
    """
    clock = output.Clock()
    given = dict(locals())
    _check(given)
    device = pick_device(device)
    from advkit.commands import evolve_result, evolve_run, evolve_text
    from advkit.files.lock import sole_writer

    campaign = evolve_run.prepare(given, device)
    if dry_run:
        for line in evolve_text.plan(campaign, evolve_run.measure_one(campaign, given), finalists):
            typer.echo(line)
        return 0
    with sole_writer(out):
        evolve_run.carry_out(campaign, given)
    result = evolve_result.collect(campaign, given)
    _draw(campaign, given, result)
    status = output.finish(
        "evolve",
        result,
        table=lambda: evolve_text.table(result),
        clock=clock,
        seed=seed,
        device=device,
        params=campaign.settings,
        inputs=campaign.inputs(),
        flags=evolve_result.flags(result),
        report_file=report,
        as_json=as_json,
        quiet=quiet,
        processes=workers,
        threads=threads,
    )
    if result.checkpoint is None:
        tried = f"no candidate could be trained; see {result.run_directory}/candidates.jsonl"
        none = "no network keeps --max-parameters and --max-multiply-adds; raise them"
        raise InputError(f"{out}: not written, {tried if sum(result.trainings) else none}")
    return status


def _check(given: dict[str, Any]) -> None:
    options.check_outputs(given, "out", "report", "figure", "figure_architecture")
    if given["out"].suffix != ".safetensors":
        raise InputError(f"-o {given['out']}: a checkpoint's name ends in .safetensors")
    for name in ("figure", "figure_architecture"):
        if given[name] is not None and given[name].suffix not in FIGURES:
            raise InputError(f"--{name.replace('_', '-')} {given[name]}: the name ends in {', '.join(FIGURES)}")
    options.within("accuracy-floor", given["accuracy_floor"], 0.0, 1.0)
    for name in ("misalign_weight", "smoothness_weight"):
        options.within(name.replace("_", "-"), given[name], 0.0, 1e6)
    if given["candidate_timeout"] is not None and not given["candidate_timeout"] > 0:
        raise InputError(f"--candidate-timeout {given['candidate_timeout']:g}: a positive number of seconds is needed")
    if given["like"] is not None:
        defaults = {"epochs": 10, "misalign_weight": 1.0, "smoothness_weight": 0.0, "limit": None}
        for name, value in defaults.items():
            if given[name] != value:
                raise InputError(f"--{name.replace('_', '-')}: --like says it already; leave it out")


def _draw(campaign: Campaign, given: dict[str, Any], result: Any) -> None:
    from advkit.commands import evolve_figure

    if given["figure"] is not None and result.members:
        evolve_figure.draw_front(given["figure"], campaign, result)
    if given["figure_architecture"] is not None and result.chosen is not None:
        evolve_figure.draw_architecture(given["figure_architecture"], campaign, result)
