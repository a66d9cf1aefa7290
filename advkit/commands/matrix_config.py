"""The options of ``transfer-matrix``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from advkit.commands.attack_options import METHODS_HELP, AttackOptions
from advkit.commands.checks import check_figure, check_gates, check_outputs
from advkit.commands.run_options import GateOptions, TestOptions, WorkerOptions
from advkit.files.errors import InputError


@dataclass(frozen=True, kw_only=True)
class MatrixConfig(AttackOptions, TestOptions, GateOptions, WorkerOptions):
    """The options of ``transfer-matrix``."""

    models: Annotated[tuple[str, ...], typer.Argument(metavar="[NAME=]MODEL...", help="Surrogates and victims.")]
    method: Annotated[
        tuple[str, ...], typer.Option(help=f"Repeat for several and their union [pgd]. {METHODS_HELP}")
    ] = ()
    surrogate: Annotated[
        tuple[str, ...], typer.Option(metavar="NAME", help="Attack only this model; repeatable [all].")
    ] = ()
    adversarial: Annotated[
        tuple[Path, ...],
        typer.Option(metavar="SET", help="A file or folder that attack wrote, as one more row; repeatable."),
    ] = ()
    compare: Annotated[
        tuple[str, ...], typer.Option(metavar="R:A,B", help="Paired test of victims A and B under surrogate R.")
    ] = ()
    gradients: Annotated[bool, typer.Option("--gradients/--no-gradients", help="Measure gradient cosines.")] = True
    rate: Annotated[Literal["cond", "both", "raw", "same"], typer.Option(help="Shown and gated.")] = "cond"
    figure: Annotated[Path | None, typer.Option(metavar="FILE", help="Heat map as .png, .svg or .pdf.")] = None


def check(config: MatrixConfig, names: list[str]) -> None:
    """What can be found wrong before anything heavy is imported.

    Raises:
        InputError: names that don't exist or stand twice, options that would do nothing, files that can't be written.
    """
    check_outputs(config, "report", "figure")
    check_figure("figure", config.figure)
    check_gates(config)
    if len(names) < 2 and not config.adversarial:
        config.refuse(("fail_above", "fail_below"), "no pair of two models to judge; give another MODEL")
    for name in config.surrogate:
        if name not in names:
            raise InputError(f"--surrogate {name}: no such model; there are {', '.join(names)}")
        if config.surrogate.count(name) > 1:
            raise InputError(f"--surrogate {name}: given twice; drop one")
    sets = [set_name(path) for path in config.adversarial]
    for name in sets:
        if [*names, *sets].count(name) > 1:
            raise InputError(f"--adversarial {name}: another row has that name; rename the file")
    for text in config.compare:
        parse_compare(text, names, [*(config.surrogate or names), *sets])


def set_name(path: Path) -> str:
    """What the row of a ready-made set is called."""
    return path.name.removesuffix(".safetensors")


def parse_compare(text: str, names: Sequence[str], surrogates: Sequence[str]) -> tuple[str, str, str]:
    """``R:A,B`` as surrogate and two victims.

    Raises:
        InputError: written otherwise, or names that don't exist.
    """
    surrogate, colon, victims = text.partition(":")
    a, comma, b = victims.partition(",")
    if not (colon and comma):
        raise InputError(f"--compare {text}: write R:A,B, the surrogate and two victims")
    for name, known in ((surrogate, surrogates), (a, names), (b, names)):
        if name not in known:
            raise InputError(f"--compare {text}: {name!r} is not among {', '.join(known)}")
    return surrogate, a, b
