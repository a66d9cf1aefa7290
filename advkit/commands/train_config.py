"""The options of ``train``; ``adv-pretrain`` and ``evolve``, which trains as ``train`` would, share most of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from advkit.commands.checks import check_checkpoint, check_outputs, check_range, choices, statistics
from advkit.commands.config import Config
from advkit.commands.run_options import ForceOption, RunOptions, SizeOption
from advkit.files.errors import InputError
from advkit.training.params import PENALTY_POINTS


@dataclass(frozen=True, kw_only=True)
class RecipeOptions(Config):
    """How a network is trained, besides data, start and seed."""

    validation: Annotated[float, typer.Option(help="Part of the training images held out.")] = 0.1
    epochs: Annotated[int, typer.Option(min=0, help="0 has train pack the weights as they are.")] = 10
    batch_size: Annotated[int, typer.Option(min=2, help="Images in a step, over all processes.")] = 128
    optimizer: Annotated[Literal["sgd", "adamw"], typer.Option(help="sgd is Nesterov's.")] = "sgd"
    lr: Annotated[float | None, typer.Option(help="Peak learning rate [0.1 for sgd, 0.002 for adamw].")] = None
    weight_decay: Annotated[float, typer.Option(help="Of weights, not of biases and batch-norm.")] = 5e-4
    momentum: Annotated[float, typer.Option(help="Of sgd.")] = 0.9
    schedule: Annotated[Literal["one-cycle", "cosine", "constant"], typer.Option(help="Of the learning rate.")] = (
        "one-cycle"
    )
    label_smoothing: Annotated[float, typer.Option(help="Mass spread over all classes.")] = 0.0
    clip: Annotated[float, typer.Option(help="Bound on the norm of the whole gradient; 0 for none.")] = 1.0
    ema: Annotated[float, typer.Option(help="Decay of an average of the weights; 0 for none.")] = 0.0
    precise_bn: Annotated[
        int, typer.Option(min=0, help="Training images for batch-norm's statistics; 0: running averages.")
    ] = 0
    freeze_bn: Annotated[bool, typer.Option("--freeze-bn", help="Batch-norms keep the statistics they have.")] = False
    augment: Annotated[str, typer.Option(help="auto, none, or of crop,scale-jitter,flip,cutout,photometric.")] = "auto"
    precision: Annotated[Literal["auto", "float32", "bfloat16"], typer.Option(help="Of forward passes.")] = "auto"


@dataclass(frozen=True, kw_only=True)
class PenaltyOptions(Config):
    """How a network is turned away from references."""

    misalign_weight: Annotated[float, typer.Option(help="Factor of the penalty.")] = 1.0
    misalign_penalty: Annotated[
        Literal["abs", "square", "signed"], typer.Option(help="|c|, c^2 or c of the cosine c.")
    ] = "abs"
    misalign_at: Annotated[str, typer.Option(help="clean, noise, adversarial points, or several.")] = "clean"
    misalign_eps: Annotated[str, typer.Option(help="Linf radius of noise and adversarial points.")] = "8/255"
    misalign_steps: Annotated[int, typer.Option(min=1, help="PGD steps to adversarial points.")] = 2
    misalign_warm_up: Annotated[float, typer.Option(help="Epochs over which the penalty rises.")] = 1.0
    smoothness_weight: Annotated[float, typer.Option(help="Factor of 2 mean ||gradient||^2.")] = 0.0


# They do nothing without a reference.
OF_THE_PENALTY = (
    "misalign_weight",
    "misalign_penalty",
    "misalign_at",
    "misalign_eps",
    "misalign_steps",
    "misalign_warm_up",
    "smoothness_weight",
)


@dataclass(frozen=True, kw_only=True)
class FitOptions(RecipeOptions, RunOptions, SizeOption, ForceOption):
    """Of tools that train one network, wherever it comes from and whatever it is trained on."""

    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The checkpoint to write.")]
    mean: Annotated[str | None, typer.Option(help="Normalisation: means, one a channel [from the data].")] = None
    std: Annotated[str | None, typer.Option(help="Likewise, the standard deviations.")] = None
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")] = False


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(FitOptions):
    """Of those of them that start from an architecture or weights and train on one set of images."""

    arch: Annotated[str, typer.Option(metavar="ARCH", help="Architecture, e.g. advkit/resnet20.")] = ""
    backbone: Annotated[str, typer.Option(metavar="timm/NAME[@WEIGHTS]", help="Of advkit/ssd and advkit/fcos.")] = ""
    init: Annotated[str, typer.Option(metavar="MODEL", help="Start from this model's weights.")] = ""
    data: Annotated[str, typer.Option("--data", metavar="DATA", help="Images and labels, e.g. digits.")] = ""


@dataclass(frozen=True, kw_only=True)
class TrainConfig(TrainingConfig, PenaltyOptions):
    """The options of ``train``."""

    misalign_from: Annotated[tuple[str, ...], typer.Option(metavar="MODEL", help="Reference; repeatable.")] = ()


def check(config: TrainConfig) -> None:
    """What can be found wrong with the options of ``train`` before anything heavy is imported.

    Raises:
        InputError: values out of range, options that would do nothing, files that can't be written.
    """
    check_training(config)
    if config.misalign_from and not config.epochs and not config.data:
        raise InputError("--misalign-from: without --epochs and --data there is nothing to turn away; leave it out")
    check_penalty(config)
    if not config.misalign_from:
        config.refuse(OF_THE_PENALTY, "does nothing without --misalign-from MODEL")
    at = choices("misalign-at", config.misalign_at, PENALTY_POINTS)
    if at == ("clean",):
        config.refuse(("misalign_eps",), "does nothing without noise or adversarial in --misalign-at; leave it out")
    if "adversarial" not in at:
        config.refuse(("misalign_steps",), "does nothing without adversarial in --misalign-at; leave it out")


def check_training(config: TrainingConfig) -> None:
    """The same for what all tools that train have in common.

    Raises:
        InputError: as :func:`check`.
    """
    check_outputs(config, "out", "report")
    check_checkpoint(config.out)
    if not config.arch and not config.init:
        raise InputError("give --arch ARCH (e.g. advkit/resnet20), or --init MODEL to start from weights")
    if config.epochs and not config.data:
        raise InputError("--data DATA is needed to train; only --epochs 0 goes without")
    check_recipe(config)
    statistics(config.mean, config.std)
    if config.backbone and config.arch not in ("advkit/ssd", "advkit/fcos"):
        raise InputError(f"--backbone {config.backbone}: is for --arch advkit/ssd and advkit/fcos; leave it out")
    if not config.data:
        config.refuse(("fix_boxes",), "does nothing without --data; leave it out")


def check_recipe(recipe: RecipeOptions) -> None:
    """Raise InputError when a value is out of its range."""
    check_range("validation", recipe.validation, 0.0, 1.0, open_end=True)
    check_range("label-smoothing", recipe.label_smoothing, 0.0, 1.0, open_end=True)
    check_range("ema", recipe.ema, 0.0, 1.0, open_end=True)
    check_range("momentum", recipe.momentum, 0.0, 1.0, open_end=True)
    check_range("lr", recipe.lr, 0.0, 1e6)
    check_range("clip", recipe.clip, 0.0, 1e6)
    check_range("weight-decay", recipe.weight_decay, 0.0, 1e6)
    if recipe.optimizer != "sgd":
        recipe.refuse(("momentum",), f"does nothing with --optimizer {recipe.optimizer}; leave it out")
    if recipe.freeze_bn:
        recipe.refuse(("precise_bn",), "would estimate what --freeze-bn keeps; give one of them")


def check_penalty(penalty: PenaltyOptions) -> None:
    """Raise InputError when a value is out of its range."""
    check_range("misalign-weight", penalty.misalign_weight, 0.0, 1e6)
    check_range("misalign-warm-up", penalty.misalign_warm_up, 0.0, 1e6)
    check_range("smoothness-weight", penalty.smoothness_weight, 0.0, 1e6)
