"""The options of ``evolve``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from advkit.commands import options
from advkit.commands.config import Config
from advkit.files.errors import InputError

PICTURES = (".png", ".svg", ".pdf")
GRAPHS = (*PICTURES, ".dot", ".gv")


@dataclass(frozen=True, kw_only=True)
class EvolveConfig(Config):
    """Search for an architecture E that, trained with the misalignment penalty, resists R's adversarial examples.

    Candidates are judged on a part of the training images that is held out; test images are never read.
    """

    reference: Annotated[str, typer.Argument(metavar="R", help="The reference network.")]
    data: options.DataOption
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The checkpoint of E to write.")]
    run_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where the run is kept; the same command goes on. [FILE.run]")
    ] = None
    recipe_from: Annotated[
        Path | None, typer.Option(metavar="MODEL", help="R': E is trained as this checkpoint was, and held against it.")
    ] = None
    search: Annotated[Literal["evolution", "random"], typer.Option(help="Random is under the same budget.")] = (
        "evolution"
    )
    objective: Annotated[Literal["front", "scalar"], typer.Option(help="NSGA-II's front, or accuracy - T_cond.")] = (
        "front"
    )
    ageing: Annotated[bool, typer.Option("--ageing", help="The oldest leave the population, not the worst.")] = False
    budget: Annotated[int, typer.Option(min=1, help="Full-length candidate trainings to spend.")] = 60
    population: Annotated[int, typer.Option(min=2, help="Candidates that breed.")] = 12
    offspring: Annotated[int, typer.Option(min=1, help="Candidates proposed in a generation.")] = 12
    rungs: Annotated[int, typer.Option(min=1, max=5, help="Trainings of growing length; one in 3 goes on.")] = 2
    accuracy_floor: Annotated[
        float | None,
        typer.Option(metavar="RATE", help="Validation accuracy to keep [that of R' as a candidate - 2 %]."),
    ] = None
    inherit: Annotated[bool, typer.Option("--inherit", help="Children start from their parent's weights.")] = False
    begin_with: Annotated[
        list[str] | None, typer.Option(metavar="ARCH", help="A genome in the first generation; repeatable.")
    ] = None
    baseline: Annotated[
        list[str] | None, typer.Option(metavar="ARCH", help="Train this too, for comparison; repeatable.")
    ] = None
    compare_run: Annotated[
        list[Path] | None, typer.Option(metavar="DIR", help="Another run to draw and to list; repeatable.")
    ] = None
    candidate_images: Annotated[int, typer.Option(min=2, help="Training images of a candidate.")] = 5000
    candidate_epochs: Annotated[int, typer.Option(min=1, help="Epochs of a candidate.")] = 3
    validation_images: Annotated[int, typer.Option(min=1, help="Held-out images to measure on.")] = 1000
    finalists: Annotated[int, typer.Option(min=0, help="Candidates retrained by the whole recipe; 0 for none.")] = 2
    epochs: Annotated[int, typer.Option(min=1, help="Of the final training, without --recipe-from.")] = 10
    misalign_weight: Annotated[float, typer.Option(help="As for train, without --recipe-from.")] = 1.0
    smoothness_weight: Annotated[float, typer.Option(help="As for train, without --recipe-from.")] = 0.0
    method: Annotated[list[str] | None, typer.Option(help="Attack on R; repeatable [pgd and mi,di].")] = None
    eps: options.Eps = "8/255"
    norm: options.NormOption = "linf"
    steps: options.Steps = 10
    max_parameters: Annotated[int, typer.Option(min=1, help="Of a candidate.")] = 2_000_000
    max_multiply_adds: Annotated[int, typer.Option(min=1, help="Of a candidate, for one image.")] = 60_000_000
    workers: options.Workers = 1
    ray: options.Ray = None
    threads: Annotated[int, typer.Option(min=1, help="Of each worker.")] = 1
    candidate_timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="A training that takes longer is tried once more.")
    ] = None
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Train one candidate, print plan and time, leave.")] = False
    figure: Annotated[Path | None, typer.Option(metavar="FILE", help="Accuracy against T_cond.")] = None
    figure_architecture: Annotated[Path | None, typer.Option(metavar="FILE", help="E drawn as a graph.")] = None
    limit: options.Limit = None
    seed: options.Seed = 0
    device: options.Device = "auto"
    download: options.Download = False
    force: options.Force = False
    report: options.ReportFile = None
    as_json: options.AsJson = False
    quiet: options.Quiet = False


def check(config: EvolveConfig) -> None:
    """What can be found wrong before anything heavy is imported.

    Raises:
        InputError: values out of range, options that would do nothing, files that can't be written.
    """
    options.check_outputs(vars(config), "out", "report", "figure", "figure_architecture")
    if config.out.suffix != ".safetensors":
        raise InputError(f"-o {config.out}: a checkpoint's name ends in .safetensors")
    for option, path, suffixes in (
        ("figure", config.figure, PICTURES),
        ("figure-architecture", config.figure_architecture, GRAPHS),
    ):
        if path is not None and path.suffix not in suffixes:
            raise InputError(f"--{option} {path}: the name ends in {', '.join(suffixes)}")
    options.check_range("accuracy-floor", config.accuracy_floor, 0.0, 1.0)
    options.check_range("misalign-weight", config.misalign_weight, 0.0, 1e6)
    options.check_range("smoothness-weight", config.smoothness_weight, 0.0, 1e6)
    if config.candidate_timeout is not None and not config.candidate_timeout > 0:
        raise InputError(f"--candidate-timeout {config.candidate_timeout:g}: a positive number of seconds is needed")
    if config.recipe_from is not None:
        _refuse(config, ("epochs", "misalign_weight", "smoothness_weight", "limit"), "--recipe-from says it already")
    if config.search == "random":
        _refuse(config, ("inherit", "ageing", "population"), "random search breeds nobody")


def _refuse(config: EvolveConfig, names: tuple[str, ...], why: str) -> None:
    """Raise InputError for the first of the options ``names`` that was given."""
    for name in names:
        if name in config.explicit:
            raise InputError(f"--{name.replace('_', '-')}: {why}; leave it out")
