"""What adversarial objectives have in common: whom they attack, from where, and what they count.

An attack sees the network as its user will: in evaluation mode, every image by itself, buffers untouched, with
gradients to the images only. Its randomness belongs to (seed, epoch, image): neither batch-mates nor ranks change it.
"""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from advkit.attacks import budget
from advkit.attacks.objective import gradient_by
from advkit.attacks.run import strongest
from advkit.data import counter_rng
from advkit.files.errors import InputError
from advkit.models.modes import modes_kept
from advkit.models.network import Network
from advkit.tasks.task import Task, task_of
from advkit.training.objective import Terms, TrainingObjective, TrainingStep
from advkit.training.params import TrainParams

Losses = Callable[[Tensor], Tensor]  # points (N, C, H, W) to (N,), larger is better for the attacker


@contextlib.contextmanager
def as_attacked(network: nn.Module) -> Iterator[None]:
    """``network`` in evaluation mode and frozen; afterwards every module and parameter is as it was."""
    trained = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
    try:
        with modes_kept(network):
            network.eval().requires_grad_(False)
            yield
    finally:
        for parameter, wanted in trained:
            parameter.requires_grad_(wanted)


def ascend(losses: Losses, start: Tensor, images: Tensor, *, eps: float, step_size: float, steps: int) -> Tensor:
    """Signed steps up ``losses`` inside the Linf ball around ``images`` (Madry et al. 2018).

    Args:
        losses: of points, one for each image.
        start: (N, C, H, W) in the ball.
        images: (N, C, H, W) in [0, 1], its centres.
        eps, step_size: in pixel units.
        steps: their number.
    """
    x = start
    for _ in range(steps):
        x = x.detach().requires_grad_()
        with torch.enable_grad():
            gradient = gradient_by(losses(x), x, [])
        moved = x.detach() - images + step_size * budget.steepest_ascent(gradient, "linf")
        x = (images + budget.project(moved, images, eps, "linf")).clamp(0.0, 1.0)
    return x.detach()


@dataclass(frozen=True)
class AdversarialPoints:
    """Where the training pass of one step is taken.

    Attributes:
        images: (N, C, H, W) in [0, 1], adversarial or clean.
        chosen: (N,) bool, which are adversarial.
    """

    images: Tensor
    chosen: Tensor


def check_objective(task: Task, name: str) -> None:
    """Raise InputError unless ``task`` has an attack loss of this name."""
    known = [*task.attack_losses, *task.strongest_of]
    if name not in known:
        raise InputError(f"--objective {name}: {task.name} has {', '.join(known)}")


