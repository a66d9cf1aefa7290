"""DANN (Ganin and Lempitsky 2015): features from which a domain classifier can't tell where they are from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from advkit.adaptation.classifier_features import head_of
from advkit.adaptation.domain_classifier import (
    cross_entropy_loss,
    domain_accuracy,
    domain_counts,
    make_seeded,
    perceptron,
    reversal_factor,
    reversed_gradient,
)
from advkit.adaptation.method import AdaptationLoss, ClassifierMethod, ClassifierView, MethodContext
from advkit.adaptation.target_stream import TargetBatch
from advkit.data import counter_rng


class DANN(ClassifierMethod):
    """A domain classifier on the features, behind a gradient reversal whose factor rises over the training."""

    measures = ("domain_right", "domain_images")
    needs_features = True

    def __init__(self, context: MethodContext) -> None:
        super().__init__(context)
        head = head_of(context.network)
        seed = counter_rng.stream("domain classifier", context.params.seed)
        self.trained = make_seeded(lambda: self.make(head.in_features, head.out_features), seed, context.network.mean)

    def make(self, features: int, classes: int) -> nn.Module:
        """The domain classifier, with weights of the global generator."""
        return perceptron(features)

    def logits(self, features: Tensor, view: ClassifierView) -> Tensor:
        """(N, 1) of the features (N, D) of a domain's images, their gradient reversed."""
        assert self.trained is not None
        found: Tensor = self.trained(features)
        return found

    def adaptation_loss(
        self, source: ClassifierView, target: ClassifierView, batch: TargetBatch, progress: float
    ) -> AdaptationLoss:
        """The domain classifier's cross-entropy."""
        factor = self.context.settings.weight * reversal_factor(progress)
        logits = [self.logits(reversed_gradient(view.require_features(), factor), view) for view in (source, target)]
        return AdaptationLoss(cross_entropy_loss(logits[0], logits[1]), domain_counts(logits[:1], logits[1:]))

    def record(self, sums: Mapping[str, float]) -> dict[str, Any]:
        """The domain classifier's accuracy."""
        return domain_accuracy(sums)
