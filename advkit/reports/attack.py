"""What ``attack`` says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from torch import nn

from advkit.attacks.dataset import ROBUST
from advkit.attacks.larger_eps import MOST, Unbounded, applies, attack_unbounded
from advkit.attacks.params import AttackParams
from advkit.attacks.verdicts import NORMS, BatchVerdict
from advkit.data.images import ImageSet
from advkit.metrics.norms import Norm
from advkit.models.network import Network
from advkit.reports.average_precision import AveragePrecisions, average_precisions, precision
from advkit.reports.gates import Gate
from advkit.reports.norms_reached import Norms, norm_lines, norms_reached
from advkit.reports.rates import Rate, StrictModel, budget, percent, rate
from advkit.tasks.task import Metric, Task

_COUNTS = ("right", "still", "fooled", "fooled_8bit", "noise")  # of each surrogate
_CURVE = 32  # steps of the curve of robust accuracy
_USELESS = 0.05  # clean mAP@.5
SURPRISING = 0.002  # of the images: what an attack without gradients may fool beyond those with them


class SurrogateResult(StrictModel):
    """One surrogate of an attack, judged in float32 as loaded."""

    model: str
    clean_accuracy: Rate
    adversarial_accuracy: Rate
    success: Rate = Field(description="fooled among the images that this surrogate gets right")
    success_8bit: Rate | None = Field(description="the same after rounding to 8 bits; null where eps allows no level")
    noise_success: Rate | None = Field(
        default=None, description="the same under noise of eps, or of each image's own norm without an eps"
    )
    clean_detection: AveragePrecisions | None = Field(default=None, description="null for classifiers")
    adversarial_detection: AveragePrecisions | None = Field(default=None, description="null for classifiers")


class AttackStage(StrictModel):
    """One of the attacks that an attack is made of."""

    attack: str
    fooled: int = Field(description="of the images that were right and that the attacks before it had left")


class LargerEps(StrictModel):
    """Some of the images that resisted, attacked again without a bound."""

    eps: float = Field(description="within which the grey image lies for every image")
    fooled: int
    total: int


class RobustAccuracy(StrictModel):
    """One point of the curve."""

    eps: float
    accuracy: Rate = Field(description="right before, and not fooled by what the attack found within eps")


class AttackResult(StrictModel):
    """Result of ``attack``."""

    output: str
    output_form: Literal["safetensors-float32", "safetensors-uint8", "png"]
    images: int
    excluded: int = Field(description="images whose class is the target")
    surrogates: list[SurrogateResult]
    ensemble_success: Rate = Field(description="averaged logits fooled, among the images they get right")
    stages: list[AttackStage] = Field(default=[], description="of autoattack, in their order; empty for others")
    norms: Norms
    larger_eps: LargerEps | None = Field(
        default=None,
        description="null where all are fooled or eps is that large; for transfer, targeted attacks, those of minimal "
        "norm, admix, methods without a loss, and detectors",
    )
    robust_accuracy: list[RobustAccuracy] = Field(
        default=[],
        description="over eps, of the surrogates together; of untargeted attacks of minimal norm without --eps",
    )
    forwards_per_image: float
    backwards_per_image: float
    zero_gradients: int = Field(description="images whose loss had a zero gradient at some step; margin took over")
    dead_gradients: int = Field(description="images for which no loss had a gradient at some step")
    suspicions: list[str] = Field(
        default=[], description="of the flags those that speak against the attack or the model"
    )
    gates: list[Gate] = Field(default=[])
    attack_seconds: float = Field(description="spent in the attack, summed over processes")


def step_flags(params: AttackParams) -> list[str]:
    """A step that leaves the budget at once: pixels jump from corner to corner, and such attacks transfer badly."""
    if params.step_size is None or params.step_size <= params.eps:
        return []
    times = f"{params.step_size / params.eps:.3g} times eps" if params.eps else "above eps"
    return [f"--step-size {params.step_size:.4g} is {times}: every step ends in a corner of the budget"]


def tells_curve(params: AttackParams) -> bool:
    """Whether norms found are the least that fool: robust accuracy over eps follows from them."""
    return params.method.attack.minimal_norm and params.eps == float("inf") and not params.targeted


class AttackSummary:
    """Counts over the batches of one attack."""

    def __init__(self, names: list[str], params: AttackParams, task: Task, flags: Sequence[str] = ()) -> None:
        """Of the surrogates ``names``, against which ``flags`` speak beforehand."""
        self._names, self._params, self._task, self._flags = names, params, task, flags
        self.images = self._forwards = self._backwards = self._zero = self._dead = 0
        self._seconds = 0.0
        self._sums = dict.fromkeys(NORMS, 0.0)
        self._most = dict.fromkeys(NORMS, 0.0)
        self._counts = [dict.fromkeys(_COUNTS, 0) for _ in names]
        self._ensemble = [0, 0]
        self._stages: dict[str, int] = {}
        self._not_finite = 0
        self._fooled: dict[Norm, list[float]] = {norm: [] for norm in NORMS}  # of the images that are fooled
        self._metrics: dict[tuple[str, str], Metric] = {}
        self._levels = True  # whether 8 bits can hold the budget
        self._resisting: list[int] = []  # places in the data of a few images
        self._unbounded: Unbounded | None = None

    def add(self, verdict: BatchVerdict) -> None:
        """Count one batch, which comes after those before it."""
        robust = (verdict.columns["outcome"] == ROBUST).nonzero().squeeze(1) + self.images
        self._resisting += robust[: MOST - len(self._resisting)].tolist()
        self.images += len(verdict)
        self._forwards += verdict.forwards
        self._backwards += verdict.backwards
        self._zero += verdict.zero_gradients
        self._dead += verdict.dead_gradients
        self._seconds += verdict.seconds
        self._not_finite += verdict.not_finite
        self._levels &= verdict.levels
        for stage, fooled in verdict.stages.items():
            self._stages[stage] = self._stages.get(stage, 0) + fooled
        self._ensemble[0] += int(verdict.fooled.sum())
        self._ensemble[1] += verdict.right
        for norm, sizes in verdict.sizes.items():
            self._fooled[norm] += sizes[verdict.fooled].tolist()
            self._sums[norm] += float(sizes.double().sum())
            self._most[norm] = max(self._most[norm], float(sizes.max()))
        for name, counts, found in zip(self._names, self._counts, verdict.surrogates, strict=True):
            for what in _COUNTS:
                counts[what] += getattr(found, what)
            for kind, metric in (("clean", found.clean), ("adversarial", found.adversarial)):
                if metric is not None and (name, kind) in self._metrics:
                    self._metrics[name, kind].merge(metric)
                elif metric is not None:
                    self._metrics[name, kind] = metric

    def attack_unbounded(
        self,
        networks: list[Network],
        gradient_models: Sequence[nn.Module],
        data: ImageSet,
        device: str,
        batch_size: int,
    ) -> None:
        """Attack a few images of ``data`` that resisted, without a bound: robust accuracy has to fall with eps."""
        if self._resisting and applies(self._params, networks, data.size):
            places = torch.tensor(self._resisting)
            images, targets = (one.to(device) for one in data.batch(places))
            indices = data.indices[places].to(device)
            self._unbounded = attack_unbounded(
                networks, gradient_models, images, targets, indices, self._params, batch_size
            )

    def _curve(self) -> list[RobustAccuracy]:
        """Robust accuracy over eps, from the norms that were needed."""
        if not tells_curve(self._params):
            return []
        needed, right = torch.tensor(self._fooled[self._params.norm]), self._ensemble[1]
        ranks = [len(needed) * k // _CURVE for k in range(1, _CURVE + 1)]  # as many images between any two
        radii = [0.0, *(float(needed.sort().values[rank - 1]) for rank in ranks if rank)]
        return [
            RobustAccuracy(eps=eps, accuracy=rate(right - int((needed <= eps).sum()), self.images)) for eps in radii
        ]

    def suspicions(self, classes: int) -> list[str]:
        """Reasons not to trust the attack, or the model, which has ``classes``."""
        found = [*step_flags(self._params), *self._flags]
        if self._not_finite:
            found.append(f"{self._not_finite} of the images written hold values that are no numbers")
        if self._zero:
            attack = self._params.method.attack
            which = "" if attack.chooses_targets else f" of the {self._params.loss or attack.loss} loss"
            found.append(f"zero gradients{which} on {self._zero} images: margin loss used there")
        if self._dead:
            found.append(f"no gradient of any loss on {self._dead} images: masked gradients, or a dead network")
        over = self._most[self._params.norm]
        if over > self._params.eps * (1.0 + 1e-4) + 1e-6:
            found.append(f"budget exceeded: {self._params.norm} {over:.6g} is written, eps is {self._params.eps:.6g}")
        for name, counts in zip(self._names, self._counts, strict=True):
            found += self._doubts(name, counts, classes)
        fooled, right = self._ensemble
        wide = self._unbounded
        if wide is not None and 2 * wide.fooled < wide.total:
            found.append(
                f"accuracy does not fall with eps: {wide.total - wide.fooled} of {wide.total} images that resist "
                f"still do at {wide.eps:.4g}, where a grey image is in reach: masked gradients, or a failing attack"
            )
        if self._params.eps == float("inf") and fooled < right:
            found.append(f"nothing found on {right - fooled} of {right} images at any distance: more steps are needed")
        if "fab-t" in self._stages and "apgd-t" not in self._stages:
            found.append(f"apgd-t is left out, whose loss needs 4 classes, not {classes}: not the standard AutoAttack")
        square = self._stages.get("square", 0)
        if square > max(1.0, SURPRISING * self.images):
            found.append(
                f"square, without gradients, fools {square} of {self.images} images that the others did not: gradients "
                "may be masked"
            )
        return found

    def _doubts(self, name: str, counts: dict[str, int], classes: int) -> list[str]:
        """Of one surrogate: a clean accuracy near chance, and noise that fools as often as the attack."""
        found = []
        task, right = self._task, counts["right"]  # detectors are seldom right on a whole image
        halfway = (1.0 / max(1, classes) + 1.0) / 2.0  # of few images even all right are no proof
        chance = not task.figures and task.near_chance(right, self.images, classes)
        if chance and right < halfway * self.images:
            found.append(
                f"{name}: right on {counts['right']} of {self.images} clean images, not clearly better than chance: "
                "other normalisation, classes or weights?"
            )
        if 0 < counts["noise"] >= counts["fooled"] and self._params.method.attack.loss:
            found.append(
                f"{name}: noise of the same norm fools {counts['noise']} of {counts['right']} images, the attack "
                f"{counts['fooled']}: no attack is needed, or this one does not work"
            )
        return found

    def _precisions(self, name: str, kind: str, class_names: Sequence[str]) -> AveragePrecisions | None:
        metric = self._metrics.get((name, kind))
        return None if metric is None else average_precisions(metric.compute(), class_names)

    def result(
        self, out: Path, quantize: bool, excluded: int, class_names: Sequence[str], *, fail_on_flag: bool = False
    ) -> AttackResult:
        """The whole run; with ``fail_on_flag`` a gate that any suspicion fails."""
        surrogates = [
            SurrogateResult(
                model=name,
                clean_accuracy=rate(counts["right"], self.images),
                adversarial_accuracy=rate(counts["still"], self.images),
                success=rate(counts["fooled"], counts["right"]),
                success_8bit=rate(counts["fooled_8bit"], counts["right"]) if self._levels else None,
                noise_success=rate(counts["noise"], counts["right"]),
                clean_detection=self._precisions(name, "clean", class_names),
                adversarial_detection=self._precisions(name, "adversarial", class_names),
            )
            for name, counts in zip(self._names, self._counts, strict=True)
        ]
        suspicions = self.suspicions(len(class_names))
        suspicions += [doubt for one in surrogates for doubt in _useless_detector(one)]
        many = float(len(suspicions))
        bound = Gate(option="--fail-on-flag", bound=0, what="number of suspicions", value=many, passed=not suspicions)
        form: Literal["safetensors-float32", "safetensors-uint8", "png"]
        form = "png" if out.suffix != ".safetensors" else "safetensors-uint8" if quantize else "safetensors-float32"
        return AttackResult(
            output=str(out),
            output_form=form,
            images=self.images,
            excluded=excluded,
            surrogates=surrogates,
            ensemble_success=rate(*self._ensemble),
            stages=[AttackStage(attack=name, fooled=fooled) for name, fooled in self._stages.items()],
            norms=norms_reached(self._sums, self._most, self._fooled, self.images),
            larger_eps=None if self._unbounded is None else LargerEps(**vars(self._unbounded)),
            robust_accuracy=self._curve(),
            forwards_per_image=self._forwards / self.images,
            backwards_per_image=self._backwards / self.images,
            zero_gradients=self._zero,
            dead_gradients=self._dead,
            suspicions=suspicions,
            gates=[bound] if fail_on_flag else [],
            attack_seconds=round(self._seconds, 3),
        )


def _useless_detector(found: SurrogateResult) -> list[str]:
    """A detector that finds next to nothing in the clean images: there is nothing to attack."""
    clean = found.clean_detection
    if clean is None or clean.map50 is None or clean.map50 >= _USELESS:
        return []
    return [f"{found.model}: mAP@.5 {clean.map50:.4f} on the clean images: other normalisation, classes or weights?"]


def table(result: AttackResult, params: AttackParams) -> list[str]:
    """Lines for people."""
    lines = [f"{params.method.name}, {budget(params.norm, params.eps)}, {result.images} images -> {result.output}"]
    for found in result.surrogates:
        lines.append(found.model)
        for kind, one in (("clean", found.clean_detection), ("adversarial", found.adversarial_detection)):
            if one is not None:
                lines.append(f"  {f'{kind} mAP@.5':20}  {precision(one.map50, one.map50_interval)}")
        counted = "accuracy" if found.clean_detection is None else "right"  # images with all their objects
        lines.append(f"  {f'clean {counted}':20}  {percent(found.clean_accuracy)}")
        lines.append(f"  {f'adversarial {counted}':20}  {percent(found.adversarial_accuracy)}")
        lines.append(f"  success               {percent(found.success)}")
        if found.success_8bit is not None:
            lines.append(f"  success in 8 bits     {percent(found.success_8bit)}")
        if found.noise_success is not None:
            lines.append(f"  success of noise      {percent(found.noise_success)}")
    lines += [f"  {f'by {stage.attack}':20}  {stage.fooled}" for stage in result.stages]
    if len(result.surrogates) > 1:
        lines.append(f"ensemble success        {percent(result.ensemble_success)}")
    lines += norm_lines(result.norms, params.norm)
    if result.robust_accuracy:
        few = result.robust_accuracy[:: len(result.robust_accuracy) // 4 or 1]
        told = ", ".join(f"{100 * (one.accuracy.rate or 0.0):.1f} % at {one.eps:.4g}" for one in few)
        lines.append(f"robust accuracy       {told}")
    passes = f"{result.forwards_per_image:.1f} forward, {result.backwards_per_image:.1f} backward"
    lines.append(f"passes an image       {passes}")
    return lines
