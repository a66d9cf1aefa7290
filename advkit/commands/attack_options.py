"""Options of an attack, and the settings that they make."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from advkit.commands.checks import check_range
from advkit.commands.config import Config
from advkit.files.errors import InputError

if TYPE_CHECKING:
    from advkit.attacks.params import AttackParams


@dataclass(frozen=True, kw_only=True)
class BudgetOptions(Config):
    """How far and how long an attack goes."""

    eps: Annotated[str, typer.Option(help="Radius in pixel units of [0, 1]: 8/255 or 0.03.")] = "8/255"
    norm: Annotated[Literal["linf", "l2"], typer.Option(help="Of the radius.")] = "linf"
    steps: Annotated[int, typer.Option(min=1, help="Gradient steps in each restart.")] = 10


@dataclass(frozen=True, kw_only=True)
class AttackOptions(BudgetOptions):
    """Everything else that decides an attack."""

    step_size: Annotated[
        str | None, typer.Option(help="Pixel units, like --eps: 2/255 [2.5 eps/steps for pgd, else eps/steps].")
    ] = None
    loss: Annotated[Literal["ce", "margin", "logit"], typer.Option(help="To climb.")] = "ce"
    target: Annotated[
        str | None,
        typer.Option(metavar="CLASS", help="Aim at a class: its name or number, next, random, least-likely."),
    ] = None
    random_start: Annotated[
        bool | None, typer.Option("--random-start/--no-random-start", help="[by method: pgd only]")
    ] = None
    restarts: Annotated[int, typer.Option(min=1, help="Independent runs; the strongest counts.")] = 1
    decay: Annotated[float, typer.Option(help="Of the momentum of mi and ni.")] = 1.0
    di_probability: Annotated[float, typer.Option(help="Of transforming an image in di.")] = 0.5
    di_shrink: Annotated[float, typer.Option(help="Smallest side in di, as a part of the full one.")] = 0.9
    ti_kernel: Annotated[int | None, typer.Option(help="Width of ti's Gaussian, odd [in proportion to the image].")] = (
        None
    )
    si_scales: Annotated[int, typer.Option(min=1, help="Number of scaled copies in si.")] = 5
    precision: Annotated[Literal["float32", "bfloat16", "auto"], typer.Option(help="Of the attack's passes.")] = (
        "float32"
    )


# Options of one modifier; ni brings mi along.
_MODIFIERS = {"decay": "mi", "di_probability": "di", "di_shrink": "di", "ti_kernel": "ti", "si_scales": "si"}


def attack_params(
    options: AttackOptions, method: str, goal: Literal["robustness", "transfer"], seed: int, device: str
) -> AttackParams:
    """The settings of one attack that the options ask for.

    Raises:
        InputError: values out of range.
    """
    from advkit.attacks.budget import check_eps, parse_eps
    from advkit.attacks.methods import parse_method
    from advkit.attacks.params import AttackParams
    from advkit.commands.loading import pick_precision

    eps = parse_eps(options.eps)
    check_eps(eps, options.norm, options.eps)
    kernel = options.ti_kernel
    if kernel is not None and (kernel < 1 or kernel % 2 == 0):
        raise InputError(f"--ti-kernel {kernel}: must be odd and positive")
    check_range("decay", options.decay, 0.0, 10.0)
    check_range("di-probability", options.di_probability, 0.0, 1.0)
    check_range("di-shrink", options.di_shrink, 0.01, 1.0)
    return AttackParams(
        method=parse_method(method),
        eps=eps,
        norm=options.norm,
        steps=options.steps,
        step_size=None if options.step_size is None else parse_eps(options.step_size, "step-size"),
        loss=options.loss,
        targeted=options.target is not None,
        random_start=options.random_start,
        restarts=options.restarts,
        goal=goal,
        seed=seed,
        decay=options.decay,
        di_probability=options.di_probability,
        di_shrink=options.di_shrink,
        ti_kernel=kernel,
        si_scales=options.si_scales,
        precision=pick_precision(options.precision, device),
    )


def refuse_unused(options: AttackOptions, methods: Sequence[AttackParams]) -> None:
    """An option of a modifier that no method has would do nothing: say so.

    Raises:
        InputError: the user set such an option.
    """
    for name, modifier in _MODIFIERS.items():
        if not any(modifier in params.method for params in methods):
            options.refuse([name], f"does nothing without {modifier} in --method")


def params_json(params: AttackParams) -> dict[str, Any]:
    """Attack settings as JSON values."""
    values = dataclasses.asdict(params)
    return values | {"method": params.method.name, "steps": params.step_count, "step_size": params.step}
