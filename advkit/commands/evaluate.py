"""``advkit evaluate``: accuracy, on clean and on adversarial sets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from advkit.commands import options, output
from advkit.commands.loading import model_warnings, names_of, open_all, pick_device

if TYPE_CHECKING:
    from advkit.data.images import ImageSet
    from advkit.metrics.accuracy import AccuracyMetric
    from advkit.models.network import Network
    from advkit.reports.results import EvaluateResult, ModelAccuracy


def evaluate(
    models: Annotated[list[str], typer.Argument(metavar="[NAME=]MODEL...", help="Classifiers.")],
    data: options.DataOption,
    fail_above: options.FailAbove = None,
    fail_below: options.FailBelow = None,
    limit: options.Limit = None,
    seed: options.Seed = 0,
    batch_size: options.BatchSize = 128,
    size: options.Size = None,
    device: options.Device = "auto",
    download: options.Download = False,
    report: options.ReportFile = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> int:
    """Accuracy of every MODEL on DATA; what attack wrote is DATA too."""
    clock = output.Clock()
    options.check_outputs(dict(locals()), "report")
    for name, bound in (("fail-above", fail_above), ("fail-below", fail_below)):
        options.check_range(name, bound, 0.0, 1.0)
    names = names_of(models)
    device = pick_device(device)
    networks, images = open_all(models, data, limit=limit, seed=seed, size=size, download=download, device=device)
    line = output.Progress(quiet)
    counts, suspicions = _measure(names, networks, images, batch_size, device, line)
    result = _result(names, counts, images, fail_above, fail_below)
    return output.finish(
        "evaluate",
        result,
        table=lambda: _table(result, images),
        clock=clock,
        seed=seed,
        device=device,
        params={"limit": limit},
        inputs=[
            *[output.model_input(network, name) for network, name in zip(networks, names, strict=True)],
            output.data_input(images),
        ],
        flags=model_warnings(names, models, networks, images) + suspicions,
        report_file=report,
        as_json=as_json,
        quiet=quiet,
        passed=result.gates,
    )


def _measure(
    names: list[str], networks: list[Network], images: ImageSet, batch_size: int, device: str, line: output.Progress
) -> tuple[list[AccuracyMetric], list[str]]:
    from advkit.attacks.sanity_checks import sanity_checks
    from advkit.metrics.accuracy import AccuracyMetric
    from advkit.models.prediction import predict_logits

    counts = [AccuracyMetric(network.spec.num_classes) for network in networks]
    suspicions: list[str] = []
    for start in range(0, len(images), batch_size):
        pixels, labels = images.batch(slice(start, start + batch_size))
        pixels = pixels.to(device)
        for name, network, count in zip(names, networks, counts, strict=True):
            count.update(predict_logits([network], pixels).cpu(), labels)
            if start == 0:
                suspicions += [f"{name}: {flag}" for flag in sanity_checks(network, pixels[:32])]
        line.step("evaluate", min(start + batch_size, len(images)), len(images))
    line.clear()
    return counts, suspicions


def _result(
    names: list[str], counts: list[AccuracyMetric], images: ImageSet, fail_above: float | None, fail_below: float | None
) -> EvaluateResult:
    from advkit.reports.results import EvaluateResult

    found = [_model(name, count, images) for name, count in zip(names, counts, strict=True)]
    bounds = [
        gate
        for model in found
        for gate in output.gates(f"accuracy of {model.model}", model.top1.rate, fail_above, fail_below)
    ]
    return EvaluateResult(images=len(images), models=found, gates=bounds)


def _model(name: str, count: AccuracyMetric, images: ImageSet) -> ModelAccuracy:
    from advkit.reports.results import ClassAccuracy, ModelAccuracy

    return ModelAccuracy(
        model=name,
        top1=output.rate(count.top1, count.total),
        top5=output.rate(count.top5, count.total) if count.num_classes > 5 else None,
        classes=[
            ClassAccuracy(label=label, accuracy=output.rate(correct, total))
            for label, correct, total in zip(
                images.class_names, count.class_right.tolist(), count.class_total.tolist(), strict=False
            )
        ],
        calibration_error=count.calibration_error(),
        not_finite=count.not_finite,
    )


def _table(result: EvaluateResult, images: ImageSet) -> list[str]:
    lines = [f"{result.images} images of {images.ref}{f'#{images.split}' if images.split else ''}"]
    for model in result.models:
        lines += ["", model.model, f"  accuracy           {output.percent(model.top1)}"]
        if model.top5 is not None:
            lines.append(f"  among the first 5  {output.percent(model.top5)}")
        if model.calibration_error is not None:
            lines.append(f"  calibration error  {model.calibration_error:.4f}")
        if model.not_finite:
            lines.append(f"  not finite         {model.not_finite} images")
        if len(model.classes) <= 20:
            for found in model.classes:
                lines.append(f"  {found.label[:17]:17}  {output.percent(found.accuracy)}")
    return lines
