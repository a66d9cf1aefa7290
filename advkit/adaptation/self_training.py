"""Self-training on pseudo-labels (Lee 2013), kept where the network is sure of them (Sohn et al. 2020)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from advkit.adaptation.method import AdaptationLoss, ClassifierMethod, ClassifierView
from advkit.adaptation.target_stream import TargetBatch
from advkit.training.adversarial import as_attacked


def pseudo_label_losses(logits: Tensor, guesses: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """(N,) cross-entropies with the likeliest class of each image, 0 where it is not sure; and (N,) bool, where it is.

    Args:
        logits: (N, K), differentiable.
        guesses: (N, K) logits that the pseudo-labels are taken from.
        threshold: least probability of a pseudo-label.
    """
    sure, classes = guesses.detach().float().softmax(1).max(1)
    kept = sure >= threshold
    return F.cross_entropy(logits, classes, reduction="none") * kept, kept


class SelfTraining(ClassifierMethod):
    """The network's own predictions, in evaluation mode and without augmentation, teach it the augmented images.

    The loss is a mean over all target images of the batch: the fewer are sure, the less they weigh.
    """

    measures = ("pseudo_labels", "target_images")

    def adaptation_loss(
        self, source: ClassifierView, target: ClassifierView, batch: TargetBatch, progress: float
    ) -> AdaptationLoss:
        """The loss, times the weight."""
        network = self.context.network
        with torch.no_grad(), as_attacked(network):
            guesses = network(batch.images)
        losses, kept = pseudo_label_losses(target.logits, guesses, self.context.settings.threshold)
        counts = {"pseudo_labels": kept.float(), "target_images": torch.ones_like(losses).detach()}
        return AdaptationLoss(self.context.settings.weight * losses.mean(), counts)

    def record(self, sums: Mapping[str, float]) -> dict[str, Any]:
        """How many images were sure, of how many."""
        return {"pseudo_labels": int(sums["pseudo_labels"]), "target_images": int(sums["target_images"])}
