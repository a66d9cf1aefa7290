"""The options of ``adapt``: those of a training, of two domains, and of what is done about the second."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import typer

from advkit.commands.attack_options import BudgetOptions
from advkit.commands.checks import check_checkpoint, check_gates, check_outputs, check_range, statistics
from advkit.commands.loading import is_fresh
from advkit.commands.run_options import GateOptions
from advkit.commands.train_config import FitOptions, check_recipe
from advkit.files.errors import InputError

THRESHOLDS = {"self-training": 0.9, "mean-teacher": 0.8}
WEIGHTS = {"coral": 1000.0}  # Sun and Saenko (2016) want both losses alike at the end; see advkit/adaptation/coral.py
OF_AN_ATTACK = ("eps", "objective")
OF_A_COMPARISON = ("fail_above", "fail_below")
OF_A_TRAINING = (
    "optimizer",
    "lr",
    "weight_decay",
    "momentum",
    "schedule",
    "label_smoothing",
    "clip",
    "ema",
    "augment",
    "precision",
    "adversarial",
    "select",
)


@dataclass(frozen=True, kw_only=True)
class AdaptConfig(FitOptions, GateOptions):
    """The options of ``adapt``."""

    model: Annotated[str, typer.Argument(metavar="MODEL", help="Where to start, best trained on the source.")]
    source: Annotated[str, typer.Option("--source", metavar="DATA", help="Images and labels to train on.")]
    target: Annotated[str, typer.Option("--target", metavar="DATA", help="Images to adapt to; labels stay closed.")]
    method: Annotated[
        Literal[
            "none",
            "adabn",
            "dann",
            "cdan",
            "coral",
            "mcc",
            "self-training",
            "global",
            "local",
            "local-global",
            "mean-teacher",
        ],
        typer.Option(help="The last four are for detectors, those between for classifiers."),
    ] = "none"
    weight: Annotated[float | None, typer.Option(metavar="W", help="Of what the method adds [1, of coral 1000].")] = (
        None
    )
    threshold: Annotated[
        float | None, typer.Option(help="Least score of a pseudo-label [0.9 for self-training, 0.8 for mean-teacher].")
    ] = None
    teacher_ema: Annotated[float, typer.Option(metavar="D", help="Decay of the mean teacher's average.")] = 0.9996
    adversarial: Annotated[
        bool, typer.Option("--adversarial", help="Attack the source in every step, as adv-pretrain's fast does.")
    ] = False
    eps: Annotated[str, typer.Option(help="Linf radius of that, in pixels of [0, 1]; 0 attacks nothing.")] = (
        BudgetOptions.eps
    )
    objective: Annotated[
        Literal["sum", "cls", "loc", "mtd"] | None, typer.Option(help="What the attack on a detector raises [sum].")
    ] = None
    select: Annotated[
        Literal["last", "source-val", "im", "snd", "bnm", "oracle"], typer.Option(help="Which epoch is kept.")
    ] = "last"
    compare: Annotated[
        str, typer.Option("--compare", metavar="DATA", help="Compare with source-only training on these images.")
    ] = ""
    target_labels: Annotated[
        bool, typer.Option("--target-labels", help="Open the target's labels, for oracle and for comparison.")
    ] = False


def check(config: AdaptConfig) -> None:
    """What can be found wrong before anything heavy is imported.

    Raises:
        InputError: values out of range, options that would do nothing, files that can't be written.
    """
    check_outputs(config, "out", "report")
    check_checkpoint(config.out)
    if config.limit is not None and config.limit < 1:
        raise InputError(f"--limit {config.limit}: at least one image is needed")
    if not config.epochs and config.method == "adabn":
        config.refuse(OF_A_TRAINING, "does nothing with --epochs 0; leave it out")
        if not is_fresh(config.model):  # whose mean and std are those of the images that are not held out
            config.refuse(("validation",), "does nothing with --epochs 0; leave it out")
    check_recipe(config)
    check_gates(config)
    statistics(config.mean, config.std)
    check_range("weight", config.weight, 0.0, 1e6)
    check_range("threshold", config.threshold, 0.0, 1.0)
    check_range("teacher-ema", config.teacher_ema, 0.0, 1.0, open_end=True)
    _check_method(config)
    _check_selection(config)
    if not config.adversarial:
        config.refuse(OF_AN_ATTACK, "does nothing without --adversarial; leave it out")
    if not config.compare:
        config.refuse(OF_A_COMPARISON, "bounds what --compare DATA measures; give that, or leave it out")


def _check_method(config: AdaptConfig) -> None:
    method, without = config.method, f"does nothing with --method {config.method}; leave it out"
    if not config.epochs and method != "adabn":
        raise InputError(f"--epochs 0: nothing would be learnt by --method {method}; give 1 or more (adabn takes 0)")
    if method in ("none", "adabn"):
        config.refuse(("weight",), without)
    if method not in THRESHOLDS:
        config.refuse(("threshold",), without)
    if method != "mean-teacher":
        config.refuse(("teacher_ema",), without)
    else:
        config.refuse(("ema",), "is a second average beside the mean teacher's, which is kept; leave it out")
    if method == "adabn":
        config.refuse(("freeze_bn",), "keeps statistics that --method adabn takes from the target; leave it out")
    if method != "none":
        config.refuse(("precise_bn",), "takes statistics from the source alone, for --method none; leave it out")


def _check_selection(config: AdaptConfig) -> None:
    if config.epochs == 1:
        config.refuse(("select",), "has nothing to choose from with --epochs 1; leave it out")
    if config.select == "source-val" and config.validation == 0.0:
        raise InputError("--select source-val: --validation 0 holds no source image out; give another of the two")
    if config.select == "oracle" and not config.target_labels:
        raise InputError("--select oracle: chooses by the target's labels; say so with --target-labels, or choose im")
    if config.select != "oracle" and not config.compare:
        config.refuse(("target_labels",), "does nothing without --select oracle or --compare DATA; leave it out")
