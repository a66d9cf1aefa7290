"""The options of ``evolve``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from advkit.commands.attack_options import BudgetOptions
from advkit.commands.checks import check_checkpoint, check_figure, check_outputs, check_range
from advkit.commands.run_options import ForceOption, RunOptions, WorkerOptions
from advkit.commands.train_config import PenaltyOptions, RecipeOptions
from advkit.files.errors import InputError

GRAPHVIZ = (".dot", ".gv")


@dataclass(frozen=True, kw_only=True)
class EvolveConfig(BudgetOptions, WorkerOptions, RunOptions, ForceOption):
    """The options of ``evolve``."""

    reference: Annotated[str, typer.Argument(metavar="R", help="The reference network.")]
    data: Annotated[str, typer.Option("--data", metavar="DATA", help="Images and labels, e.g. digits.")]
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The checkpoint of E to write.")]
    run_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where the run is kept; the same command goes on. [FILE.run]")
    ] = None
    recipe_from: Annotated[
        Path | None, typer.Option(metavar="MODEL", help="R': E is trained as this checkpoint was, and held against it.")
    ] = None
    search: Annotated[
        Literal["evolution", "random"], typer.Option(help="random draws every candidate anew, under the same budget.")
    ] = "evolution"
    objective: Annotated[
        Literal["front", "scalar"], typer.Option(help="Accuracy and T_cond (NSGA-II), or accuracy - T_cond.")
    ] = "front"
    ageing: Annotated[bool, typer.Option("--ageing", help="The oldest leave the population, not the worst.")] = False
    budget: Annotated[int, typer.Option(min=1, help="Full-length candidate trainings to spend.")] = 60
    population: Annotated[int, typer.Option(min=2, help="Candidates that survive a generation.")] = 12
    offspring: Annotated[int, typer.Option(min=1, help="Candidates proposed in a generation.")] = 12
    rungs: Annotated[int, typer.Option(min=1, max=5, help="Trainings of growing length; one in 3 goes on.")] = 2
    accuracy_floor: Annotated[
        float | None,
        typer.Option(metavar="RATE", help="Validation accuracy to keep [2 points less than R's architecture]."),
    ] = None
    inherit: Annotated[bool, typer.Option("--inherit", help="Children start from their parent's weights.")] = False
    begin_with: Annotated[
        tuple[str, ...], typer.Option(metavar="ARCH", help="A genome in the first generation; repeatable.")
    ] = ()
    baseline: Annotated[
        tuple[str, ...], typer.Option(metavar="ARCH", help="Train this too, for comparison; repeatable.")
    ] = ()
    compare_run: Annotated[
        tuple[Path, ...], typer.Option(metavar="DIR", help="Another run to draw and to list; repeatable.")
    ] = ()
    candidate_images: Annotated[int, typer.Option(min=2, help="Training images of a candidate.")] = 5000
    candidate_epochs: Annotated[int, typer.Option(min=1, help="Epochs of a candidate.")] = 3
    validation_images: Annotated[int, typer.Option(min=1, help="Held-out images to measure on.")] = 1000
    finalists: Annotated[int, typer.Option(min=0, help="Candidates retrained by the whole recipe; 0 for none.")] = 2
    epochs: Annotated[int, typer.Option(min=1, help="Of the final training, without --recipe-from.")] = (
        RecipeOptions.epochs
    )
    misalign_weight: Annotated[float, typer.Option(help="As for train, without --recipe-from.")] = (
        PenaltyOptions.misalign_weight
    )
    smoothness_weight: Annotated[float, typer.Option(help="As for train, without --recipe-from.")] = (
        PenaltyOptions.smoothness_weight
    )
    method: Annotated[tuple[str, ...], typer.Option(help="Attack on R; repeatable [pgd and mi,di].")] = ()
    max_parameters: Annotated[int, typer.Option(min=1, help="Of a candidate.")] = 2_000_000
    max_multiply_adds: Annotated[int, typer.Option(min=1, help="Of a candidate, for one image.")] = 60_000_000
    threads: Annotated[int, typer.Option(min=1, help="Of each worker.")] = 1
    candidate_timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="A training that takes longer is tried once more.")
    ] = None
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Train one candidate, print plan and time, leave.")] = False
    figure: Annotated[Path | None, typer.Option(metavar="FILE", help="Accuracy against T_cond.")] = None
    figure_architecture: Annotated[Path | None, typer.Option(metavar="FILE", help="E as a graph; or as DOT.")] = None


def check(config: EvolveConfig) -> None:
    """What can be found wrong before anything heavy is imported.

    Raises:
        InputError: values out of range, options that would do nothing, files that can't be written.
    """
    check_outputs(config, "out", "report", "figure", "figure_architecture")
    check_checkpoint(config.out)
    check_figure("figure", config.figure)
    check_figure("figure-architecture", config.figure_architecture, GRAPHVIZ)
    check_range("accuracy-floor", config.accuracy_floor, 0.0, 1.0)
    check_range("misalign-weight", config.misalign_weight, 0.0, 1e6)
    check_range("smoothness-weight", config.smoothness_weight, 0.0, 1e6)
    if config.candidate_timeout is not None and not config.candidate_timeout > 0:
        raise InputError(f"--candidate-timeout {config.candidate_timeout:g}: a positive number of seconds is needed")
    if config.recipe_from is not None:
        said = ("epochs", "misalign_weight", "smoothness_weight", "limit")
        config.refuse(said, "--recipe-from says it already; leave it out")
    if config.search == "random":
        config.refuse(("inherit", "ageing", "population"), "random search breeds nobody; leave it out")
