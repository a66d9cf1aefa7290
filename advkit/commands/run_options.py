"""Options that several tools share, each written once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from advkit.commands.config import Config


@dataclass(frozen=True, kw_only=True)
class ReportOptions(Config):
    """Of every tool: where it runs, and where its report goes."""

    seed: Annotated[int, typer.Option(help="Of all randomness.")] = 0
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto"
    download: Annotated[bool, typer.Option("--download", help="Let NAME:DIR data be fetched.")] = False
    report: Annotated[
        Path | None, typer.Option("--report", metavar="FILE", help="Write the JSON report there; - is stdout.")
    ] = None
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON even on a terminal.")] = False
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no hints.")] = False


@dataclass(frozen=True, kw_only=True)
class RunOptions(ReportOptions):
    """Of tools that read images with their labels."""

    limit: Annotated[int | None, typer.Option(help="Take a class-stratified sample of N images.", metavar="N")] = None
    fix_boxes: Annotated[
        bool, typer.Option("--fix-boxes", help="Clip and drop wrong boxes of objects, instead of refusing the data.")
    ] = False


@dataclass(frozen=True, kw_only=True)
class SizeOption(Config):
    """Of tools that read pictures of any size."""

    size: Annotated[
        int | None, typer.Option(min=1, metavar="PIXELS", help="Resize and cut pictures in folders to this square.")
    ] = None


@dataclass(frozen=True, kw_only=True)
class StatisticsOptions(Config):
    """Of tools that open models, some of which don't say how they normalise."""

    mean: Annotated[
        str | None, typer.Option(metavar="LIST", help="Normalisation of a MODEL that brings none, a number a channel.")
    ] = None
    std: Annotated[str | None, typer.Option(metavar="LIST", help="Likewise.")] = None


@dataclass(frozen=True, kw_only=True)
class TestOptions(RunOptions, SizeOption, StatisticsOptions):
    """Of tools that look at test images with models."""

    data: Annotated[str, typer.Option("--data", metavar="DATA", help="Images and labels, e.g. digits or DIR#test.")]
    batch_size: Annotated[int, typer.Option(help="Images at a time; results differ by rounding only.", min=1)] = 128


@dataclass(frozen=True, kw_only=True)
class ForceOption(Config):
    """Of tools that write more than a report."""

    force: Annotated[bool, typer.Option("--force", help="Replace what another run wrote.")] = False


@dataclass(frozen=True, kw_only=True)
class GateOptions(Config):
    """Bounds on a rate."""

    fail_above: Annotated[
        float | None, typer.Option(metavar="RATE", help="Leave with status 1 if the rate is above.")
    ] = None
    fail_below: Annotated[
        float | None, typer.Option(metavar="RATE", help="Leave with status 1 if the rate is below.")
    ] = None


@dataclass(frozen=True, kw_only=True)
class WorkerOptions(Config):
    """Of tools that share their work between processes."""

    workers: Annotated[int, typer.Option(min=1, metavar="N", help="Processes that share the work.")] = 1
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Spread over the Ray cluster at HOST:PORT, or auto.")
    ] = None
