"""The options of ``adv-pretrain``: those of ``train`` but for the penalty, and its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import typer

from advkit.commands.attack_options import BudgetOptions
from advkit.commands.checks import check_gates, check_range
from advkit.commands.run_options import GateOptions
from advkit.commands.train_config import TrainingConfig, check_training
from advkit.files.errors import InputError

BETA = {"trades": 6.0, "mart": 5.0}  # of the papers
OF_A_METHOD = {  # options that do nothing with other methods
    "steps": ("pgd", "trades", "mart"),
    "replays": ("free",),
    "beta": ("trades", "mart"),
    "objective": ("pgd", "fast"),
}
OF_THE_CHECK = ("check_eps", "check_steps", "check_images", "on_overfit", "fail_above", "fail_below")


@dataclass(frozen=True, kw_only=True)
class AdvPretrainConfig(TrainingConfig, GateOptions):
    """The options of ``adv-pretrain``."""

    method: Annotated[
        Literal["pgd", "trades", "mart", "fast", "free"], typer.Option(help="What is trained on, and against what.")
    ] = "pgd"
    objective: Annotated[
        Literal["sum", "cls", "loc", "mtd"] | None, typer.Option(help="What the attack on a detector raises [sum].")
    ] = None
    eps: Annotated[str, typer.Option(help="Linf radius, in pixels of [0, 1]; 0 trains as train does.")] = (
        BudgetOptions.eps
    )
    steps: Annotated[int, typer.Option(min=1, help="Of the attack of pgd, trades and mart.")] = BudgetOptions.steps
    step_size: Annotated[
        str | None,
        typer.Option(help="Of the attack [eps/4; 1.25 eps for fast, eps for free]."),
    ] = None
    adversarial_ratio: Annotated[float, typer.Option(help="Share of the images that are adversarial.")] = 1.0
    replays: Annotated[int, typer.Option(min=1, help="Steps of free on each batch.")] = 4
    beta: Annotated[
        float | None, typer.Option(help="Factor of the divergence of trades and mart [6 for trades, 5 for mart].")
    ] = None
    awp: Annotated[float, typer.Option(metavar="GAMMA", help="Relative size of weight perturbations.")] = 0.0
    check_eps: Annotated[
        str | None, typer.Option(help="Linf radius of the PGD check on images held out [that of --eps].")
    ] = None
    check_steps: Annotated[int, typer.Option(min=1, help="PGD steps of the check.")] = 10
    check_images: Annotated[int, typer.Option(min=1, metavar="N", help="Held-out images that the check takes.")] = 500
    on_overfit: Annotated[
        Literal["rollback", "stop", "ignore"], typer.Option(help="What an alarm of overfitting does.")
    ] = "rollback"


def check(config: AdvPretrainConfig) -> None:
    """What can be found wrong before anything heavy is imported.

    Raises:
        InputError: values out of range, options that would do nothing, files that can't be written.
    """
    if not config.epochs:
        raise InputError("--epochs 0: packing weights is what train --epochs 0 does; give 1 or more")
    check_training(config)
    check_gates(config)
    check_range("adversarial-ratio", config.adversarial_ratio, 0.0, 1.0)
    if config.adversarial_ratio == 0.0:
        raise InputError("--adversarial-ratio 0: no image would be adversarial; --eps 0 is the control")
    check_range("beta", config.beta, 0.0, 1e6)
    check_range("awp", config.awp, 0.0, 1.0)
    for option, methods in OF_A_METHOD.items():
        if config.method not in methods:
            config.refuse((option,), f"does nothing with --method {config.method}; leave it out")
    if config.validation == 0.0:
        config.refuse(OF_THE_CHECK, "does nothing with --validation 0, which holds no image out; leave one of them out")
