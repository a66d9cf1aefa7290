"""What ``adapt`` says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from pydantic import Field

from advkit.adaptation.comparison import ComparedNetwork, difference
from advkit.adaptation.params import AdaptationParams
from advkit.files.tensors import fingerprint
from advkit.metrics.paired_tests import Paired
from advkit.reports.average_precision import precision
from advkit.reports.gates import Gate, gates
from advkit.reports.rates import Rate, StrictModel, percent, rate
from advkit.reports.train import flags as training_flags
from advkit.training.run import Run

METRICS = ("epochs", "kept_epoch", "select", "source_accuracy", "source_map50", "comparison")


class AdaptEpoch(StrictModel):
    """One epoch; what a method doesn't have is null. Scores are of the target's images, without their labels."""

    epoch: int
    images: int = Field(description="of the source, trained on")
    right: int | None = Field(description="of them, as they are trained on; null for detectors")
    cross_entropy: float = Field(description="mean loss of the source; of detectors that of classes and positions")
    alignment: float | None = Field(default=None, description="mean of what the method adds to the loss")
    adversarial_right: int | None = None
    adversarial_images: int | None = Field(default=None, description="null without --adversarial")
    forwards_per_image: float = Field(default=1.0, description="forward passes of the source's images")
    backwards_per_image: float = 1.0
    domain_accuracy: float | None = Field(default=None, description="of the domain classifier; 0.5 is chance")
    local_domain_accuracy: float | None = Field(default=None, description="share of places on the right side")
    global_domain_accuracy: float | None = None
    pseudo_labels: int | None = Field(default=None, description="of self-training, of target_images")
    pseudo_boxes: int | None = Field(default=None, description="of the mean teacher, in pseudo_images")
    pseudo_images: int | None = Field(default=None, description="with a box, of target_images")
    target_images: int | None = Field(default=None, description="that pseudo-labels were looked for in")
    validation_right: int | None = Field(default=None, description="of the source's images held out")
    validation_images: int | None = None
    validation_map50: float | None = Field(default=None, description="of detectors")
    validation_map50_95: float | None = None
    im: float = Field(description="information maximisation, in nats")
    snd: float = Field(description="soft neighbourhood density")
    bnm: float = Field(description="nuclear norm of the predictions, divided by the images")
    oracle_right: int | None = Field(
        default=None, description="by the target's labels, where --target-labels opens them"
    )
    oracle_images: int | None = None
    oracle_map50: float | None = None
    oracle_map50_95: float | None = None


class ComparedModel(StrictModel):
    """One network on the images of --compare."""

    name: str = Field(description="source-only (-adversarial where that is trained so too), target-trained, adapted")
    accuracy: Rate = Field(description="of detectors the images with every object found and nothing else")
    map50: float | None = Field(default=None, description="of detectors")
    map50_interval: tuple[float, float] | None = Field(default=None, description="bootstrap over the images, 95 %")
    map50_95: float | None = None
    map50_95_interval: tuple[float, float] | None = None
    objects: int | None = None


class AdaptationGain(StrictModel):
    """The adapted network less another on the same images, image by image; 95 % intervals."""

    less: str
    accuracy: float | None = Field(default=None, description="difference of the rates; null for detectors")
    accuracy_interval: tuple[float, float] | None = Field(default=None, description="Tango's score interval")
    only_adapted: int | None = Field(default=None, description="images that it alone gets right")
    only_other: int | None = None
    p_value: float | None = Field(default=None, description="exact McNemar test")
    map50: float | None = Field(default=None, description="difference of mAP@.5 of detectors")
    map50_interval: tuple[float, float] | None = Field(default=None, description="paired bootstrap over the images")
    map50_95: float | None = None
    map50_95_interval: tuple[float, float] | None = None


class AdaptationComparison(StrictModel):
    """All networks on the images of --compare."""

    images: int
    shared: int = Field(description="images that were adapted to as well")
    models: list[ComparedModel]
    gains: list[AdaptationGain]


class AdaptResult(StrictModel):
    """Result of ``adapt``."""

    checkpoint: str
    sha256: str
    parameters: int
    method: str
    select: str
    source_images: int = Field(description="trained on")
    target_images: int
    epochs: list[AdaptEpoch]
    kept_epoch: int = Field(description="that the weights are of; 0 without training")
    source_accuracy: Rate | None = Field(description="on the source's images held out, of kept_epoch")
    source_map50: float | None = None
    comparison: AdaptationComparison | None
    gates: list[Gate]


class Bounds(Protocol):
    """The bounds that the options ask for."""

    @property
    def fail_above(self) -> float | None: ...
    @property
    def fail_below(self) -> float | None: ...


def collect(
    run: Run,
    settings: AdaptationParams,
    target_images: int,
    out: Path,
    found: Sequence[ComparedNetwork],
    shared: int,
    bounds: Bounds,
) -> AdaptResult:
    """The finished run as a report's result; what is adapted must keep the bounds on the images compared on."""
    epochs = [AdaptEpoch(**record) for record in run.history]
    kept = epochs[run.kept_epoch - 1] if epochs else None
    held = kept.validation_images if kept is not None else None
    comparison = _comparison(found, shared) if found else None
    return AdaptResult(
        checkpoint=str(out),
        sha256=fingerprint(run.network.net.state_dict()),
        parameters=sum(parameter.numel() for parameter in run.network.net.parameters()),
        method=settings.method,
        select=settings.select,
        source_images=len(run.train) if run.params.epochs else 0,
        target_images=target_images,
        epochs=epochs,
        kept_epoch=run.kept_epoch,
        source_accuracy=rate(kept.validation_right or 0, held) if kept is not None and held else None,
        source_map50=kept.validation_map50 if kept is not None else None,
        comparison=comparison,
        gates=gates(*_bounded(comparison), bounds.fail_above, bounds.fail_below),
    )


