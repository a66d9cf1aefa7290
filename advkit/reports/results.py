"""What each tool's report says under ``result``."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class StrictModel(BaseModel):
    """Unknown fields are mistakes."""

    model_config = ConfigDict(extra="forbid")


class Rate(StrictModel):
    """A proportion with its counts. ``rate`` and ``interval`` are null when ``total`` is 0."""

    successes: int
    total: int
    rate: float | None
    interval: tuple[float, float] | None = Field(description="Wilson, 95 %")


class Gate(StrictModel):
    """A bound that the run had to keep."""

    option: str
    bound: float
    what: str
    value: float | None
    passed: bool


class Epoch(StrictModel):
    """One epoch of training; cosines are those of the training images, batch-norm held constant."""

    epoch: int
    images: int
    right: int
    cross_entropy: float
    cosine: float | None = None
    absolute_cosine: float | None = None
    gradient_norm: float | None = None
    penalty: float | None = None
    validation_right: int | None = None
    validation_images: int | None = None


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


class Norms(StrictModel):
    """Over the images: sizes of the perturbations reached."""

    linf_mean: float
    linf_max: float
    l2_mean: float
    l2_max: float


class SurrogateResult(StrictModel):
    """One surrogate of an attack, judged in float32 as loaded."""

    model: str
    clean_accuracy: Rate
    adversarial_accuracy: Rate
    success: Rate = Field(description="fooled among the images that this surrogate gets right")
    success_8bit: Rate | None = Field(description="the same after rounding to 8 bits; null where eps allows no level")


class AttackResult(StrictModel):
    """Result of ``attack``."""

    output: str
    output_form: Literal["safetensors-float32", "safetensors-uint8", "png"]
    images: int
    excluded: int = Field(description="images whose class is the target")
    surrogates: list[SurrogateResult]
    ensemble_success: Rate = Field(description="averaged logits fooled, among the images they get right")
    norms: Norms
    forwards_per_image: float
    backwards_per_image: float
    zero_gradients: int = Field(description="images whose loss had a zero gradient at some step; margin took over")
    dead_gradients: int = Field(description="images for which no loss had a gradient at some step")
    attack_seconds: float


class Pair(StrictModel):
    """One surrogate and one victim under one method (or the union of all)."""

    surrogate: str
    victim: str
    method: str
    white_box: bool = Field(description="the victim is the network (or one of those) that the images were made on")
    cond: Rate = Field(description="both right on clean, surrogate fooled: victim fooled")
    both: Rate = Field(description="both right on clean: victim fooled")
    raw: Rate = Field(description="all images: victim wrong, or at the target")
    same: Rate = Field(description="as cond: victim fooled into the surrogate's class")
    flipped: Rate | None = Field(description="over the images of cond: the sign-flipped perturbation fools the victim")
    noise: Rate | None = Field(description="as flipped, noise of the same norm, one draw for each method")


class SurrogateSuccess(StrictModel):
    """How well an attack did on the network it was made on."""

    surrogate: str
    method: str
    norm: str
    eps: float
    goal: str = Field(description="robustness: stopped on fooled images, which understates transfer")
    success: Rate
    zero_gradients: int
    dead_gradients: int
    forwards_per_image: float
    backwards_per_image: float


class Accuracy(StrictModel):
    """Clean accuracy of one model."""

    model: str
    accuracy: Rate


class GradientMatrix(StrictModel):
    """Mean cosines between the models' input gradients on the clean images."""

    models: list[str]
    cosine: list[list[float | None]] = Field(description="null when no image counts")
    absolute_cosine: list[list[float | None]]
    chance: float = Field(description="mean absolute cosine of random directions of this dimension")
    images: list[list[int]] = Field(description="images where both gradients have a direction")


class Comparison(StrictModel):
    """Two victims of one surrogate on the common set."""

    surrogate: str
    a: str
    b: str
    method: str
    total: int = Field(description="surrogate, a and b right on clean, surrogate fooled")
    both: int
    only_a: int
    only_b: int
    neither: int
    difference: float | None = Field(description="rate of a minus rate of b")
    interval: tuple[float, float] | None = Field(description="score interval of the difference (Tango 1998), 95 %")
    p_value: float = Field(description="exact McNemar test, two-sided, over images: of these two checkpoints")
    p_value_holm: float | None = Field(
        default=None, description="p_value adjusted over all comparisons of the report (Holm 1979)"
    )


class TransferMatrixResult(StrictModel):
    """Result of ``transfer-matrix``."""

    images: int
    models: list[str]
    surrogates: list[str]
    methods: list[str]
    clean: list[Accuracy]
    surrogate_success: list[SurrogateSuccess]
    pairs: list[Pair]
    gradients: GradientMatrix | None
    comparisons: list[Comparison]
    gates: list[Gate]
    attack_seconds: float
    figure: str | None


class ClassAccuracy(StrictModel):
    """One class."""

    label: str
    accuracy: Rate


class ModelAccuracy(StrictModel):
    """One model on the data."""

    model: str
    top1: Rate
    top5: Rate | None = Field(description="null with five classes or fewer")
    classes: list[ClassAccuracy]
    calibration_error: float | None = Field(description="15 equal bins of confidence")
    not_finite: int


class EvaluateResult(StrictModel):
    """Result of ``evaluate``."""

    images: int
    models: list[ModelAccuracy]
    gates: list[Gate]


class Agreement(StrictModel):
    """How alike two models' maps of one image are."""

    a: str
    b: str
    cosine: float | None
    rank_correlation: float | None


class AttendedImage(StrictModel):
    """One image of the figure."""

    index: int
    label: int
    predictions: dict[str, int]
    agreement: dict[str, list[Agreement]] = Field(description="by kind of map")


class VisualizeResult(StrictModel):
    """Result of ``visualize attention``."""

    figure: str
    maps: list[str]
    images: list[AttendedImage]
    mean_agreement: dict[str, list[Agreement]]
