"""CDAN (Long et al. 2018): a domain classifier that sees features together with what is predicted from them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from advkit.adaptation.classifier_features import head_of
from advkit.adaptation.domain_classifier import (
    cross_entropy_loss,
    domain_accuracy,
    domain_counts,
    make_seeded,
    perceptron,
    reversed_gradient,
    rising,
)
from advkit.adaptation.method import Addition, ClassifierMethod, ClassifierView, MethodContext
from advkit.adaptation.target_stream import TargetBatch
from advkit.data import counter_rng

LARGEST = 4096  # numbers in the outer product; beyond, it is approximated (Long et al. 2018)
_RANDOM = 1024  # numbers of the approximation


def outer_product(features: Tensor, probabilities: Tensor) -> Tensor:
    """(N, K D): of each image every feature times every probability, class by class."""
    return (probabilities.unsqueeze(2) * features.unsqueeze(1)).flatten(1)


class MultilinearMap(nn.Module):
    """(N, D) features and (N, K) probabilities as one vector: their outer product, or a random projection of it.

    The projection is the product of a random projection of each, divided by the root of its width, whose inner products
    have those of the outer products as their mean.
    """

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.exact = features * classes <= LARGEST
        self.width = features * classes if self.exact else _RANDOM
        if not self.exact:
            self.register_buffer("of_features", torch.randn(features, _RANDOM))
            self.register_buffer("of_classes", torch.randn(classes, _RANDOM))

    def forward(self, features: Tensor, probabilities: Tensor) -> Tensor:
        if self.exact:
            return outer_product(features, probabilities)
        projected: Tensor = (features @ self.of_features) * (probabilities @ self.of_classes)  # type: ignore[operator]
        return projected / math.sqrt(_RANDOM)


class _Conditional(nn.Module):
    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.joined = MultilinearMap(features, classes)
        self.classifier = perceptron(self.joined.width)


class CDAN(ClassifierMethod):
    """As DANN, on the outer product; no gradient flows through the probabilities, as in the authors' code."""

    measures = ("domain_right", "domain_images")
    needs_features = True

    def __init__(self, context: MethodContext) -> None:
        super().__init__(context)
        head = head_of(context.network)
        seed = counter_rng.stream("domain classifier", context.params.seed)
        made = make_seeded(lambda: _Conditional(head.in_features, head.out_features), seed, context.network.mean)
        assert isinstance(made, _Conditional)
        self.joined, self.classifier, self.trained = made.joined, made.classifier, made

    def addition(self, source: ClassifierView, target: ClassifierView, batch: TargetBatch, progress: float) -> Addition:
        """The domain classifier's cross-entropy."""
        factor = self.context.settings.weight * rising(progress)
        logits = [
            self.classifier(self.joined(reversed_gradient(view.taken(), factor), view.logits.detach().softmax(1)))
            for view in (source, target)
        ]
        return Addition(cross_entropy_loss(logits[0], logits[1]), domain_counts(logits[:1], logits[1:]))

    def record(self, sums: Mapping[str, float]) -> dict[str, Any]:
        """The domain classifier's accuracy."""
        return domain_accuracy(sums)
