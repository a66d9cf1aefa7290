"""The settings of a training run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from advkit.training.schedule import Schedule

PENALTIES = ("abs", "square", "signed")
PENALTY_POINTS = ("clean", "noise", "adversarial")


@dataclass(frozen=True)
class MisalignParams:
    """Settings of the penalty.

    Attributes:
        weight: factor of the mean penalty.
        penalty: ``abs`` |c| and ``square`` c^2 have their optimum at orthogonal gradients; ``signed`` c (as one
            reference makes of GAL, Kariyappa and Qureshi 2019) at anti-parallel ones.
        at: points at which gradients are compared: the image, a uniform draw from the eps-ball, the reference's own
            PGD point. Several weigh the same, whatever the number of references.
        eps: Linf radius of ``noise`` and ``adversarial``, in pixel units.
        steps: PGD steps of ``adversarial``.
        smoothness: factor of 2 mean ||g||^2 (TRS, Yang et al. 2021).
        warm_up: epochs over which both factors rise from 0.
    """

    weight: float = 1.0
    penalty: Literal["abs", "square", "signed"] = "abs"
    at: tuple[str, ...] = ("clean",)
    eps: float = 8 / 255
    steps: int = 2
    smoothness: float = 0.0
    warm_up: float = 1.0


@dataclass(frozen=True)
class AdversarialParams:
    """Settings of adversarial training; perturbations are bounded in Linf.

    Attributes:
        method: a name in :data:`advkit.training.objective.OBJECTIVES`.
        eps: radius in pixel units; at 0 the objective is the plain one, whatever else stands here.
        steps: of the attack, where the method has any number of them.
        step_size: in pixel units.
        ratio: probability, in (0, 1], that an image is adversarial in an epoch.
        replays: consecutive steps on one batch, where the method replays.
        beta: factor of the divergence from the clean prediction, where the method has one.
        awp: size of the weight perturbation, relative to the norm of each weight; 0 for none.
        objective: what the attack makes larger, a loss of the task; None for its first.
    """

    method: str = "pgd"
    eps: float = 8 / 255
    steps: int = 10
    step_size: float = 2 / 255
    ratio: float = 1.0
    replays: int = 4
    beta: float = 6.0
    awp: float = 0.0
    objective: str | None = None


@dataclass(frozen=True)
class TrainParams:
    """Everything that decides a run besides network and data.

    Attributes:
        epochs: passes over the training part.
        batch_size: images in a step, over all ranks; the rest that fills no batch is left out of that epoch.
        optimizer: ``sgd`` (Nesterov) or ``adamw``.
        lr: peak learning rate.
        weight_decay: applied to weights with two or more axes only.
        momentum: of SGD.
        schedule: see :func:`advkit.training.schedule.lr_factor`.
        label_smoothing: in [0, 1).
        ema: decay for each step of an average of the weights that is evaluated and saved in their place; 0 for none.
        augment: subset of the task's :attr:`~advkit.tasks.task.Task.augmentations`.
        precision: ``bfloat16`` autocasts the forward passes; weights, losses and cosines are float32.
        clip: largest norm of the whole gradient; larger ones are scaled down to it. 0 for no bound.
        precise_bn: training images over which batch-norm's statistics are estimated anew before each measurement and at
            the end, in whole batches (see :func:`advkit.training.batch_statistics.precise_batch_norm`); 0 leaves the
            running averages.
        freeze_bn: batch-norms normalise by the statistics that they start with, which stay.
        seed: of order, augmentation and dropout.
        misalign: settings of the penalty, None without one.
        adversarial: settings of adversarial training, None without.
    """

    epochs: int = 10
    batch_size: int = 128
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.1
    weight_decay: float = 5e-4
    momentum: float = 0.9
    schedule: Schedule = "one-cycle"
    label_smoothing: float = 0.0
    ema: float = 0.0
    augment: frozenset[str] = frozenset()
    precision: Literal["float32", "bfloat16"] = "float32"
    clip: float = 1.0
    precise_bn: int = 0
    freeze_bn: bool = False
    seed: int = 0
    misalign: MisalignParams | None = None
    adversarial: AdversarialParams | None = None

    @property
    def objective(self) -> str:
        """A name in :data:`advkit.training.objective.OBJECTIVES`."""
        if self.adversarial is not None and self.adversarial.eps > 0.0:
            return "awp" if self.adversarial.awp else self.adversarial.method
        return "plain" if self.misalign is None else "misaligned"

    def to_json(self) -> dict[str, Any]:
        """The settings as JSON values; those of adversarial training are left out where there is none."""
        values = asdict(self) | {"augment": sorted(self.augment)}
        if self.adversarial is None:
            del values["adversarial"]
        if self.misalign is not None:
            values["misalign"]["at"] = list(self.misalign.at)
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> TrainParams:
        """What :meth:`to_json` gave, further keys ignored; files of before there were some settings lack them.

        Raises:
            TypeError, ValueError, KeyError: values that are no settings.
        """
        values = {"precise_bn": 0, "freeze_bn": False, "adversarial": None, **values}
        own = {field.name: values[field.name] for field in fields(cls)}
        misalign = own["misalign"]
        if misalign is not None:
            own["misalign"] = MisalignParams(**{**misalign, "at": tuple(misalign["at"])})
        if own["adversarial"] is not None:
            own["adversarial"] = AdversarialParams(**own["adversarial"])
        return cls(**own | {"augment": frozenset(own["augment"])})
