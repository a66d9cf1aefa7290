"""Everything that decides an attack besides networks and images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from advkit.attacks.methods import Method
from advkit.metrics.norms import Norm


@dataclass(frozen=True)
class AttackParams:
    """The settings of one attack.

    Attributes:
        method: modifiers, or a control.
        eps: radius in pixel units of [0, 1].
        norm: ``linf`` or ``l2``.
        steps: gradient steps in each restart; 1 for ``fgsm`` whatever stands here.
        step_size: in the units of eps; None takes eps (fgsm), 2.5 eps/steps (pgd) or eps/steps (the others).
        loss: a name in ``LOSSES``.
        targeted: move towards the given classes instead of away from them.
        random_start: None leaves it to the method: only pgd starts at random.
        restarts: independent runs; the strongest result of each image is kept.
        goal: ``robustness`` stops working on an image once it is fooled; ``transfer`` never does.
        seed: of all randomness.
        decay: of the momentum of mi and ni.
        di_probability, di_shrink: see :func:`advkit.attacks.transforms.input_diversity`.
        ti_kernel: odd width in pixels; None takes :func:`advkit.attacks.transforms.default_kernel`.
        si_scales: number of scaled copies of si.
        precision: ``bfloat16`` runs the network under autocast; judging is always float32.
    """

    method: Method
    eps: float = 8 / 255
    norm: Norm = "linf"
    steps: int = 10
    step_size: float | None = None
    loss: str = "ce"
    targeted: bool = False
    random_start: bool | None = None
    restarts: int = 1
    goal: Literal["robustness", "transfer"] = "transfer"
    seed: int = 0
    decay: float = 1.0
    di_probability: float = 0.5
    di_shrink: float = 0.9
    ti_kernel: int | None = None
    si_scales: int = 5
    precision: Literal["float32", "bfloat16"] = "float32"

    @property
    def step_count(self) -> int:
        """Steps that are really taken."""
        return 1 if "fgsm" in self.method else self.steps

    @property
    def step(self) -> float:
        """Step size that is really used."""
        if self.step_size is not None:
            return self.step_size
        if "fgsm" in self.method:
            return self.eps
        return (2.5 if "pgd" in self.method else 1.0) * self.eps / self.steps

    @property
    def starts_random(self) -> bool:
        """Whether restarts begin at a random point; all but the first always do."""
        return "pgd" in self.method if self.random_start is None else self.random_start
