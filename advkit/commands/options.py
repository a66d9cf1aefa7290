"""Options that several tools share, written once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from advkit.files.errors import InputError

DataOption = Annotated[str, typer.Option("--data", metavar="DATA", help="Images and labels, e.g. digits or DIR#test.")]
Limit = Annotated[int | None, typer.Option(help="Take a class-stratified sample of N images.", metavar="N")]
Seed = Annotated[int, typer.Option(help="Of all randomness.")]
BatchSize = Annotated[int, typer.Option(help="Images at a time; no effect on results.", min=1)]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Download = Annotated[bool, typer.Option("--download", help="Let NAME:DIR data be fetched.")]
Size = Annotated[
    int | None, typer.Option(min=1, metavar="PIXELS", help="Resize and cut pictures in folders to this square.")
]
ReportFile = Annotated[Path | None, typer.Option("--report", metavar="FILE", help="Write the JSON report there.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON even on a terminal.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no hints.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what another run wrote.")]
FailAbove = Annotated[float | None, typer.Option(metavar="RATE", help="Leave with status 1 if the rate is above.")]
FailBelow = Annotated[float | None, typer.Option(metavar="RATE", help="Leave with status 1 if the rate is below.")]


def choice(option: str, value: str, allowed: tuple[str, ...]) -> Any:
    """``value`` if it is among ``allowed``.

    Raises:
        InputError: it is not; the choices are named.
    """
    if value not in allowed:
        raise InputError(f"--{option} {value}: choose from {', '.join(allowed)}")
    return value


def choices(option: str, value: str, allowed: tuple[str, ...]) -> tuple[str, ...]:
    """Comma-separated names, in the order of ``allowed``, each once.

    Raises:
        InputError: unknown names, or none.
    """
    names = {name.strip() for name in value.split(",") if name.strip()}
    for name in sorted(names):
        choice(option, name, allowed)
    if not names:
        raise InputError(f"--{option}: choose from {', '.join(allowed)}")
    return tuple(name for name in allowed if name in names)


def within(option: str, value: float | None, low: float, high: float, *, open_end: bool = False) -> None:
    """Check ``low <= value <= high`` (``< high`` with ``open_end``); None passes.

    Raises:
        InputError: outside, or NaN.
    """
    if value is None:
        return
    good = low <= value < high if open_end else low <= value <= high
    if not good:
        raise InputError(f"--{option} {value:g}: must lie in [{low:g}, {high:g}{')' if open_end else ']'}")


def floats(option: str, value: str | None) -> tuple[float, ...] | None:
    """Comma-separated numbers.

    Raises:
        InputError: something else.
    """
    if value is None:
        return None
    try:
        return tuple(float(part) for part in value.split(","))
    except ValueError as error:
        raise InputError(f"--{option} {value}: numbers with commas between, one for each channel") from error
