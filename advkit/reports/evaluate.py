"""What ``evaluate`` says."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from advkit.data.images import ImageSet
from advkit.metrics.accuracy import AccuracyMetric
from advkit.metrics.detection import DetectionMetric
from advkit.reports.average_precision import AveragePrecisions, average_precisions, precision_lines
from advkit.reports.gates import Gate, gates
from advkit.reports.rates import Rate, StrictModel, percent, rate
from advkit.tasks.task import Metric

_CLASSES_IN_TABLE = 20


class ClassAccuracy(StrictModel):
    """One class."""

    label: str
    accuracy: Rate


class ModelAccuracy(StrictModel):
    """One model on the data."""

    model: str
    top1: Rate | None = Field(description="null for detectors")
    top5: Rate | None = Field(description="null with five classes or fewer, and for detectors")
    classes: list[ClassAccuracy] = Field(description="empty for detectors")
    calibration_error: float | None = Field(description="15 equal bins of confidence")
    not_finite: int
    detection: AveragePrecisions | None = Field(default=None, description="null for classifiers")


class EvaluateResult(StrictModel):
    """Result of ``evaluate``."""

    images: int
    models: list[ModelAccuracy]
    gates: list[Gate]


def collect(
    names: Sequence[str],
    counts: Sequence[Metric],
    images: ImageSet,
    fail_above: float | None,
    fail_below: float | None,
) -> EvaluateResult:
    """Counts of each model as rates; every accuracy, or mAP@.5 of a detector, must keep the bounds."""
    models = [
        _detector(name, count, images) if isinstance(count, DetectionMetric) else _classifier(name, count, images)
        for name, count in zip(names, counts, strict=True)
    ]
    bounds = [gate for model in models for gate in gates(*_bounded(model), fail_above, fail_below)]
    return EvaluateResult(images=len(images), models=models, gates=bounds)


def _bounded(model: ModelAccuracy) -> tuple[str, float | None]:
    """What of ``model`` must keep the bounds, and its value."""
    if model.detection is not None:
        return f"mAP@.5 of {model.model}", model.detection.map50
    return f"accuracy of {model.model}", model.top1.rate if model.top1 is not None else None


def _detector(name: str, count: DetectionMetric, images: ImageSet) -> ModelAccuracy:
    found = average_precisions(count.compute(), images.class_names)
    return ModelAccuracy(
        model=name,
        top1=None,
        top5=None,
        classes=[],
        calibration_error=None,
        not_finite=found.not_finite,
        detection=found,
    )


def _classifier(name: str, count: Metric, images: ImageSet) -> ModelAccuracy:
    assert isinstance(count, AccuracyMetric)
    return ModelAccuracy(
        model=name,
        top1=rate(count.top1, count.total),
        top5=rate(count.top5, count.total) if count.num_classes > 5 else None,
        classes=[
            ClassAccuracy(label=label, accuracy=rate(correct, total))
            for label, correct, total in zip(
                images.class_names, count.class_right.tolist(), count.class_total.tolist(), strict=False
            )
        ],
        calibration_error=count.calibration_error(),
        not_finite=count.not_finite,
    )


def table(result: EvaluateResult, images: ImageSet) -> list[str]:
    """Lines for people."""
    lines = [f"{result.images} images of {images.ref}{f'#{images.split}' if images.split else ''}"]
    for model in result.models:
        lines += ["", model.model]
        if model.detection is not None:
            lines += precision_lines(model.detection, _CLASSES_IN_TABLE)
            continue
        if model.top1 is not None:
            lines.append(f"  accuracy           {percent(model.top1)}")
        if model.top5 is not None:
            lines.append(f"  among the first 5  {percent(model.top5)}")
        if model.calibration_error is not None:
            lines.append(f"  calibration error  {model.calibration_error:.4f}")
        if model.not_finite:
            lines.append(f"  not finite         {model.not_finite} images")
        if len(model.classes) <= _CLASSES_IN_TABLE:
            for found in model.classes:
                lines.append(f"  {found.label[:17]:17}  {percent(found.accuracy)}")
    return lines
