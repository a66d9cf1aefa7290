"""The settings of a training run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from advkit.training.misalign import MisalignParams
from advkit.training.schedule import Schedule


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
        schedule: see :func:`advkit.training.schedule.factor`.
        label_smoothing: in [0, 1).
        ema: decay for each step of an average of the weights that is evaluated and saved in their place; 0 for none.
        augment: subset of :data:`advkit.training.augment.KINDS`.
        precision: ``bfloat16`` autocasts the forward passes; weights, losses and cosines are float32.
        clip: largest norm of the whole gradient; larger ones are scaled down to it. 0 for no bound.
        seed: of order, augmentation and dropout.
        misalign: settings of the penalty, None without one.
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
    seed: int = 0
    misalign: MisalignParams | None = None

    def to_json(self) -> dict[str, Any]:
        """The settings as JSON values."""
        values = asdict(self) | {"augment": sorted(self.augment)}
        if self.misalign is not None:
            values["misalign"]["at"] = list(self.misalign.at)
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> TrainParams:
        """What :meth:`to_json` gave, further keys ignored.

        Raises:
            TypeError, ValueError, KeyError: values that are no settings.
        """
        own = {field.name: values[field.name] for field in fields(cls)}
        misalign = own["misalign"]
        if misalign is not None:
            own["misalign"] = MisalignParams(**{**misalign, "at": tuple(misalign["at"])})
        return cls(**own | {"augment": frozenset(own["augment"])})
