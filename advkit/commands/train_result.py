"""From a finished run to the checkpoint and the report of ``train``. Imported late: it needs pydantic and torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from advkit.commands import output
from advkit.files.checkpoint import Checkpoint, write_checkpoint
from advkit.files.tensors import fingerprint
from advkit.metrics.accuracy import near_chance
from advkit.metrics.gradient_similarity import expected_abs_cosine
from advkit.reports.results import Cosine, Epoch, TrainResult
from advkit.training.loop import Run


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
        train_accuracy=output.rate(last["right"], last["images"]) if last else None,
        validation_accuracy=output.rate(last["validation_right"], held) if held else None,
        misalignment=[
            Cosine(reference=reference.spec.ref, sha256=reference.spec.sha256, chance=chance, **found)
            for reference, found in zip(run.references, cosines, strict=bool(cosines))  # none without held-out images
        ],
    )


def flags(run: Run, result: TrainResult) -> list[str]:
    """A training that ends near chance: held-out images say so, or the last epoch's where none are held out."""
    found = result.validation_accuracy or result.train_accuracy
    classes = run.network.spec.num_classes
    if found is None or not near_chance(found.successes, found.total, classes):
        return []
    where = "held-out" if result.validation_accuracy else "training"
    cause = "lower --lr"
    if run.params.misalign is not None:
        cause += ", --misalign-weight" + (" and --smoothness-weight" if run.params.misalign.smoothness else "")
    return [
        f"the training ends near chance: {found.successes} of {found.total} {where} images right, "
        f"where guessing gets 1 in {classes}; train longer, or {cause}"
    ]


def write(run: Run, out: Path, seed: int, result: TrainResult) -> None:
    """The checkpoint; then the state of the unfinished run is no longer needed."""

    spec, images = run.network.spec, run.data
    meta = {
        "task": "classification",
        "architecture": spec.architecture,
        "model_args": spec.model_args,
        "num_classes": spec.num_classes,
        "labels": list(spec.labels or (images.class_names if images else ())),
        "input_size": list(spec.input_size),
        "mean": list(spec.mean),
        "std": list(spec.std),
        "parents": [{"sha256": reference.spec.sha256} for reference in run.references],
        "data": {"ref": images.ref, "split": images.split, "fingerprint": images.fingerprint} if images else None,
        "command": "train",
        "seed": seed,
        "settings": run.settings,
        "metrics": result.model_dump(include={"epochs", "validation_accuracy", "misalignment"}),
    }
    if spec.sha256 and not run.params.epochs:
        meta["parents"] = [{"sha256": spec.sha256}]
    write_checkpoint(out, Checkpoint(run.network.net.state_dict(), meta))
    if run.state_path is not None:
        run.state_path.unlink(missing_ok=True)


def table(result: TrainResult) -> list[str]:
    """Lines for people."""
    lines = [f"{result.checkpoint}: {result.parameters} parameters, trained on {result.train_images} images"]
    if result.epochs:
        head = "epoch    loss  train %  held-out %"
        penalised = result.epochs[-1].absolute_cosine is not None
        lines.append(head + ("     cos    |cos|   ||g||" if penalised else ""))
        for record in result.epochs:
            held = (
                f"{100 * (record.validation_right or 0) / record.validation_images:10.1f}"
                if record.validation_images
                else f"{'-':>10}"
            )
            line = f"{record.epoch:5}  {record.cross_entropy:6.3f}  {100 * record.right / record.images:7.1f}  {held}"
            if penalised:
                line += f"  {record.cosine:+6.3f}   {record.absolute_cosine:6.3f}  {record.gradient_norm:6.3f}"
            lines.append(line)
    if result.validation_accuracy:
        lines.append(f"held-out accuracy {output.percent(result.validation_accuracy)}")
    for found in result.misalignment:
        told = (
            "no direction on any image"
            if found.cosine is None
            else f"cos {found.cosine:+.4f}, |cos| {found.absolute_cosine:.4f} (chance {found.chance:.4f})"
        )
        lines.append(f"gradients against {found.reference}: {told}, {found.images} held-out images")
    return lines
