"""Deep CORAL (Sun and Saenko 2016): features of both domains with the same covariance."""

from __future__ import annotations

from torch import Tensor

from advkit.adaptation.method import AdaptationLoss, ClassifierMethod, ClassifierView
from advkit.adaptation.target_stream import TargetBatch
from advkit.parallel.process_group import world_size
from advkit.training.distributed import global_sum


def covariance(features: Tensor) -> Tensor:
    """(D, D) unbiased, of the (N, D) ``features`` of all ranks, at least two."""
    count = len(features) * world_size()
    centred = features - global_sum(features.sum(0)) / count
    return global_sum(centred.T @ centred) / max(count - 1, 1)


def coral_loss(source: Tensor, target: Tensor) -> Tensor:
    """Scalar: squared Frobenius distance of the covariances of (N, D) and (M, D), divided by 4 D^2."""
    return (covariance(source) - covariance(target)).square().sum() / (4.0 * source.shape[1] ** 2)


class CORAL(ClassifierMethod):
    """The distance of the covariances of the features of a batch; the paper takes those of the logits.

    The default weight of 1,000 is the power of ten at which, from scenes/photo/crops to scenes/clipart/crops, this loss
    ends in the order of the source's cross-entropy, which is the paper's rule. The pair is README's, whose test images
    had been seen at the other weights: the gain that README shows there is that of a tuned weight.
    """

    needs_features = True

    def adaptation_loss(
        self, source: ClassifierView, target: ClassifierView, batch: TargetBatch, progress: float
    ) -> AdaptationLoss:
        """The loss, times the weight."""
        return AdaptationLoss(
            self.context.settings.weight * coral_loss(source.require_features(), target.require_features()), {}
        )
