"""What ``adv-pretrain`` says."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from advkit.files.tensors import fingerprint
from advkit.reports.average_precision import precision
from advkit.reports.gates import Gate, gates
from advkit.reports.rates import Rate, StrictModel, budget, percent, rate
from advkit.reports.train import flags as training_flags
from advkit.training.overfitting import OverfittingAlarm, best_epoch, first_alarm
from advkit.training.robust_check import OnOverfit
from advkit.training.run import Run

METRICS = (
    "epochs",
    "clean_accuracy",
    "robust_accuracy",
    "clean_map50",
    "robust_map50",
    "check",
    "kept_epoch",
    "overfitting",
)


class AdversarialEpoch(StrictModel):
    """One epoch of adversarial training."""

    epoch: int
    images: int = Field(description="seen by the training, replays included")
    right: int | None = Field(
        description="of them, clean for trades and mart, otherwise as they are trained on; null for detectors"
    )
    cross_entropy: float = Field(description="mean of the method's first term")
    divergence: float | None = Field(default=None, description="of trades and mart, mean over adversarial images")
    adversarial_right: int | None = Field(default=None, description="null for the control, --eps 0, and for detectors")
    adversarial_images: int | None = Field(default=None, description="null for the control, --eps 0")
    forwards_per_image: float = Field(default=1.0, description="forward passes of the training, attacks included")
    backwards_per_image: float = Field(default=1.0, description="likewise backward passes")
    validation_right: int | None = None
    validation_images: int | None = None
    validation_map50: float | None = Field(default=None, description="of detectors")
    validation_map50_95: float | None = None
    check_right: int | None = Field(default=None, description="clean, of the images of the PGD check")
    robust_right: int | None = Field(default=None, description="clean and under PGD, of the images of the check")
    check_images: int | None = None
    robust_map50: float | None = Field(default=None, description="of detectors, under PGD")
    robust_map50_95: float | None = None


class PGDCheck(StrictModel):
    """The attack on images held out after each epoch."""

    eps: float
    steps: int
    images: int


class Overfitting(StrictModel):
    """The alarm, and what was done."""

    kind: Literal["catastrophic", "robust"]
    epoch: int = Field(description="after which it was seen")
    since: int = Field(description="the epoch that it is compared with")
    action: Literal["rollback", "stop", "ignore"]


class PassesPerImage(StrictModel):
    """Passes over the network for each image seen, mean over the training; plain training has 1 and 1."""

    forwards: float
    backwards: float


class AdvPretrainResult(StrictModel):
    """Result of ``adv-pretrain``."""

    checkpoint: str
    sha256: str
    parameters: int
    train_images: int
    epochs: list[AdversarialEpoch]
    kept_epoch: int = Field(description="that the weights are of")
    best_epoch: int | None = Field(description="that did best under PGD")
    clean_accuracy: Rate | None = Field(description="on all images held out, of kept_epoch")
    robust_accuracy: Rate | None = Field(description="under the PGD check, of kept_epoch")
    clean_map50: float | None = Field(default=None, description="of a detector, on all images held out")
    robust_map50: float | None = Field(default=None, description="of a detector, under the PGD check")
    check: PGDCheck | None
    cost: PassesPerImage
    overfitting: Overfitting | None
    gates: list[Gate]


def collect(run: Run, out: Path, fail_above: float | None, fail_below: float | None) -> AdvPretrainResult:
    """The finished run as a report's result; the robust accuracy, or mAP@.5 of a detector, must keep the bounds."""
    epochs = [AdversarialEpoch(**record) for record in run.history]
    kept = epochs[run.kept_epoch - 1]
    alarm, check = first_alarm(run.history), run.check
    clean = rate(kept.validation_right or 0, kept.validation_images) if kept.validation_images else None
    robust = rate(kept.robust_right or 0, kept.check_images) if kept.check_images else None
    seen = sum(record.images for record in epochs)
    return AdvPretrainResult(
        checkpoint=str(out),
        sha256=fingerprint(run.network.net.state_dict()),
        parameters=sum(parameter.numel() for parameter in run.network.net.parameters()),
        train_images=len(run.train),
        epochs=epochs,
        kept_epoch=run.kept_epoch,
        best_epoch=best_epoch(run.history),
        clean_accuracy=clean,
        robust_accuracy=robust,
        clean_map50=kept.validation_map50,
        robust_map50=kept.robust_map50,
        check=PGDCheck(eps=check.eps, steps=check.steps, images=len(check.positions)) if check else None,
        cost=PassesPerImage(
            forwards=sum(record.forwards_per_image * record.images for record in epochs) / seen,
            backwards=sum(record.backwards_per_image * record.images for record in epochs) / seen,
        ),
        overfitting=_overfitting(alarm, check.on_overfit) if alarm is not None and check is not None else None,
        gates=gates(*_bounded(kept, robust), fail_above, fail_below),
    )


