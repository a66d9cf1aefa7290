"""Everything that decides an attack besides networks and images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from advkit.attacks.methods import Method
from advkit.metrics.norms import Norm


@dataclass(frozen=True)
class AttackParams:
    """The settings of one attack. What belongs to one method alone is a parameter of that method.

    Attributes:
        method: what to do, with its own parameters.
        eps: radius in pixel units of [0, 1]; infinite for no bound, which methods of minimal norm can do with.
        norm: ``linf``, ``l2`` or ``l1``.
        steps: gradient steps in each restart; 1 for ``fgsm`` whatever stands here.
        step_size: in pixel units, as eps; None takes eps (fgsm), 2.5 eps/steps (pgd) or eps/steps (the others).
        loss: a name in the task's ``attack_losses``; None takes the method's own.
        targeted: move towards the given classes instead of away from them.
        random_start: None leaves it to the method: only pgd starts at random.
        restarts: independent runs; the strongest result of each image is kept.
        goal: ``robustness`` stops working on an image once it is fooled; ``transfer`` never does, unless the method
            looks for the worst case whatever is asked for.
        seed: of all randomness.
        precision: ``bfloat16`` runs the network under autocast; judging is always float32.
        quantize: results lie on the 256 levels of 8-bit files, and fool only if they do so there.
    """

    method: Method
    eps: float = 8 / 255
    norm: Norm = "linf"
    steps: int = 10
    step_size: float | None = None
    loss: str | None = None
    targeted: bool = False
    random_start: bool | None = None
    restarts: int = 1
    goal: Literal["robustness", "transfer"] = "transfer"
    seed: int = 0
    precision: Literal["float32", "bfloat16"] = "float32"
    quantize: bool = False

    def __post_init__(self) -> None:
        if self.method.attack.worst_case:
            object.__setattr__(self, "goal", "robustness")

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

    def to_json(self) -> dict[str, Any]:
        """The settings as JSON values; no bound is null, and what the method does not use is left out."""
        values: dict[str, Any] = {
            "method": self.method.name,
            "parameters": self.method.parameters,
            "eps": self.eps if self.eps < float("inf") else None,
            "norm": self.norm,
            "targeted": self.targeted,
            "goal": self.goal,
            "seed": self.seed,
            "precision": self.precision,
            "quantize": self.quantize,
        }
        uses = self.method.attack.uses
        if "steps" in uses:
            values |= {"steps": self.step_count, "step_size": self.step, "random_start": self.starts_random}
        if "loss" in uses:
            values["loss"] = self.loss or self.method.attack.loss
        if "restarts" in uses:
            values["restarts"] = self.restarts
        return values
