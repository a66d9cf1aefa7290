"""What alignments of a detector's maps have in common: a map of each image, a domain classifier, reversed gradients."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from advkit.adaptation.domain_classifier import domain_accuracy, domain_counts, make_seeded, reversed_logits
from advkit.adaptation.method import AdaptationLoss, MapMethod, MethodContext
from advkit.data import counter_rng


class MapAlignment(MapMethod):
    """A domain classifier of maps, and its loss.

    Attributes:
        name: of the domain classifier, in :attr:`measures` and in records.
        classifier: from maps (n, C, h, w) to logits, larger for the target.
    """

    name: str

    def __init__(self, context: MethodContext) -> None:
        super().__init__(context)
        seed = counter_rng.stream(f"{self.name.replace('_', ' ')} classifier", context.params.seed)
        self.classifier = make_seeded(self.make, seed, context.network.mean)
        self.trained = self.classifier

    @abstractmethod
    def make(self) -> nn.Module:
        """The domain classifier, with weights of the global generator."""

    @abstractmethod
    def map_of(self, maps: Sequence[Tensor]) -> Tensor:
        """The one of a group's maps, finest first, that it looks at."""

    @abstractmethod
    def loss(self, source: Sequence[Tensor], target: Sequence[Tensor]) -> Tensor:
        """Scalar, of its logits of each group of images."""

    def adaptation_loss(self, source: list[list[Tensor]], target: list[list[Tensor]]) -> AdaptationLoss:
        """The loss of both domains, behind a gradient reversal."""
        maps, count = [self.map_of(group) for group in (*source, *target)], len(source)
        logits = reversed_logits(self.classifier, maps, self.context.settings.weight)
        first, second = logits[:count], logits[count:]
        return AdaptationLoss(self.loss(first, second), domain_counts(first, second, self.name))

    def record(self, sums: Mapping[str, float]) -> dict[str, Any]:
        """The domain classifier's accuracy: the share of images, or of their places, on the right side."""
        return domain_accuracy(sums, self.name)
