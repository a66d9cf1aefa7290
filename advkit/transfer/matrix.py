"""Every surrogate attacked once, every victim looking once: predictions for a whole transfer matrix."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from advkit.attacks import budget, judge
from advkit.attacks.alignment import cosine_sums
from advkit.attacks.over import attack_batch, reached
from advkit.attacks.params import AttackParams
from advkit.data.images import ImageSet
from advkit.files.adversarial import AdversarialSet
from advkit.transfer.rates import Surrogate, Victim


@dataclass
class Attempt:
    """One surrogate under one method, or a ready-made set.

    Attributes:
        surrogate, method: names.
        positions: (N,) positions in the data of the images that were attacked.
        classes: (N,) true classes, or targets.
        targeted: which of the two.
        victims, flipped: (M, N) predictions of all models for the images, and for the sign-flipped perturbation.
        own: (N,) predictions of the surrogate for its own images.
        own_right: (N,) bool, the surrogate is right on the clean images.
        noise: (M, N) predictions of all models for noise of the attack's norm.
        forwards, backwards, zero, dead: cost, and images with zero gradients.
    """

    surrogate: str
    method: str
    positions: np.ndarray
    classes: np.ndarray
    targeted: bool
    victims: np.ndarray
    flipped: np.ndarray
    own: np.ndarray
    own_right: np.ndarray
    noise: np.ndarray
    forwards: int = 0
    backwards: int = 0
    zero: int = 0
    dead: int = 0

    def as_surrogate(self) -> Surrogate:
        """The surrogate's side of :func:`advkit.transfer.rates.count`."""
        return Surrogate(self.own_right, self.own, self._reached(self.own))

    def as_victim(self, model: int, clean: np.ndarray, labels: np.ndarray) -> Victim:
        """The side of victim ``model``; ``clean`` (M, images) and ``labels`` are those of the whole data."""
        right = clean[model][self.positions] == labels[self.positions]
        return Victim(right, self.victims[model], self._reached(self.victims[model]))

    def control(self, model: int, predictions: np.ndarray) -> np.ndarray:
        """(N,) bool: ``predictions`` (M, N) of a control fool victim ``model``."""
        return self._reached(predictions[model])

    def _reached(self, predictions: np.ndarray) -> np.ndarray:
        return reached(torch.from_numpy(predictions), torch.from_numpy(self.classes), self.targeted).numpy()


@dataclass
class Matrix:
    """All predictions.

    Attributes:
        labels: (images,) true classes.
        clean: (M, images) predictions for clean images.
        attempts: surrogates times methods, then ready-made sets.
        cosine, absolute: (M, M) mean input-gradient cosines; None when not asked for.
        seconds: spent in attacks.
    """

    labels: np.ndarray
    clean: np.ndarray
    attempts: list[Attempt]
    cosine: Tensor | None
    absolute: Tensor | None
    seconds: float


@dataclass
class Plan:
    """What to measure.

    Attributes:
        names: of the models.
        networks, optimised: as loaded, and folded for gradients.
        surrogates: positions of the models that are attacked.
        params: one attack for each method, of one norm and eps.
        target: see :func:`advkit.attacks.targets.targets`.
        gradients: whether to measure cosines.
        batch_size, device: how to work; no effect on results.
    """

    names: list[str]
    networks: Sequence[nn.Module]
    optimised: Sequence[nn.Module]
    surrogates: list[int]
    params: list[AttackParams]
    target: str | int | None
    gradients: bool
    batch_size: int
    device: str


@dataclass
class _Rows:
    """Predictions of one attempt, batch by batch."""

    victims: list[Tensor] = field(default_factory=list)
    flipped: list[Tensor] = field(default_factory=list)
    classes: list[Tensor] = field(default_factory=list)
    costs: list[int] = field(default_factory=lambda: [0, 0, 0, 0])


