"""Options of an attack, and the settings that they make."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from advkit.commands.config import Config
from advkit.commands.loading import pick_precision
from advkit.commands.run_options import ForceOption, TestOptions
from advkit.files.errors import InputError

if TYPE_CHECKING:
    from torch import nn

    from advkit.attacks.params import AttackParams
    from advkit.data.images import ImageSet
    from advkit.models.network import Network

METHODS_HELP = "fgsm, pgd, mi, ni, di, ti, si composed with commas, or another: see advkit attack --methods."


@dataclass(frozen=True, kw_only=True)
class BudgetOptions(Config):
    """How far and how long an attack goes."""

    eps: Annotated[str, typer.Option(help="Radius in pixel units of [0, 1]: 8/255 or 0.03.")] = "8/255"
    norm: Annotated[Literal["linf", "l2", "l1"], typer.Option(help="Of the radius.")] = "linf"
    steps: Annotated[int, typer.Option(min=1, help="Gradient steps in each restart.")] = 10


@dataclass(frozen=True, kw_only=True)
class AttackOptions(BudgetOptions):
    """Everything else that decides an attack, but for its method."""

    step_size: Annotated[
        str | None, typer.Option(help="Pixel units, like --eps: 2/255 [2.5 eps/steps for pgd, else eps/steps].")
    ] = None
    loss: Annotated[
        Literal["ce", "margin", "logit", "dlr", "sum", "cls", "loc", "mtd", "vanishing", "fabrication"] | None,
        typer.Option(help="What to make larger [the method's own; sum for detectors]."),
    ] = None
    target: Annotated[
        str | None,
        typer.Option(
            metavar="CLASS", help="Aim at a class: its name or number, next, random, least-likely, from-data."
        ),
    ] = None
    random_start: Annotated[
        bool | None,
        typer.Option("--random-start/--no-random-start", help="Begin at a random point of the ball [pgd only]."),
    ] = None
    restarts: Annotated[int, typer.Option(min=1, help="Independent runs; the strongest counts.")] = 1
    precision: Annotated[Literal["float32", "bfloat16", "auto"], typer.Option(help="Of the attack's passes.")] = (
        "float32"
    )


def _list_methods(wanted: bool) -> None:
    if wanted:
        from advkit.attacks.methods import methods_table

        typer.echo("\n".join(methods_table()))
        raise typer.Exit


@dataclass(frozen=True, kw_only=True)
class AttackConfig(AttackOptions, TestOptions, ForceOption):
    """The options of ``attack``."""

    models: Annotated[tuple[str, ...], typer.Argument(metavar="MODEL...", help="Surrogates; several: an ensemble.")]
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="FILE.safetensors, or DIR/ for PNGs.")]
    method: Annotated[str, typer.Option(help=METHODS_HELP)] = "pgd"
    methods: Annotated[
        bool, typer.Option("--methods", callback=_list_methods, is_eager=True, help="Print them all, and leave.")
    ] = False
    goal: Annotated[
        Literal["robustness", "transfer"], typer.Option(help="robustness stops on fooled images; transfer does not.")
    ] = "robustness"
    fail_on_flag: Annotated[
        bool, typer.Option("--fail-on-flag", help="Leave with status 1 on any suspicion against attack or model.")
    ] = False
    figure: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw robust accuracy over eps: .png, .svg or .pdf.")
    ] = None
    quantize: Annotated[bool, typer.Option("--quantize", help="Round to 8 bits inside the budget.")] = False
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted attack.")] = False

    @property
    def png(self) -> bool:
        """Whether a folder of PNG files is asked for."""
        return self.out.suffix == ""

    @property
    def quantized(self) -> bool:
        """Whether images are rounded; PNG files have 8 bits."""
        return self.quantize or self.png


def attack_params(
    options: BudgetOptions,
    method: str,
    *,
    goal: Literal["robustness", "transfer"] = "transfer",
    seed: int,
    device: str,
    quantize: bool = False,
    unbounded: bool = False,
) -> AttackParams:
    """The settings of one attack: what ``options`` say, and the usual for the rest.

    Args:
        options: of the command line.
        method: as ``--method`` says it.
        goal, seed, quantize: as of :class:`~advkit.attacks.params.AttackParams`.
        device: decides what ``--precision auto`` is.
        unbounded: a method of minimal norm has no bound unless the user gives one.

    Raises:
        InputError: values out of range; options that have no effect on the method.
    """
    from advkit.attacks.budget import check_eps, parse_eps
    from advkit.attacks.methods import parse_method
    from advkit.attacks.params import AttackParams

    asked = (
        options
        if isinstance(options, AttackOptions)
        else AttackOptions(eps=options.eps, norm=options.norm, steps=options.steps, explicit=options.explicit)
    )
    eps, parsed = parse_eps(asked.eps), parse_method(method)
    check_eps(eps, asked.norm, asked.eps)
    step_size = None if asked.step_size is None else parse_eps(asked.step_size, "step-size")
    check_eps(step_size or 0.0, asked.norm, asked.step_size or "", what="step-size")
    norm = asked.norm if "norm" in asked.explicit or asked.norm in parsed.attack.norms else parsed.attack.norms[0]
    if norm not in parsed.attack.norms:
        raise InputError(f"--norm {norm}: {parsed.attack.name} has {' and '.join(parsed.attack.norms)} only")
    for name in parsed.attack.idle.get(norm, ()):
        if parsed.of(parsed.attack.name)[name] != parsed.attack.parameters[name].default:
            raise InputError(f"--method {method}: {parsed.attack.name}:{name} does nothing in {norm}; leave it out")
    if unbounded and parsed.attack.minimal_norm and "eps" not in asked.explicit:
        eps = math.inf
    elif norm == "l1" and "eps" not in asked.explicit:
        raise InputError("--norm l1: give --eps too, a sum over all entries of an image: 8/255 is a radius of linf")
    if asked.target is not None and parsed.attack.chooses_targets:
        raise InputError(f"--target: {parsed.attack.name} chooses its targets itself; use apgd-ce or pgd")
    general = ("steps", "step_size", "random_start", "restarts", "loss")
    unused = [name for name in general if name not in parsed.attack.uses]
    asked.refuse(unused, f"does nothing with {parsed.attack.name}; leave it out")
    exact = parsed.attack.minimal_norm  # lives on small differences of logits near a boundary
    if exact and asked.precision == "bfloat16":
        raise InputError(f"--precision bfloat16: {parsed.attack.name} takes float32; leave it out")
    return AttackParams(
        method=parsed,
        eps=eps,
        norm=norm,
        steps=asked.steps,
        step_size=step_size,
        loss=asked.loss,
        targeted=asked.target is not None,
        random_start=asked.random_start,
        restarts=asked.restarts,
        goal=goal,
        seed=seed,
        precision="float32" if exact else pick_precision(asked.precision, device),
        quantize=quantize,
    )


def check_budget(options: BudgetOptions, images: ImageSet) -> None:
    """Raise InputError when the radius, or a step, reaches from any of ``images`` to any other."""
    from advkit.attacks.budget import check_eps, parse_eps

    check_eps(parse_eps(options.eps), options.norm, options.eps, images.size)
    step = options.step_size if isinstance(options, AttackOptions) else None
    if step is not None:
        check_eps(parse_eps(step, "step-size"), options.norm, step, images.size, "step-size")


def probed(
    options: AttackOptions,
    params: AttackParams,
    gradient_models: Sequence[nn.Module],
    images: ImageSet,
    device: str,
    batch_size: int,
    attacks: int = 1,
) -> AttackParams:
    """``params`` with the precision that ``auto`` is here: what the device computes in, if that is faster.

    Args:
        options: of the command line.
        params: made of them; of what the device computes in.
        gradient_models: that the attack runs on.
        images: that it is for.
        device: where it runs.
        batch_size: images in a pass.
        attacks: how many there are, about as long as this one.
    """
    from advkit.parallel import process_group

    if options.precision != "auto" or params.precision == "float32" or process_group.world_size() > 1:
        return params  # several processes might measure otherwise, each for itself
    from advkit.attacks.faster_precision import IMAGES, faster_precision

    pixels, targets = (one.to(device) for one in images.batch(slice(0, min(IMAGES, batch_size))))
    return replace(params, precision=faster_precision(gradient_models, pixels, targets, params, attacks * len(images)))


def aim_at(options: AttackOptions, networks: Sequence[Network], images: ImageSet) -> tuple[str | int | None, ImageSet]:
    """What ``--target`` aims at, and the images that are not of that class already.

    Raises:
        InputError: no such class, or no image is left.
    """
    from advkit.tasks.sampling import without_target
    from advkit.tasks.task import FROM_DATA, task_of

    task = task_of(networks)
    target = task.parse_target(options.target, images.class_names) if options.target is not None else None
    if target == FROM_DATA and images.target_classes is None:
        raise InputError(f"--target from-data: {images.ref} names no classes to aim at; its CSV needs a column of them")
    chosen = without_target(task, images, target)
    if len(chosen) == 0:
        raise InputError(f"--target {options.target}: every image is of that class already; nothing to attack")
    return target, chosen
