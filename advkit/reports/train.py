"""What ``train`` says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from advkit.files.tensors import fingerprint
from advkit.metrics.gradient_similarity import expected_abs_cosine
from advkit.models.resized import Resized
from advkit.reports.average_precision import precision
from advkit.reports.rates import Rate, StrictModel, percent, rate
from advkit.tasks.task import task_of
from advkit.training.run import Run

_STALE = 0.05  # of the held-out images: more than statistics estimated from other images make a difference


class Epoch(StrictModel):
    """One epoch of training; cosines are those of the training images, batch-norm held constant."""

    epoch: int
    images: int
    right: int | None = Field(description="null for detectors: counting would take a decoding of every step")
    cross_entropy: float = Field(description="the loss, for detectors of classes and positions")
    cosine: float | None = None
    absolute_cosine: float | None = None
    gradient_norm: float | None = None
    penalty: float | None = None
    validation_right: int | None = None
    validation_images: int | None = None
    validation_map50: float | None = None
    validation_map50_95: float | None = None


class Cosine(StrictModel):
    """Mean cosine of input gradients with a reference's, evaluation mode, held-out images."""

    reference: str
    sha256: str
    cosine: float | None = Field(description="null when no image counts")
    absolute_cosine: float | None
    chance: float = Field(description="mean absolute cosine of random directions of this dimension")
    images: int = Field(description="held-out images where both gradients have a direction")


class TrainResult(StrictModel):
    """Result of ``train``."""

    checkpoint: str
    sha256: str
    parameters: int
    train_images: int
    epochs: list[Epoch]
    train_accuracy: Rate | None = Field(description="running accuracy of the last epoch, augmented images")
    validation_accuracy: Rate | None
    misalignment: list[Cosine]


def collect(run: Run, out: Path, cosines: list[dict[str, Any]]) -> TrainResult:
    """The finished run as a report's result."""

    last = run.history[-1] if run.history else {}
    held = last.get("validation_images")
    count = sum(parameter.numel() for parameter in run.network.net.parameters())
    chance = expected_abs_cosine(run.data.size[0] * run.data.size[1] * run.data.size[2]) if run.references else 0.0
    return TrainResult(
        checkpoint=str(out),
        sha256=fingerprint(run.network.net.state_dict()),
        parameters=count,
        train_images=len(run.train),
        epochs=[Epoch(**record) for record in run.history],
        train_accuracy=rate(last["right"], last["images"]) if last and last["right"] is not None else None,
        validation_accuracy=rate(last["validation_right"], held) if held else None,
        misalignment=[
            Cosine(reference=reference.spec.ref, sha256=reference.spec.sha256, chance=chance, **found)
            for reference, found in zip(run.references, cosines, strict=bool(cosines))  # none without held-out images
        ],
    )


def epoch_line(record: dict[str, Any], epochs: int) -> str:
    """One finished epoch, for a log."""
    held = record.get("validation_images")
    parts = [f"loss {record['cross_entropy']:.3f}"]
    if record["right"] is not None:
        parts.append(f"accuracy {100 * record['right'] / record['images']:.1f} %")
    if held and "validation_map50" in record:
        parts.append(f"held-out mAP@.5 {precision(record['validation_map50'])}")
    elif held:
        parts.append(f"held-out {100 * record['validation_right'] / held:.1f} %")
    if record.get("robust_map50") is not None:
        parts.append(f"{precision(record['robust_map50'])} under PGD")
    elif checked := record.get("check_images"):
        parts.append(f"{100 * record['robust_right'] / checked:.1f} % under PGD")
    for name in ("domain", "local_domain", "global_domain"):
        if (found := record.get(f"{name}_accuracy")) is not None:
            parts.append(f"{name.replace('_', ' ')} classifier {100 * found:.1f} %")
    for name in ("pseudo_labels", "pseudo_boxes"):
        if name in record:
            parts.append(f"{record[name]} {name.replace('_', '-')}")
    return f"epoch {record['epoch']}/{epochs}: {', '.join(parts)}"


def flags(run: Run, precise: int | None = None) -> list[str]:
    """Reasons for suspicion: images that references resize, a training that ends near chance, stale statistics.

    Args:
        run: after the training.
        precise: right predictions on the held-out part with batch-norm's statistics estimated anew; None if unknown.
    """
    told = []
    for reference in run.references:
        if isinstance(reference.net, Resized):
            told.append(f"{reference.spec.ref}: resizes the images to its own {'x'.join(map(str, reference.net.size))}")
    last = run.history[-1] if run.history else None
    if last is not None:
        held = last.get("validation_images")
        correct, total = (last["validation_right"], held) if held else (last["right"], last["images"])
        classes = run.network.spec.num_classes
        if correct is not None and task_of([run.network]).near_chance(correct, total, classes):
            guess = f"where guessing gets 1 in {classes}" if last["right"] is not None else "none with all its objects"
            told.append(
                f"the training ends near chance: {correct} of {total} {'held-out' if held else 'training'} images "
                f"right, {guess}; train longer, or lower --lr or the weights of penalties"
            )
        if held and precise is not None and precise - correct >= _STALE * held:
            told.append(
                f"batch-norm's running averages lag behind the weights: {correct} of {held} held-out images right, "
                f"{precise} with statistics estimated anew; train with --precise-bn 5000"
            )
    return told


def table(result: TrainResult) -> list[str]:
    """Lines for people."""
    done = f"trained on {result.train_images} images" if result.epochs else "packed as it was"
    lines = [f"{result.checkpoint}: {result.parameters} parameters, {done}"]
    if result.epochs:
        boxes = result.epochs[-1].right is None
        head = "epoch    loss  mAP@.5 held out  mAP@[.5:.95]" if boxes else "epoch    loss  train %  held-out %"
        penalised = result.epochs[-1].absolute_cosine is not None
        lines.append(head + ("     cos    |cos|   ||g||" if penalised else ""))
        for record in result.epochs:
            held = (
                f"{100 * (record.validation_right or 0) / record.validation_images:10.1f}"
                if record.validation_images
                else f"{'-':>10}"
            )
            if record.right is None:
                shown = [precision(value) for value in (record.validation_map50, record.validation_map50_95)]
                lines.append(f"{record.epoch:5}  {record.cross_entropy:6.3f}  {shown[0]:>15}  {shown[1]:>12}")
                continue
            line = f"{record.epoch:5}  {record.cross_entropy:6.3f}  {100 * record.right / record.images:7.1f}  {held}"
            if penalised:
                line += f"  {record.cosine:+6.3f}   {record.absolute_cosine:6.3f}  {record.gradient_norm:6.3f}"
            lines.append(line)
    if result.validation_accuracy and result.train_accuracy:
        lines.append(f"held-out accuracy {percent(result.validation_accuracy)}")
    for found in result.misalignment:
        told = (
            "no direction on any image"
            if found.cosine is None
            else f"cos {found.cosine:+.4f}, |cos| {found.absolute_cosine:.4f} (chance {found.chance:.4f})"
        )
        lines.append(f"gradients against {found.reference}: {told}, {found.images} held-out images")
    return lines
