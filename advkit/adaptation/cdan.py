"""CDAN (Long et al. 2018): a domain classifier that sees features together with what is predicted from them."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from advkit.adaptation.dann import DANN
from advkit.adaptation.domain_classifier import perceptron
from advkit.adaptation.method import ClassifierView

MAX_EXACT = 4096  # numbers in the outer product; beyond, it is approximated (Long et al. 2018)
_RANDOM_WIDTH = 1024  # numbers of the approximation


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
        self.exact = features * classes <= MAX_EXACT
        self.width = features * classes if self.exact else _RANDOM_WIDTH
        if not self.exact:
            self.register_buffer("of_features", torch.randn(features, _RANDOM_WIDTH))
            self.register_buffer("of_classes", torch.randn(classes, _RANDOM_WIDTH))

    def forward(self, features: Tensor, probabilities: Tensor) -> Tensor:
        if self.exact:
            return outer_product(features, probabilities)
        projected: Tensor = (features @ self.of_features) * (probabilities @ self.of_classes)  # type: ignore[operator]
        return projected / math.sqrt(_RANDOM_WIDTH)


class ConditionalClassifier(nn.Module):
    """A domain classifier of features and what is predicted from them."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.multilinear = MultilinearMap(features, classes)
        self.classifier = perceptron(self.multilinear.width)

    def forward(self, features: Tensor, probabilities: Tensor) -> Tensor:
        """(N, 1) logits of (N, D) and (N, K)."""
        found: Tensor = self.classifier(self.multilinear(features, probabilities))
        return found


class CDAN(DANN):
    """As DANN, on the outer product; no gradient flows through the probabilities, as in the authors' code."""

    def make(self, features: int, classes: int) -> nn.Module:
        """The domain classifier of both."""
        return ConditionalClassifier(features, classes)

    def logits(self, features: Tensor, view: ClassifierView) -> Tensor:
        """(N, 1) of the features and the probabilities."""
        assert self.trained is not None
        found: Tensor = self.trained(features, view.logits.detach().softmax(1))
        return found