def _bounded(comparison: AdaptationComparison | None) -> tuple[str, float | None]:
    if comparison is None:
        return "accuracy", None
    adapted = comparison.models[-1]
    if adapted.objects is not None:
        return "mAP@.5 of the adapted detector", adapted.map50
    return "accuracy of the adapted network", adapted.accuracy.rate


def _comparison(found: Sequence[ComparedNetwork], shared: int) -> AdaptationComparison:
    *others, adapted = found
    return AdaptationComparison(
        images=len(adapted.correct),
        shared=shared,
        models=[_model(one) for one in found],
        gains=[_gain(adapted, one) for one in others],
    )


def _model(one: ComparedNetwork) -> ComparedModel:
    named = ("map50", "map50_interval", "map50_95", "map50_95_interval", "objects")
    figures: dict[str, Any] = {name: one.figures[name] for name in named} if one.figures is not None else {}
    return ComparedModel(name=one.name, accuracy=rate(int(one.correct.sum()), len(one.correct)), **figures)


def _gain(adapted: ComparedNetwork, other: ComparedNetwork) -> AdaptationGain:
    found = difference(adapted, other)
    if isinstance(found, Paired):
        return AdaptationGain(
            less=other.name,
            accuracy=found.difference,
            accuracy_interval=found.interval,
            only_adapted=found.only_a,
            only_other=found.only_b,
            p_value=found.p_value,
        )
    return AdaptationGain(
        less=other.name,
        map50=found.map50,
        map50_interval=found.map50_interval,
        map50_95=found.map50_95,
        map50_95_interval=found.map50_95_interval,
    )


def flags(run: Run, result: AdaptResult, settings: AdaptationParams) -> list[str]:
    """Reasons for suspicion: labels used, test images adapted to, no pseudo-label, a training that ends near chance."""
    told = training_flags(run)
    if settings.method == "none":
        told.append("--method none: trained on the source alone, nothing is adapted; choose a method")
    if settings.select == "oracle":
        told.append(
            "--select oracle: THE TARGET'S LABELS CHOSE THE EPOCH; what is kept is no unsupervised adaptation, and on "
            "those images its figures are too good"
        )
    if result.comparison is not None and result.comparison.shared:
        of = result.comparison
        told.append(
            f"{of.shared} of the {of.images} images compared on were adapted to: figures on them say nothing of others"
        )
    last = result.epochs[-1] if result.epochs else None
    if last is not None and last.target_images and not (last.pseudo_labels or last.pseudo_boxes):
        told.append(
            f"no prediction on the target reached --threshold {settings.threshold:g} in the last epoch: nothing was "
            "learnt from it; lower it, or start from a network that is trained on the source"
        )
    return told


def table(result: AdaptResult) -> list[str]:
    """Lines for people."""
    lines = [
        f"{result.checkpoint}: {result.method}, {result.source_images} images of the source, {result.target_images} of "
        "the target",
    ]
    both = any(None not in (record.local_domain_accuracy, record.global_domain_accuracy) for record in result.epochs)
    domain = "local/global domain %" if both else "domain %"
    if result.epochs:
        lines.append(f"epoch    loss    added  {domain}  held-out       im      snd      bnm")
    for record in result.epochs:
        accuracies = [record.domain_accuracy, record.local_domain_accuracy, record.global_domain_accuracy]
        told = "/".join(f"{100 * value:.1f}" for value in accuracies if value is not None) or "-"
        held = "-"
        if record.validation_map50 is not None:
            held = precision(record.validation_map50)
        elif record.validation_images and record.validation_right is not None:
            held = f"{100 * record.validation_right / record.validation_images:.1f} %"
        added = "-" if record.alignment is None else f"{record.alignment:.4f}"
        mark = "  kept" if record.epoch == result.kept_epoch != len(result.epochs) else ""
        lines.append(
            f"{record.epoch:5}  {record.cross_entropy:6.3f}  {added:>7}  {told:>{len(domain)}}  {held:>8}  "
            f"{record.im:7.4f}  {record.snd:7.4f}  {record.bnm:7.4f}{mark}"
        )
    if result.epochs:
        lines.append("im, snd, bnm: of the target's predictions, large where sure and diverse")
    if result.comparison is not None:
        lines += _comparison_lines(result.comparison)
    return lines


def _comparison_lines(found: AdaptationComparison) -> list[str]:
    lines = [f"on {found.images} images of --compare"]
    width = max(len(model.name) for model in found.models)
    for model in found.models:
        figure = percent(model.accuracy)
        if model.objects is not None:
            figure = f"mAP@.5 {precision(model.map50, model.map50_interval)}"
        lines.append(f"  {model.name:{width}}  {figure}")
    for gain in found.gains:
        if gain.accuracy is not None and gain.accuracy_interval is not None:
            low, high = gain.accuracy_interval
            told = f"{100 * gain.accuracy:+.1f} points [{100 * low:+.1f}, {100 * high:+.1f}], p = {gain.p_value:.2g}"
        elif gain.map50 is not None and gain.map50_interval is not None:
            low, high = gain.map50_interval
            told = f"mAP@.5 {gain.map50:+.3f} [{low:+.3f}, {high:+.3f}]"
        else:
            told = "- (no object)"
        lines.append(f"  adapted less {gain.less}: {told}")
    return lines
