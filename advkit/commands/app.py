"""All tools under one name, and what every error turns into."""

from __future__ import annotations

import os
import signal
import sys
from typing import Annotated, NoReturn, TextIO

import typer

import advkit
from advkit.commands import attack, evaluate, evolve, train, transfer_matrix, visualize
from advkit.files.errors import InputError, Interrupted

app = typer.Typer(
    name="advkit",
    help="Measure adversarial transferability, and train against it. Manual pages: man advkit.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("train", short_help="Train a classifier.")(train.train)
app.command("attack", short_help="Write adversarial images.")(attack.attack)
app.command("transfer-matrix", short_help="Count which attacks fool which models.")(transfer_matrix.transfer_matrix)
app.command("evolve", short_help="Search for an architecture that resists.")(evolve.evolve)
app.command("evaluate", short_help="Measure accuracy on clean and adversarial sets.")(evaluate.evaluate)
app.add_typer(visualize.app, name="visualize")

TOOLS = ("train", "attack", "transfer-matrix", "evolve", "evaluate", "visualize")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"advkit {advkit.__version__}")
        raise typer.Exit


def _schema(tool: str | None) -> None:
    if tool is None:
        return
    if tool not in TOOLS:
        raise InputError(f"--schema {tool}: no such tool; tools: {', '.join(TOOLS)}")
    from importlib import resources

    typer.echo(resources.files("advkit.files").joinpath(f"schemas/{tool}.json").read_text(), nl=False)
    raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
    schema: Annotated[
        str | None,
        typer.Option(callback=_schema, is_eager=True, metavar="TOOL", help="Print the JSON schema of a tool's report."),
    ] = None,
) -> None:
    """Measure adversarial transferability, and train against it. Manual pages: man advkit."""


def main() -> NoReturn:
    """Run the command line and leave with 0 (done), 1 (a gate failed), 2 (error), 130 or 143 (interrupted)."""
    # Threads that spin while they wait slow each other down tenfold on a busy machine. torch reads this when imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    if sys.stdout is None or sys.stderr is None:  # closed by the caller: files must not get its numbers
        sys.stdout, sys.stderr = sys.stdout or _nowhere(), sys.stderr or _nowhere()
    sys.exit(run(sys.argv[1:]))


def _nowhere() -> TextIO:
    return open(os.devnull, "w")


def run(arguments: list[str]) -> int:
    """Run one command line; returns the exit status."""
    debug = os.environ.get("ADVKIT_DEBUG", "") not in ("", "0")
    signal.signal(signal.SIGTERM, _terminated)
    if not arguments or arguments == ["visualize"]:
        arguments = [*arguments, "--help"]
    try:
        status = app(arguments, standalone_mode=False)
    except Interrupted as error:
        _complain(f"interrupted{f': {error}' if str(error) else ''}")
        return 128 + error.signum
    except (KeyboardInterrupt, typer.Abort):
        _complain("interrupted")
        return 130
    except typer.Exit as error:
        return error.exit_code
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):  # a reader that left, as the option parser tells it
            return 128 + signal.SIGPIPE
        raise
    except Exception as error:
        if debug:
            raise
        _complain(_line(error))
        return 2
    if status == 128 + signal.SIGINT:  # what the option parser makes of Ctrl-C
        _complain("interrupted")
    return status if isinstance(status, int) else 0


def _terminated(signum: int, frame: object) -> NoReturn:
    raise Interrupted(signum)


def _line(error: Exception) -> str:
    """One line for any exception: what the user can mend, or what a bug report needs."""
    if isinstance(error, InputError):
        return str(error)
    if hasattr(error, "format_message"):  # usage errors of the option parser
        return f"{' '.join(error.format_message().split())} (see --help)"
    if isinstance(error, MemoryError) or "out of memory" in str(error):
        return "out of memory; lower --batch-size"
    if isinstance(error, OSError):
        return f"{error.filename or 'input/output'}: {error.strerror or error}"
    return f"unexpected {type(error).__name__}: {' '.join(str(error).split())}; ADVKIT_DEBUG=1 shows where"


def _complain(message: str) -> None:
    typer.echo(f"advkit: {message}", err=True)
