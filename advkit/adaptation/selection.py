"""Which epoch is kept: the last, or the best by a score; without the target's labels but for ``oracle``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from advkit.adaptation.scores import mutual_information, neighbourhood_density, nuclear_norm
from advkit.data import counter_rng, sampling
from advkit.data.images import ImageSet
from advkit.models.network import Network
from advkit.tasks.prediction import outputs_of
from advkit.tasks.task import task_of
from advkit.training.evaluation import accuracy_and_figures, images_at_once

MAX_SCORED = 2000  # target images at most, drawn by the seed: neighbourhoods take time that grows with their square
SCORES = ("im", "snd", "bnm")


@dataclass(frozen=True)
class TargetSelection:
    """Scores after each epoch, and the epoch that they choose.

    Attributes:
        rule: of :data:`advkit.adaptation.params.RULES`.
        target: the images adapted to, without labels.
        labelled: the same images with labels, whose accuracy is recorded; None unless the user gives labels away.
        seed: of the sample that is scored.
    """

    rule: str
    target: ImageSet
    labelled: ImageSet | None
    seed: int

    def measure(self, network: Network) -> dict[str, Any]:
        """``im``, ``snd`` and ``bnm`` on the target; with labels ``oracle_right`` of ``oracle_images``, and figures."""
        found = probabilities(network, self.target, self._positions())
        exclusive = task_of([network]).exclusive
        record: dict[str, Any] = {
            "im": mutual_information(found, exclusive),
            "snd": neighbourhood_density(found),
            "bnm": nuclear_norm(found),
        }
        if self.labelled is not None:
            right, images, figures = accuracy_and_figures(network, self.labelled, torch.arange(len(self.labelled)))
            record |= {"oracle_right": right, "oracle_images": images}
            record |= {f"oracle_{name}": value for name, value in figures.items()}
        return record

    def best_epoch(self, history: Sequence[Mapping[str, Any]]) -> int | None:
        """The first epoch with the best score; None for ``last``."""
        if self.rule == "last" or not history:
            return None
        best = max(history, key=lambda record: (score(record, self.rule), -record["epoch"]))
        return int(best["epoch"])

    def _positions(self) -> Tensor:
        one_stratum = torch.zeros(len(self.target), dtype=torch.int64)
        return sampling.stratified(one_stratum, MAX_SCORED, counter_rng.stream("scored target images", self.seed))


def score(record: Mapping[str, Any], rule: str) -> float:
    """What ``rule`` says of an epoch: the larger the better."""
    if rule in SCORES:
        return float(record[rule])
    kind = {"source-val": "validation", "oracle": "oracle"}[rule]
    precision = record.get(f"{kind}_map50")
    if precision is not None:  # a detector's, of which hardly an image is wholly right
        return float(precision)
    return float(record[f"{kind}_right"]) / float(record[f"{kind}_images"])


def probabilities(network: Network, images: ImageSet, positions: Tensor) -> Tensor:
    """(N, K) on the CPU: what ``network``, in evaluation mode, says of the images at ``positions``, on each rank."""
    task, device, step = task_of([network.eval()]), next(network.parameters()).device, images_at_once(images.size)
    parts = []
    for start in range(0, len(positions), step):
        pixels, _ = images.batch(positions[start : start + step])
        with torch.inference_mode():  # a detector of two stages runs its second one only now
            parts.append(task.class_probabilities(outputs_of([network], pixels.to(device))).float().cpu())
    return torch.cat(parts).clone()