class AdversarialObjective(TrainingObjective):
    """Trains on points of an attack on the network as it is now.

    Attributes:
        attack_passes: forward and backward passes of each image that is attacked, apart from training's own.
        training_passes: those of training.
    """

    measures: tuple[str, ...] = ("loss", "correct", "adversarial", "adversarial_correct", "forwards", "backwards")
    attack_passes: tuple[int, int] = (0, 0)
    training_passes: tuple[int, int] = (1, 1)

    def __init__(self, network: Network, references: Sequence[Network], params: TrainParams, recorded: Any) -> None:
        assert params.adversarial is not None
        self.network, self.params, self.settings = network, params, params.adversarial
        self.task = task_of([network])
        self.objective = self.settings.objective or next(iter(self.task.attack_losses))
        check_objective(self.task, self.objective)

    def __call__(self, step: TrainingStep) -> Terms:
        """The terms at :meth:`points`."""
        return self.terms(step, self.points(step))

    def points(self, step: TrainingStep) -> AdversarialPoints:
        """The images of ``step``, those that its epoch chooses moved by :meth:`attack`."""
        chosen = self.chosen(step)
        if not bool(chosen.any()):
            return AdversarialPoints(step.images, chosen)
        with as_attacked(self.network):
            if bool(chosen.all()):
                return AdversarialPoints(self.attack(step), chosen)
            images = step.images.clone()
            images[chosen] = self.attack(step.take(chosen))
        return AdversarialPoints(images, chosen)

    @abstractmethod
    def attack(self, step: TrainingStep) -> Tensor:
        """(N, C, H, W) adversarial images of ``step``; the network is in evaluation mode and frozen."""

    def terms(self, step: TrainingStep, points: AdversarialPoints) -> Terms:
        """The task's losses at ``points``."""
        with self.autocast(step.images):
            losses, correct = self.task.losses(
                self.network, points.images, step.targets, label_smoothing=self.params.label_smoothing
            )
        return Terms({"loss": losses}, self.counts(points, losses, correct, correct))

    def record(self, sums: Mapping[str, float]) -> dict[str, Any]:
        """Correct predictions on adversarial images, where the task counts any, and passes for each image."""
        return {
            "adversarial_right": int(sums["adversarial_correct"]) if self.task.counts_in_training else None,
            "adversarial_images": int(sums["adversarial"]),
            "forwards_per_image": sums["forwards"] / sums["images"],
            "backwards_per_image": sums["backwards"] / sums["images"],
        }

    def chosen(self, step: TrainingStep) -> Tensor:
        """(N,) bool: which images are adversarial in this epoch."""
        stream = counter_rng.stream("adversarial ratio", step.epoch)
        return counter_rng.uniform(self.params.seed, step.indices, stream, 1).squeeze(1) < self.settings.ratio

    def random_start(self, step: TrainingStep) -> Tensor:
        """Images moved by a uniform draw from the ball."""
        seed = counter_rng.stream("adversarial training", self.params.seed, step.epoch)
        moved = budget.random_start(step.images, step.indices, self.settings.eps, "linf", seed, 0)
        return (step.images + moved).clamp(0.0, 1.0)

    def strongest(self, step: TrainingStep, steps: int) -> Tensor:
        """Where ``steps`` steps from a random start lead.

        Where the objective is the strongest of several, each leads somewhere, and image by image the place of the
        largest whole loss counts (as Zhang and Wang 2019 choose what to train on).
        """
        own, start = self.settings, self.random_start(step)
        names = self.task.strongest_of.get(self.objective, (self.objective,))
        made = [
            ascend(
                self.attack_losses(step, name),
                start,
                step.images,
                eps=own.eps,
                step_size=own.step_size,
                steps=steps,
            )
            for name in names
        ]
        if len(made) == 1:
            return made[0]
        whole = self.attack_losses(step, self.task.fallback)
        with torch.no_grad():
            return strongest(made, torch.stack([whole(x) for x in made]))

    def passes(self, steps: int) -> tuple[int, int]:
        """Forward and backward passes of :meth:`strongest` for each image."""
        several = len(self.task.strongest_of.get(self.objective, (self.objective,)))
        return steps * several + (several if several > 1 else 0), steps * several

    def attack_losses(self, step: TrainingStep, name: str) -> Losses:
        """The task's attack loss of this name, away from the truth."""
        loss = self.task.attack_losses[name]

        def losses(x: Tensor) -> Tensor:
            with self.autocast(x):
                return loss(self.task.outputs([self.network], x), step.targets, False)

        return losses

    def counts(
        self, points: AdversarialPoints, losses: Tensor, correct: Tensor, adversarial_correct: Tensor
    ) -> dict[str, Tensor]:
        """:attr:`measures` of one step.

        Args:
            points: of the training pass.
            losses: (N,) that the task calls its own.
            correct: (N,) as 0 and 1, of the pass that ``losses`` are of.
            adversarial_correct: (N,) likewise, at ``points``.
        """
        chosen = points.chosen.to(losses.dtype)
        passes = [own + chosen * attack for own, attack in zip(self.training_passes, self.attack_passes, strict=True)]
        return {
            "loss": losses.detach(),
            "correct": correct,
            "adversarial": chosen,
            "adversarial_correct": chosen * adversarial_correct,
            "forwards": passes[0],
            "backwards": passes[1],
        }

    def autocast(self, images: Tensor) -> torch.autocast:
        """The precision of forward passes."""
        return torch.autocast(images.device.type, torch.bfloat16, enabled=self.params.precision == "bfloat16")
