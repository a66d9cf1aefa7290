"""Minimum class confusion (Jin et al. 2020): predictions on the target that are not torn between two classes."""

from __future__ import annotations

import torch
from torch import Tensor

from advkit.adaptation.method import AdaptationLoss, ClassifierMethod, ClassifierView
from advkit.adaptation.target_stream import TargetBatch
from advkit.parallel.process_group import world_size
from advkit.training.distributed import global_sum

TEMPERATURE = 2.5  # of the paper


def confusion_loss(logits: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """Scalar: share of each class's correlation that is with others, averaged over the K classes.

    Args:
        logits: (N, K) of target images, of all ranks together.
        temperature: divides the logits.
    """
    probabilities = (logits / temperature).softmax(1)
    entropy = torch.special.entr(probabilities.detach()).sum(1)
    weights = 1.0 + (-entropy).exp()
    weights = weights * (len(weights) * world_size() / global_sum(weights.sum()))
    correlation = global_sum(probabilities.T @ (weights[:, None] * probabilities))
    sums = correlation.sum(1, keepdim=True)  # 0 where a class's probability underflows in all images
    shares = correlation / sums.clamp_min(torch.finfo(sums.dtype).tiny)
    return (shares.sum() - shares.diagonal().sum()) / logits.shape[1]


class MCC(ClassifierMethod):
    """The confusion of the target's predictions in a batch."""

    def adaptation_loss(
        self, source: ClassifierView, target: ClassifierView, batch: TargetBatch, progress: float
    ) -> AdaptationLoss:
        """The loss, times the weight."""
        return AdaptationLoss(self.context.settings.weight * confusion_loss(target.logits), {})