def _bounded(kept: AdversarialEpoch, robust: Rate | None) -> tuple[str, float | None]:
    """What must keep the bounds, and its value."""
    if kept.robust_map50 is not None:
        return "robust mAP@.5", kept.robust_map50
    return "robust accuracy", robust.rate if robust else None


def _overfitting(alarm: OverfittingAlarm, action: OnOverfit) -> Overfitting:
    return Overfitting(kind=alarm.kind, epoch=alarm.epoch, since=alarm.since, action=action)


def flags(run: Run, result: AdvPretrainResult) -> list[str]:
    """Reasons for suspicion: overfitting, a training that ends near chance, nothing held out."""
    told = training_flags(run)
    alarm = result.overfitting
    if alarm is not None:
        then, now = (result.epochs[epoch - 1] for epoch in (alarm.since, alarm.epoch))
        done = {
            "rollback": f"the weights are those of epoch {result.kept_epoch}, where the training ended",
            "stop": f"the training stopped there, and keeps the weights of epoch {result.kept_epoch}",
            "ignore": "the training went on; --on-overfit rollback would have ended it",
        }[alarm.action]
        fell = (
            f"{now.robust_right} of {now.check_images} held-out images right under PGD, {then.robust_right} after "
            f"epoch {alarm.since}, while accuracy on the adversarial training images did not fall"
        )
        if now.robust_map50 is not None:
            fell = (
                f"held-out mAP@.5 {precision(now.robust_map50)} under PGD, {precision(then.robust_map50)} after epoch "
                f"{alarm.since}, while the loss on the adversarial training images did not rise"
            )
        told.append(f"{alarm.kind} overfitting after epoch {alarm.epoch}: {fell}; {done}")
    if run.check is None:
        told.append("nothing held out: robustness was not measured, and overfitting not looked for")
    return told


def table(result: AdvPretrainResult) -> list[str]:
    """Lines for people."""
    lines = [
        f"{result.checkpoint}: {result.parameters} parameters, trained on {result.train_images} images",
        "epoch    loss  train %  adversarial %  held-out %  under PGD %",
    ]
    if any(record.right is None for record in result.epochs):  # detectors, of which training counts nothing
        lines[1] = "epoch    loss  mAP@.5 held out  mAP@.5 under PGD"
    for record in result.epochs:
        if record.right is None:
            shown = [precision(value) for value in (record.validation_map50, record.robust_map50)]
            mark = "  kept" if record.epoch == result.kept_epoch != len(result.epochs) else ""
            lines.append(f"{record.epoch:5}  {record.cross_entropy:6.3f}  {shown[0]:>15}  {shown[1]:>16}{mark}")
            continue
        columns = (
            (record.right, record.images, 7),
            (record.adversarial_right, record.adversarial_images, 13),
            (record.validation_right, record.validation_images, 10),
            (record.robust_right, record.check_images, 11),
        )
        cells = [
            f"{100 * correct / images:{width}.1f}" if images and correct is not None else f"{'-':>{width}}"
            for correct, images, width in columns
        ]
        mark = "  kept" if record.epoch == result.kept_epoch != len(result.epochs) else ""
        lines.append(f"{record.epoch:5}  {record.cross_entropy:6.3f}  {'  '.join(cells)}{mark}")
    cost = result.cost
    lines.append(f"passes for each image: {cost.forwards:.3g} forward, {cost.backwards:.3g} backward")
    if result.clean_accuracy is not None:
        counted = "accuracy" if result.epochs[-1].right is not None else "images with all objects found"
        lines.append(f"held-out {counted} {percent(result.clean_accuracy)}")
    if result.robust_accuracy is not None and result.check is not None:
        what = f"PGD, {result.check.steps} steps, {budget('linf', result.check.eps)}"
        lines.append(f"under {what}  {percent(result.robust_accuracy)}")
    return lines
