"""What can be found wrong with options before anything heavy is imported."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

from advkit.commands.config import Config, spelt
from advkit.commands.run_options import GateOptions
from advkit.files.errors import InputError

FIGURES = (".png", ".svg", ".pdf")

Statistics = tuple[tuple[float, ...] | None, tuple[float, ...] | None]  # mean and std, None where nobody says


def choices(option: str, value: str, allowed: tuple[str, ...]) -> tuple[str, ...]:
    """Comma-separated names, in the order of ``allowed``, each once.

    Raises:
        InputError: unknown names, or none.
    """
    names = {name.strip() for name in value.split(",") if name.strip()}
    for name in sorted(names - set(allowed)):
        raise InputError(f"--{option} {name}: choose from {', '.join(allowed)}")
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


def check_gates(config: GateOptions) -> None:
    """Raise InputError when a bound is no rate."""
    check_range("fail-above", config.fail_above, 0.0, 1.0)
    check_range("fail-below", config.fail_below, 0.0, 1.0)


def check_figure(option: str, path: Path | None, more: tuple[str, ...] = ()) -> None:
    """Raise InputError when ``path`` is no kind of picture that can be drawn, nor of ``more`` suffixes."""
    if path is not None and path.suffix not in (*FIGURES, *more):
        raise InputError(f"--{option} {path}: the name ends in {', '.join((*FIGURES, *more))}")


def check_checkpoint(path: Path) -> None:
    """Raise InputError when ``-o`` names no safetensors file."""
    if path.suffix != ".safetensors":
        raise InputError(f"-o {path}: a checkpoint's name ends in .safetensors")


def _floats(option: str, value: str | None) -> tuple[float, ...] | None:
    """Comma-separated numbers or fractions, such as ``0.5`` and ``125/255``.

    Raises:
        InputError: something else.
    """
    if value is None:
        return None
    try:
        return tuple(_number(part) for part in value.split(","))
    except (ValueError, ZeroDivisionError) as error:
        raise InputError(f"--{option} {value}: numbers with commas between, one for each channel") from error


def _number(text: str) -> float:
    top, bar, bottom = text.partition("/")
    return float(top) / float(bottom) if bar else float(top)


def statistics(mean: str | None, std: str | None) -> Statistics:
    """What ``--mean`` and ``--std`` say, each None where it says nothing.

    Raises:
        InputError: no numbers; NaN, infinities, and numbers that belong to pixels of [0, 255].
    """
    from advkit.models.config import LEAST_STD, check_statistic

    means, stds = _floats("mean", mean), _floats("std", std)
    for value in means or ():
        check_statistic(f"--mean {value:g}", value)
    for value in stds or ():
        check_statistic(f"--std {value:g}", value, LEAST_STD)
    return means, stds


def check_outputs(config: Config, *names: str) -> None:
    """Fail now when one of the files to be written can't be, would replace another, or what the run reads.

    Args:
        config: all options.
        names: those that are files to be written; ``out`` has rules of its own for what it may replace.

    Raises:
        InputError: one line for the first such file.
    """
    from advkit.files import streams
    from advkit.files.atomic import require_writable

    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    outputs = {name: values[name] for name in names if values[name] is not None}
    inputs = [text for name, value in values.items() if name not in names for text in _texts(value)]
    read = {os.path.realpath(file): text for text in inputs for file in _files(text)}
    written: dict[str, str] = {}
    for name, path in outputs.items():
        if name == "report" and streams.named(path) is not None:
            continue
        option = "-o" if name == "out" else spelt(type(config), name)
        require_writable(path, special=name == "report")
        place = os.path.realpath(path)
        if written.setdefault(place, option) != option:
            raise InputError(f"{option} {path}: {written[place]} goes there too; give each its own file")
        if name != "out" and place in read:
            raise InputError(f"{option} {path}: the run reads {read[place]}; choose another name")


def _texts(value: Any) -> list[str]:
    if isinstance(value, tuple):
        return [text for one in value for text in _texts(one)]
    return [str(value)] if isinstance(value, (str, Path)) else []


def _files(text: str) -> list[str]:
    """Files that a reference to a model or to data may name."""
    spelt_out = [part for whole in (text, text.partition("=")[2]) for part in (whole, whole.rpartition("@")[2])]
    return [name for part in spelt_out for name in (part, part.rpartition("#")[0]) if name and os.path.isfile(name)]
