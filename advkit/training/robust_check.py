"""PGD on held-out images after each epoch: the accuracy that an adversarial training is for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from advkit.attacks.methods import parse_method
from advkit.attacks.params import AttackParams
from advkit.attacks.run import attack
from advkit.data import counter_rng
from advkit.data.images import ImageSet
from advkit.models.network import Network
from advkit.parallel import process_group
from advkit.tasks.prediction import predict
from advkit.tasks.task import task_of
from advkit.training.adversarial import as_attacked
from advkit.training.evaluation import images_at_once
from advkit.training.overfitting import find_alarm

OnOverfit = Literal["rollback", "stop", "ignore"]


@dataclass(frozen=True)
class RobustCheck:
    """What is measured after each epoch, and what follows from it.

    Attributes:
        positions: of the held-out images.
        eps: Linf radius in pixel units.
        steps: of PGD from a random start, of 2.5 eps / steps each.
        seed: of the run.
        on_overfit: what an alarm does to the training.
    """

    positions: Tensor
    eps: float
    steps: int
    seed: int
    on_overfit: OnOverfit = "ignore"

    def to_json(self) -> dict[str, Any]:
        """The settings as JSON values."""
        told = {"eps": self.eps, "steps": self.steps, "images": len(self.positions)}
        return told | {"seed": self.seed, "on_overfit": self.on_overfit}

    def measure(self, network: Network, data: ImageSet) -> dict[str, Any]:
        """Counts of images looked at, right, and right both clean and under attack; the task's figures under attack.

        Every rank takes its share; all look at all where the task has figures, which are no sums over images.
        """
        task = task_of([network])
        metric = task.metric(network.spec.num_classes) if task.figures else None
        device = next(network.parameters()).device
        seed = counter_rng.stream("robust check", self.seed)
        params = AttackParams(parse_method("pgd"), eps=self.eps, steps=self.steps, goal="robustness", seed=seed)
        counts = torch.zeros(2, dtype=torch.int64)
        rank, world = (0, 1) if metric is not None else (process_group.rank(), process_group.world_size())
        share, step = self.positions[rank::world], images_at_once(data.size)
        with as_attacked(network):
            for start in range(0, len(share), step):
                part = share[start : start + step]
                images, targets = data.batch(part)
                images, indices = images.to(device).contiguous(memory_format=torch.channels_last), data.indices[part]
                moved = attack([network], images, targets.to(device), indices.to(device), params).images
                clean = task.correct(predict([network], images).cpu(), targets)
                predictions = predict([network], moved).cpu()
                robust = clean & task.correct(predictions, targets)
                counts += torch.stack([clean.sum(), robust.sum()])
                if metric is not None:
                    metric.update(predictions, targets)
        right = counts if metric is not None else process_group.sum_over_ranks(counts)
        found = {"check_images": len(self.positions), "check_right": int(right[0]), "robust_right": int(right[1])}
        values = metric.compute() if metric is not None else {}
        return found | {f"robust_{name}": values[name] for name in task.figures}

    def ends(self, history: Sequence[Mapping[str, Any]]) -> bool:
        """Whether the training stops after the last epoch of ``history``."""
        return self.on_overfit != "ignore" and find_alarm(history) is not None
