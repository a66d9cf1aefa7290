"""Options that several tools share, written once."""

from __future__ import annotations

import os
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
Workers = Annotated[int, typer.Option(min=1, metavar="N", help="Processes that share the work.")]
Ray = Annotated[str | None, typer.Option(metavar="ADDRESS", help="Spread over the Ray cluster at HOST:PORT, or auto.")]


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


def check_range(option: str, value: float | None, low: float, high: float, *, open_end: bool = False) -> None:
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


Eps = Annotated[str, typer.Option(help="Radius in pixel units of [0, 1]: 8/255 or 0.03.")]
NormOption = Annotated[str, typer.Option("--norm", help="linf or l2.")]
Steps = Annotated[int, typer.Option(min=1, help="Gradient steps in each restart.")]
StepSize = Annotated[
    str | None, typer.Option(help="Pixel units, like --eps: 2/255 [2.5 eps/steps for pgd, else eps/steps].")
]
LossOption = Annotated[str | None, typer.Option("--loss", help="ce, margin or logit [the method's own].")]
LOSSES = ("ce", "margin", "logit")
METHODS_HELP = "fgsm, pgd; mi, ni, di, ti, si composed with commas; noise, identity. See --methods."
Target = Annotated[
    str | None, typer.Option(metavar="CLASS", help="Aim at a class: its name or number, next, random, least-likely.")
]
RandomStart = Annotated[bool | None, typer.Option("--random-start/--no-random-start", help="[by method: pgd only]")]
Restarts = Annotated[int, typer.Option(min=1, help="Independent runs; the strongest counts.")]
PrecisionOption = Annotated[str, typer.Option("--precision", help="Of the attack's passes: float32, bfloat16 or auto.")]


def check_outputs(given: dict[str, Any], *names: str) -> None:
    """Fail now when one of the files to be written can't be, would replace another, or what the run reads.

    Args:
        given: all options.
        names: those that are files to be written; ``out`` has rules of its own for what it may replace.

    Raises:
        InputError: one line for the first such file.
    """
    from advkit.files.atomic import require_writable

    outputs = {name: Path(given[name]) for name in names if given[name] is not None}
    inputs = [text for name, value in given.items() if name not in names for text in _texts(value)]
    read = {os.path.realpath(file): text for text in inputs for file in _files(text)}
    written: dict[str, str] = {}
    for name, path in outputs.items():
        option = "-o" if name == "out" else f"--{name.replace('_', '-')}"
        require_writable(path, special=name == "report")
        place = os.path.realpath(path)
        if written.setdefault(place, option) != option:
            raise InputError(f"{option} {path}: {written[place]} goes there too; give each its own file")
        if name != "out" and place in read:
            raise InputError(f"{option} {path}: the run reads {read[place]}; choose another name")


def _texts(value: Any) -> list[str]:
    if isinstance(value, (list, tuple)):
        return [text for one in value for text in _texts(one)]
    return [str(value)] if isinstance(value, (str, Path)) else []


def _files(text: str) -> list[str]:
    """Files that a reference to a model or to data may name."""
    spelt = [part for whole in (text, text.partition("=")[2]) for part in (whole, whole.rpartition("@")[2])]
    return [name for part in spelt for name in (part, part.rpartition("#")[0]) if name and os.path.isfile(name)]


def attack_params(given: dict[str, Any], method: str, goal: str) -> Any:
    """The :class:`~advkit.attacks.params.AttackParams` that the options ask for.

    Raises:
        InputError: values out of range.
    """
    from advkit.attacks.budget import check_eps, parse_eps
    from advkit.attacks.methods import parse_method
    from advkit.attacks.params import AttackParams
    from advkit.commands.loading import PRECISIONS, pick_precision

    norm = choice("norm", given["norm"], ("linf", "l2"))
    eps = parse_eps(given["eps"])
    check_eps(eps, norm, given["eps"])
    parsed = parse_method(method)
    _check_uses(given, parsed, norm)
    return AttackParams(
        method=parsed,
        eps=eps,
        norm=norm,
        steps=given["steps"],
        step_size=None if given["step_size"] is None else parse_eps(given["step_size"], "step-size"),
        loss=choice("loss", given["loss"], LOSSES) if given["loss"] is not None else None,
        targeted=given["target"] is not None,
        random_start=given["random_start"],
        restarts=given["restarts"],
        goal=choice("goal", goal, ("robustness", "transfer")),
        seed=given["seed"],
        precision=pick_precision(choice("precision", given["precision"], PRECISIONS), given.get("device", "cpu")),
    )


def _check_uses(given: dict[str, Any], method: Any, norm: str) -> None:
    """Refuse what has no effect on ``method``, and what it can't do.

    Raises:
        InputError: one line.
    """
    if norm not in method.attack.norms:
        known = " and ".join(method.attack.norms)
        raise InputError(f"--norm {norm}: {method.attack.name} has {known} only")
    usual = {"steps": 10, "step_size": None, "random_start": None, "restarts": 1, "loss": None}
    for name, value in usual.items():
        if name not in method.attack.uses and given[name] != value:
            raise InputError(f"--{name.replace('_', '-')}: does nothing with {method.attack.name}; leave it out")
