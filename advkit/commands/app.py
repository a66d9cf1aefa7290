"""All tools under one name, and what every error turns into."""

from __future__ import annotations

import atexit
import contextlib
import importlib
import os
import re
import signal
import sys
from typing import Annotated, NoReturn

import typer

import advkit
from advkit.files.errors import MEMORY_ADVICE, InputError, Interrupted, is_out_of_memory, memory_error
from advkit.files.signals import raise_on_stop_signals
from advkit.files.streams import ReaderLeftError, nowhere, say

TOOLS = {
    "train": "Train a classifier or a detector.",
    "adv-pretrain": "Train on adversarial images.",
    "adapt": "Adapt to another domain without its labels.",
    "attack": "Write adversarial images.",
    "transfer-matrix": "Count which attacks fool which models.",
    "evolve": "Search for an architecture that resists.",
    "domain-distance": "Measure how far domains lie apart.",
    "evaluate": "Measure accuracy on clean and adversarial sets.",
    "visualize": "Draw what models look at, and their features.",
}
VISUALIZE = ("visualize attention", "visualize features")  # whose reports differ
SHARED = (
    "train",
    "adv-pretrain",
    "adapt",
    "attack",
    "evaluate",
)  # whose work torchrun's processes share


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"advkit {advkit.__version__}")
        raise typer.Exit


def _schema(tool: str | None) -> None:
    if tool is None:
        return
    if tool not in (*TOOLS, *VISUALIZE):
        raise InputError(f"--schema {tool}: no such tool; tools: {', '.join((*TOOLS, *VISUALIZE))}")
    from importlib import resources

    typer.echo(
        resources.files("advkit.reports").joinpath(f"schemas/{tool.replace(' ', '-')}.json").read_text(), nl=False
    )
    raise typer.Exit


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


def application(tool: str | None = None) -> typer.Typer:
    """The command line with ``tool`` alone, which makes for a quick start, or with all tools."""
    app = typer.Typer(
        name="advkit",
        callback=root,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for name in [tool] if tool in TOOLS else TOOLS:
        module = importlib.import_module(f"advkit.commands.{name.replace('-', '_')}")
        if name == "visualize":
            app.add_typer(module.app, name=name)
        else:
            app.command(name, short_help=TOOLS[name])(getattr(module, name.replace("-", "_")))
    return app


def main() -> NoReturn:
    """Run the command line and leave with 0 (done), 1 (a gate failed), 2 (error), 130 or 143 (interrupted)."""
    # Threads that spin while they wait slow each other down tenfold on a busy machine. torch reads this when imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ["MPLBACKEND"] = "Agg"  # a notebook's, inherited, is not to be had here; matplotlib reads this likewise
    if sys.stdout is None or sys.stderr is None:  # closed by the caller: files must not get its numbers
        sys.stdout, sys.stderr = sys.stdout or nowhere(), sys.stderr or nowhere()
    status = run(sys.argv[1:])
    if os.environ.get("WORLD_SIZE", "1") != "1" and sys.argv[1:2] and sys.argv[1] in SHARED:
        _end_of_rank(status)
    sys.exit(status)


def run(arguments: list[str]) -> int:
    """Run one command line; returns the exit status."""
    debug = os.environ.get("ADVKIT_DEBUG", "") not in ("", "0")
    raise_on_stop_signals()
    if not arguments or arguments == ["visualize"]:
        arguments = [*arguments, "--help"]
    if arguments[0] not in SHARED and _another_rank():
        return 0  # the first process does all of the others' work
    try:
        status = application(arguments[0])(arguments, standalone_mode=False)
    except Interrupted as error:
        _complain(f"interrupted{f': {error}' if str(error) else ''}")
        return 128 + error.signum
    except (KeyboardInterrupt, typer.Abort):
        _complain("interrupted")
        return 130
    except typer.Exit as error:
        return error.exit_code
    except ReaderLeftError:
        return 128 + signal.SIGPIPE
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):  # a reader that left, as the option parser tells it
            return 128 + signal.SIGPIPE
        raise
    except Exception as error:
        if debug:
            raise
        _complain(_line(error, arguments[0]))
        return 2
    if status == 128 + signal.SIGINT:  # what the option parser makes of Ctrl-C
        _complain("interrupted")
    return status if isinstance(status, int) else 0


def _end_of_rank(status: int) -> NoReturn:
    """End the process without Python's shutdown, which the threads of its process group may outlive.

    One that lets go of a tensor meanwhile (gloo's do, after the last collective) would abort a process that is done.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


def _another_rank() -> bool:
    return os.environ.get("WORLD_SIZE", "1") != "1" and os.environ.get("RANK", "0") != "0"


def _line(error: Exception, tool: str) -> str:
    """One line for any exception: what the user can mend, or what a bug report needs."""
    if isinstance(error, InputError):
        return str(error)
    if hasattr(error, "format_message"):  # usage errors of the option parser
        told = " ".join(error.format_message().split()).replace("Value error, ", "")
        extra = re.search(r"unexpected extra argument[^ ]* \((.+)\)", told)
        if extra and tool == "adapt":
            return f"adapt: unexpected {extra[1]}; one MODEL, and data by --source and --target (see --help)"
        if extra and tool in ("train", "adv-pretrain", "evolve"):
            return f"{tool}: unexpected {extra[1]}; data are named by --data: --data {extra[1].split()[0]} (see --help)"
        if choice := re.fullmatch(r"Invalid value for '(--[\w-]+)'[^:]*: '(.*)' is not one of (.+)\.", told):
            known = choice[3].replace("'", "")
            return f"{choice[1]} {choice[2]}: choose from {known}"
        return f"{told} (see --help)"
    if is_out_of_memory(error):
        return f"{memory_error(error)}; {MEMORY_ADVICE[memory_error(error)]}"
    if isinstance(error, OSError):
        return f"{error.filename or 'input/output'}: {error.strerror or error}"
    return f"unexpected {type(error).__name__}: {' '.join(str(error).split())}; ADVKIT_DEBUG=1 shows where"


def _complain(message: str) -> None:
    """Why the run ends, once for all processes of torchrun."""
    if os.environ.get("WORLD_SIZE", "1") != "1":
        from advkit.parallel.process_group import first_to_fail

        if not first_to_fail():
            return
    say(f"advkit: {message}")
