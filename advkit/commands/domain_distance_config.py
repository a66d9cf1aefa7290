"""The options of ``domain-distance``, and what can be found wrong with them before anything is read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from advkit.commands.checks import check_figure, check_outputs
from advkit.commands.run_options import ReportOptions, StatisticsOptions, TestOptions
from advkit.files.errors import InputError

PIXELS = "pixels"
OF_IMAGES = ("features", "size", "mean", "std", "batch_size", "limit", "download", "device")


@dataclass(frozen=True, kw_only=True)
class DistanceConfig(ReportOptions, StatisticsOptions):
    """The options of ``domain-distance``."""

    data: Annotated[
        tuple[str, ...], typer.Argument(metavar="[NAME=]DATA...", help="The source, and domains to compare with it.")
    ]
    features: Annotated[
        str, typer.Option(metavar="MODEL[:LAYER]", help="What to compare the images by, or pixels.")
    ] = PIXELS
    size: Annotated[
        int | None, typer.Option(min=1, max=2048, metavar="PIXELS", help="Scale and cut all images to this square.")
    ] = None
    batch_size: Annotated[int, typer.Option(help="Images at a time; results differ by rounding only.", min=1)] = (
        TestOptions.batch_size
    )
    limit: Annotated[int | None, typer.Option(help="Take a random sample of N images of each domain.", metavar="N")] = (
        None
    )
    subsample: Annotated[int | None, typer.Option(min=4, metavar="N", help="Images of each domain in a draw.")] = None
    repeats: Annotated[int, typer.Option(min=1, help="Draws.")] = 5
    permutations: Annotated[int, typer.Option(min=1, help="Regroupings that the p-value counts.")] = 1000
    advise: Annotated[bool, typer.Option("--advise", help="Say whether adversarial pre-training may help.")] = False
    calibration: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Measured gains that the advice goes by.")
    ] = None
    figure: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the domains: .png, .svg or .pdf.")] = None
    fail_above: Annotated[
        float | None, typer.Option(metavar="RATIO", help="Leave with status 1 if a ratio to the floor is above.")
    ] = None
    fail_below: Annotated[
        float | None, typer.Option(metavar="RATIO", help="Leave with status 1 if a ratio to the floor is below.")
    ] = None


def check(config: DistanceConfig) -> None:
    """What can be found wrong before anything heavy is imported.

    Raises:
        InputError: fewer than two domains, values out of range, options that would do nothing, files that can't be
            written.
    """
    check_outputs(config, "figure", "report")
    check_figure("figure", config.figure)
    for option, bound in (("fail-above", config.fail_above), ("fail-below", config.fail_below)):
        if bound is not None and not (0 <= bound < math.inf):
            raise InputError(f"--{option} {bound:g}: a ratio to the floor is 0 or more; 1 is the floor itself")
    if len(config.data) < 2:
        raise InputError(f"{config.data[0]}: a distance is between two; name the source, and a domain or more")
    if not config.advise:
        config.refuse(("calibration",), "does nothing without --advise; add it")
    if config.features == PIXELS:
        config.refuse(("mean", "std"), "does nothing with pixels, which no model normalises; leave it out")


def check_ready(config: DistanceConfig) -> None:
    """Refuse options of images where all data are ready features."""
    config.refuse(OF_IMAGES, "does nothing with ready features; leave it out")