def measure(plan: Plan, data: ImageSet, show: Callable[[int], None]) -> Matrix:
    """Attack and look, batch by batch; memory holds one batch and the predictions.

    Args:
        plan: what to measure.
        data: clean images.
        show: told the number of images that are done.
    """
    attempts = [(surrogate, params) for surrogate in plan.surrogates for params in plan.params]
    rows = [_Rows() for _ in attempts]
    clean: list[Tensor] = []
    noise: list[Tensor] = []
    sums = torch.zeros(2, len(plan.networks), len(plan.networks), dtype=torch.float64)
    seconds = 0.0
    first = plan.params[0]
    for start in range(0, len(data), plan.batch_size):
        part = slice(start, start + plan.batch_size)
        images, labels = (value.to(plan.device) for value in data.batch(part))
        indices = data.indices[part].to(plan.device)
        clean.append(look(plan.networks, images))
        noise.append(look(plan.networks, budget.noise(images, indices, first.eps, first.norm, first.seed)))
        if plan.gradients:
            sums += torch.stack(cosine_sums(plan.optimised, images, labels))
        for (surrogate, params), row in zip(attempts, rows, strict=True):
            one, folded = [plan.networks[surrogate]], [plan.optimised[surrogate]]
            done = attack_batch(one, folded, data, part, params, plan.target, plan.device)
            adversarial = done.adversarial.to(plan.device)
            row.victims.append(look(plan.networks, adversarial))
            row.flipped.append(look(plan.networks, budget.flipped(adversarial, images)))
            row.classes.append(done.classes)
            seconds += done.seconds
            found = done.batch
            costs = (found.forwards, found.backwards, int(found.zero_gradients.sum()), int(found.dead.sum()))
            row.costs = [a + b for a, b in zip(row.costs, costs, strict=True)]
        show(min(start + plan.batch_size, len(data)))
    truth, unharmed = data.labels.numpy(), torch.cat(clean, 1).numpy()
    return Matrix(
        labels=truth,
        clean=unharmed,
        attempts=[
            _attempt(plan, surrogate, params, row, truth, unharmed, torch.cat(noise, 1).numpy())
            for (surrogate, params), row in zip(attempts, rows, strict=True)
        ],
        cosine=sums[0] / len(data) if plan.gradients else None,
        absolute=sums[1] / len(data) if plan.gradients else None,
        seconds=seconds,
    )


def look(networks: Sequence[nn.Module], images: Tensor) -> Tensor:
    """(M, N) predictions of every network, on the CPU."""
    return torch.stack([judge.predictions([network], images) for network in networks]).cpu()


def _attempt(
    plan: Plan,
    surrogate: int,
    params: AttackParams,
    row: _Rows,
    labels: np.ndarray,
    clean: np.ndarray,
    noise: np.ndarray,
) -> Attempt:
    victims = torch.cat(row.victims, 1).numpy()
    return Attempt(
        plan.names[surrogate],
        params.method.name,
        np.arange(len(labels)),
        torch.cat(row.classes).numpy(),
        params.targeted,
        victims,
        torch.cat(row.flipped, 1).numpy(),
        victims[surrogate],
        clean[surrogate] == labels,
        noise,
        *row.costs,
    )


def ready_made(
    plan: Plan,
    data: ImageSet,
    found: AdversarialSet,
    name: str,
    positions: Tensor,
    check: Callable[[Tensor, Tensor], None],
) -> Attempt:
    """Let every victim look at a ready-made adversarial set.

    Args:
        plan: models, batch size, device.
        data: clean images.
        found: the set; what its surrogates said of it stands in the file.
        name: of the row.
        positions: (N,) where in ``data`` the clean image of each adversarial one is.
        check: called with each batch of adversarial and clean images; raises when they don't belong together.
    """
    attack = found.meta.get("attack", {})
    eps, norm, seed = float(attack.get("eps", 0.0)), attack.get("norm", "linf"), int(attack.get("seed", 0))
    victims, flipped, noise = [], [], []
    for start in range(0, len(positions), plan.batch_size):
        rows = torch.arange(start, min(start + plan.batch_size, len(positions)))
        adversarial = found.images(rows).to(plan.device)
        clean = data.batch(positions[rows])[0].to(plan.device)
        check(adversarial, clean)
        victims.append(look(plan.networks, adversarial))
        flipped.append(look(plan.networks, budget.flipped(adversarial, clean)))
        indices = found.index[rows].to(plan.device)
        noise.append(look(plan.networks, budget.noise(clean, indices, eps, norm, seed)))
    return Attempt(
        name,
        str(attack.get("method", "ready-made")),
        positions.numpy(),
        found.target.numpy(),
        bool(attack.get("targeted", False)),
        torch.cat(victims, 1).numpy(),
        torch.cat(flipped, 1).numpy(),
        found.prediction.numpy(),
        found.outcome.numpy() != 0,
        torch.cat(noise, 1).numpy(),
    )
